from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing
from streams import stream_ends

from shoal.bootstrap.pairing import Offers, PairingFailed, join
from shoal.bootstrap.pairing_codes import SECONDS, Code
from shoal.crdt.model import DeviceId

OLD, NEW = DeviceId(b"o" * 32), DeviceId(b"n" * 32)


class Offering:
    """A device that offers codes: its clock, whom it invited, and what its person was told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.invited: list[tuple[DeviceId, str]] = []
        self.told: list[tuple[str, bool]] = []
        self.offers = Offers(
            OLD, lambda: self.now, self._invite, lambda _, text, joined: self.told.append((text, joined))
        )

    def _invite(self, device: DeviceId, name: str) -> bytes:
        self.invited.append((device, name))
        return b"the account's secret"

    async def join(self, code: Code, device: DeviceId = NEW, seen_as: DeviceId = NEW) -> bytes:
        """Have a device join; `seen_as`: whom the connection proves it to be."""
        theirs, ours = stream_ends(OLD, seen_as)
        failed: PairingFailed | None = None
        invitation = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.offers.serve, ours)
            try:
                invitation = await join(theirs, device, code, "laptop")
            except PairingFailed as error:
                failed = error
        if failed is not None:
            raise failed
        return invitation


async def test_the_right_code_brings_the_invitation() -> None:
    offering = Offering()
    code = offering.offers.open().code
    assert await offering.join(code) == b"the account's secret"
    assert offering.invited == [(NEW, "laptop")]
    assert offering.told == [("laptop", True)]


async def test_a_wrong_code_is_told_to_both_and_spends_the_offer() -> None:
    offering = Offering()
    code = offering.offers.open().code
    wrong = replace(code, secret="0000000000" if code.secret != "0000000000" else "1111111111")
    with pytest.raises(PairingFailed, match="code was wrong"):
        await offering.join(wrong)
    assert offering.told == [("a device tried to pair with a wrong code; the code is spent, make a new one", False)]
    with pytest.raises(PairingFailed, match="no pairing code is open"):
        await offering.join(code)
    assert offering.invited == []


async def test_a_code_is_good_for_one_device() -> None:
    offering = Offering()
    code = offering.offers.open().code
    await offering.join(code)
    with pytest.raises(PairingFailed, match="used"):
        await offering.join(code)


async def test_a_code_is_good_for_ten_minutes() -> None:
    offering = Offering()
    code = offering.offers.open().code
    offering.now += SECONDS
    with pytest.raises(PairingFailed, match="expired"):
        await offering.join(code)


async def test_a_guess_at_the_plate_alone_leaves_the_offer_open() -> None:
    offering = Offering()
    code = offering.offers.open().code
    with pytest.raises(PairingFailed):
        await offering.join(replace(code, plate=f"{(int(code.plate) + 1) % 1000:03d}"))
    assert await offering.join(code) == b"the account's secret"


async def test_a_man_in_the_middle_with_another_device_id_gets_nothing() -> None:
    offering = Offering()
    code = offering.offers.open().code
    with pytest.raises(PairingFailed):
        await offering.join(code, device=NEW, seen_as=DeviceId(b"m" * 32))
    assert offering.invited == []


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 50, b"\x00\x00\x00\x01\xf6", b"\x00\x00\x00\x03\x82\x01\x02"])
async def test_garbage_ends_the_stream_and_leaves_the_offer_open(garbage: bytes) -> None:
    offering = Offering()
    code = offering.offers.open().code
    theirs, ours = stream_ends(OLD, NEW)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(offering.offers.serve, ours)
        await theirs.send_all(garbage)
        await theirs.aclose()
    assert await offering.join(code) == b"the account's secret"


async def test_a_silent_device_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    offering = Offering()
    offering.offers.open()
    _, ours = stream_ends(OLD, NEW)
    with trio.fail_after(60):
        await offering.offers.serve(ours)
    assert ours.was_reset
