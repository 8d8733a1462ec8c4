"""An account as its devices see it: who is of it, who was, and what those can read."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt.keys import DeviceKey
from shoal.node.account import ACCOUNT, Account, Invitation, check_device_name
from shoal.node.errors import UserError
from shoal.node.store import MemoryStore, StoreFull


@dataclass
class Device:
    """A device, and its account as it sees it."""

    key: DeviceKey
    store: MemoryStore = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        self.account = self.restarted()

    def restarted(self) -> Account:
        return Account(self.store, self.key, "device", lambda: 1000, random.Random(self.key.seed).randbytes)


def device(number: int) -> Device:
    return Device(DeviceKey(bytes([number]) * 32))


def pair(one: Device, *others: Device) -> None:
    for number, other in enumerate(others):
        other.account.join(one.account.invitation_for(other.key.id, f"other {number}"))
    meet(one, *others)


def meet(*devices: Device) -> None:
    """Have each tell the others what it knows of the account, as in a hello, until nothing is news."""
    while any(
        other.account.merge(one.account.invitation().roster, one.account.invitation().catalog)
        for one in devices
        for other in devices
        if one is not other
    ):
        pass


def secrets(of: Device) -> set[bytes]:
    """Return the folder secrets that a device knows of."""
    return {secret for entry in of.account.folders().values() for _, secret in entry.secrets}


@pytest.fixture
def three() -> tuple[Device, Device, Device]:
    devices = device(1), device(2), device(3)
    pair(*devices)
    return devices


def test_devices_of_an_account_see_the_same(three: tuple[Device, Device, Device]) -> None:
    one, other, third = three
    one.account.add_folder("Photos")
    meet(*three)
    assert one.account.devices() == other.account.devices() == third.account.devices()
    assert third.account.folder_named("Photos") == one.account.folder_named("Photos")


def test_a_device_is_renamed_everywhere_and_after_a_restart(three: tuple[Device, Device, Device]) -> None:
    one, other, _ = three
    one.account.rename(other.key.id, " laptop ")
    meet(*three)
    assert other.account.name == "laptop"
    assert one.restarted().devices()[other.key.id] == "laptop"


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb", "\x1b[2J"])
def test_a_name_that_no_device_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be"):
        check_device_name(name)


def test_a_revoked_device_is_refused_and_learns_no_new_secret(three: tuple[Device, Device, Device]) -> None:
    one, other, third = three
    one.account.add_folder("Photos")
    meet(*three)
    before = secrets(one)
    one.account.revoke(third.key.id)
    meet(one, other)
    one.account.add_folder("Letters")
    meet(one, other)
    assert not other.account.is_member(third.key.id)
    assert other.account.is_known(third.key.id)
    assert secrets(other) == secrets(one) > before
    known = one.account.invitation()
    third.account.merge(known.roster, known.catalog)  # a thief gets hold of all that is sent
    assert third.account.is_revoked
    assert secrets(third) <= before
    assert third.account.folder_named("Letters") is None


def test_each_folder_has_a_new_epoch_then_and_what_is_old_can_be_read(three: tuple[Device, Device, Device]) -> None:
    one, other, third = three
    entry = one.account.add_folder("Photos")
    meet(*three)
    one.account.revoke(third.key.id)
    meet(one, other)
    now = other.account.folders()[entry.id]
    assert now.keys().epoch > entry.keys().epoch
    assert now.keys().log_of(0) == entry.keys().log
    assert now.keys().content == entry.keys().content


def test_a_folder_that_a_revoked_device_made_stays(three: tuple[Device, Device, Device]) -> None:
    one, other, third = three
    third.account.add_folder("Photos")
    meet(*three)
    one.account.revoke(third.key.id)
    meet(one, other)
    assert other.account.folder_named("Photos") is not None


def test_a_folder_that_whoever_revoked_its_maker_did_not_know_is_said_again(
    three: tuple[Device, Device, Device],
) -> None:
    one, other, third = three
    third.account.add_folder("Photos")
    meet(other, third)
    one.account.revoke(third.key.id)
    meet(one, other)
    assert other.account.folder_named("Photos") is None
    assert other.account.tend()
    meet(one, other)
    assert one.account.folder_named("Photos") is not None
    assert not one.account.tend()


def test_who_is_paired_after_a_revocation_can_read_everything_that_members_can(
    three: tuple[Device, Device, Device],
) -> None:
    one, other, third = three
    one.account.add_folder("Photos")
    one.account.revoke(third.key.id)
    fourth = device(4)
    pair(one, fourth)
    one.account.add_folder("Letters")
    meet(one, other, fourth)
    assert secrets(fourth) == secrets(one) == secrets(other)
    one.account.revoke(fourth.key.id)
    meet(one, other)
    known = other.account.invitation()
    old = secrets(fourth)
    fourth.account.merge(known.roster, known.catalog)
    assert secrets(fourth) <= old < secrets(other)


def test_who_was_paired_while_another_was_revoked_is_given_the_new_secrets(
    three: tuple[Device, Device, Device],
) -> None:
    one, other, third = three
    one.account.add_folder("Photos")
    meet(*three)
    fourth = device(4)
    other.account.invitation_for(fourth.key.id, "fourth")
    fourth.account.join(other.account.invitation())
    one.account.revoke(third.key.id)
    meet(one, other, fourth)
    assert other.account.tend()
    meet(one, other, fourth)
    one.account.add_folder("Letters")
    meet(one, other, fourth)
    assert fourth.account.folder_named("Letters") is not None
    assert secrets(fourth) == secrets(one)


def test_a_revoked_device_cannot_be_paired_again_or_change_anything(three: tuple[Device, Device, Device]) -> None:
    one, _, third = three
    one.account.revoke(third.key.id)
    with pytest.raises(UserError, match="cannot come back"):
        one.account.invitation_for(third.key.id, "third")
    third.account.merge(one.account.revocation_of(third.key.id), [])
    acts: list[Callable[[], object]] = [
        lambda: third.account.add_folder("Photos"),
        lambda: third.account.revoke(one.key.id),
        lambda: third.account.rename(one.key.id, "mine"),
        lambda: third.account.invitation_for(b"x" * 32, "x"),  # type: ignore[arg-type]
    ]
    for act in acts:
        with pytest.raises(UserError, match="removed from its account"):
            act()


def test_what_tells_a_device_that_it_was_revoked_tells_it_nothing_newer(three: tuple[Device, Device, Device]) -> None:
    one, _, third = three
    one.account.revoke(third.key.id)
    pair(one, device(4))
    third.account.merge(one.account.revocation_of(third.key.id), [])
    assert third.account.is_revoked
    assert len(third.account.records()) == 3
    assert third.account.peers() == []


def test_an_account_of_before_is_read(three: tuple[Device, Device, Device]) -> None:
    one = three[0]
    account, kept, roster, catalog = cbor2.loads(one.account.invitation().encode())
    one.store.write([("meta", ACCOUNT, cbor2.dumps([account, kept[account], roster, catalog]))], sync=True)
    assert one.restarted().devices() == one.account.devices()


@pytest.mark.parametrize("data", [b"", b"\x80", cbor2.dumps([b"a" * 32, {}, [], []]), cbor2.dumps([1, 2, 3, 4])])
def test_a_malformed_invitation_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        Invitation.decode(data)


def test_on_a_full_disk_nobody_is_revoked(
    three: tuple[Device, Device, Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _, third = three

    def full(*arguments: object, **options: object) -> None:
        raise StoreFull("full")

    with monkeypatch.context() as patch:
        patch.setattr(one.store, "write", full)
        with pytest.raises(StoreFull):
            one.account.revoke(third.key.id)
    assert one.account.is_member(third.key.id)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_whoever_is_revoked_when_the_members_come_to_share_secrets_that_no_other_knows(seed: int) -> None:
    rng = random.Random(seed)
    devices = [device(number) for number in range(1, 6)]
    pair(devices[0], *devices[1 : rng.randint(2, 5)])
    paired = [each for each in devices if each.account.id == devices[0].account.id]
    for step in range(rng.randint(1, 12)):
        actor = rng.choice(paired)
        try:
            match rng.randrange(4):
                case 0:
                    actor.account.add_folder(f"folder {step}")
                case 1:
                    actor.account.revoke(rng.choice(paired[1:]).key.id)
                case 2:
                    meet(*rng.sample(paired, 2))
                case _:
                    actor.account.tend()
        except UserError:
            continue
    for _ in range(4):
        meet(*paired)
        for each in paired:
            each.account.tend()
    left = [each for each in paired if not each.account.is_revoked]
    gone = [each for each in paired if each.account.is_revoked]
    if not left:
        return
    left[0].account.add_folder("after all")
    meet(*paired)
    assert all(secrets(each) == secrets(left[0]) for each in left)
    assert all(each.account.devices() == left[0].account.devices() for each in left)
    newest = {entry.keys().log for entry in left[0].account.folders().values()}
    for each in gone:
        known = [
            secret for entry in each.account._catalog._held.values() for secret in entry.entry.keys()._logs.values()
        ]
        assert not newest & set(known)
