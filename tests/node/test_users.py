"""The person of a node: passwords that are good enough, and are not guessed; tokens that end."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.errors import UserError
from shoal.node.store import MemoryStore, StoreDamaged
from shoal.node.users import DELAY_MOST, FREE, FREE_ALL, TOKENS, USER, VALID_MS, Throttle, Throttled, Users

GOOD = "seven brown kettles sing"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@dataclass
class World:
    """A node's store, and its clock."""

    store: MemoryStore = field(default_factory=MemoryStore)
    now: int = 1000

    def users(self) -> Users:
        return Users(self.store, lambda: self.now)


@pytest.fixture
def world() -> World:
    made = World()
    made.users().register("Anna", GOOD, name="Anna B.", email="anna@example.org")
    return made


def test_who_registered_is_known_after_a_restart_and_by_the_right_password_alone(world: World) -> None:
    users = world.users()
    assert users.user is not None
    assert (users.user.username, users.user.name, users.user.email) == ("anna", "Anna B.", "anna@example.org")
    assert users.is_right(" ANNA", GOOD)
    assert not users.is_right("anna", GOOD + "!")
    assert not users.is_right("otto", GOOD)
    assert not users.is_right("otto", "")


def test_the_password_is_nowhere_in_the_store(world: World) -> None:
    assert GOOD.encode() not in (world.store.get("meta", USER) or b"")
    text, _ = world.users().new_token("page")
    assert text.encode() not in (world.store.get("meta", TOKENS) or b"")


def test_a_node_has_one_person(world: World) -> None:
    with pytest.raises(UserError, match="anna's already"):
        world.users().register("otto", GOOD)


@pytest.mark.parametrize(
    "password", ["", "short", "password1", "aaaaaaaaaaaa", "shoalshoal", "annaanna", "qwertyuiop", "x" * 257]
)
def test_a_password_that_is_guessed_soon_is_refused(password: str) -> None:
    with pytest.raises(UserError) as refused:
        World().users().register("anna", password)
    assert refused.value.code == "weak-password"


@pytest.mark.parametrize("name", ["", " ", "-anna", "an na", "anna\n.", "änna", "x" * 33, ".."])
def test_a_name_that_nobody_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be a user's name"):
        World().users().register(name, GOOD)


@pytest.mark.parametrize("email", ["anna", "@example.org", "anna@", "anna@example", "a b@example.org"])
def test_what_is_no_address_is_refused(world: World, email: str) -> None:
    with pytest.raises(UserError, match="no e-mail address"):
        world.users().change(email=email)


def test_the_profile_is_changed_in_parts(world: World) -> None:
    world.users().change(name="Anna C.")
    world.users().change(avatar=PNG)
    user = world.users().user
    assert user is not None
    assert (user.name, user.email, user.avatar) == ("Anna C.", "anna@example.org", PNG)


@pytest.mark.parametrize("avatar", [b"<svg>", b"\x89PNG\r\n\x1a\n" + bytes(300_000)])
def test_a_picture_that_is_none_or_too_large_is_refused(world: World, avatar: bytes) -> None:
    with pytest.raises(UserError, match="picture"):
        world.users().change(avatar=avatar)


def test_a_token_is_valid_for_its_time_and_after_a_restart(world: World) -> None:
    text, made = world.users().new_token("page")
    assert world.users().token(text) == made
    assert world.users().token(text + "x") is None
    world.now += VALID_MS
    assert world.users().token(text) is None
    assert world.users().tokens() == []


def test_a_token_that_was_revoked_is_valid_no_more_and_others_are(world: World) -> None:
    users = world.users()
    (first, one), (second, _) = users.new_token("one"), users.new_token("other")
    users.revoke(one.id)
    assert users.token(first) is None
    assert users.token(second) is not None
    with pytest.raises(UserError, match="no token"):
        users.revoke(one.id)


def test_another_password_ends_all_tokens(world: World) -> None:
    users = world.users()
    text, _ = users.new_token("page")
    users.set_password("nine green lamps hum")
    assert users.token(text) is None
    assert users.is_right("anna", "nine green lamps hum")
    assert not users.is_right("anna", GOOD)


def test_what_cannot_be_read_is_a_damaged_store(world: World) -> None:
    world.store.write([("meta", USER, b"\xff")], sync=True)
    with pytest.raises(StoreDamaged):
        world.users()


# -- guessing ----------------------------------------------------------------------------------------------------------


def test_after_a_few_wrong_passwords_each_further_try_waits_longer() -> None:
    throttle, now = Throttle(), 0.0
    waits = []
    for _ in range(FREE + 5):
        try:
            throttle.check("anna", now)
        except Throttled as error:
            waits.append(error.seconds)
            now += error.seconds
            throttle.check("anna", now)
        throttle.wrong("anna", now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_the_right_password_begins_anew() -> None:
    throttle = Throttle()
    for _ in range(FREE):
        throttle.wrong("anna", 0.0)
    throttle.right("anna")
    throttle.check("anna", 0.0)


def test_who_tries_many_names_waits_as_well() -> None:
    throttle = Throttle()
    for number in range(FREE_ALL):
        throttle.wrong(f"name {number}", 0.0)
    with pytest.raises(Throttled):
        throttle.check("anna", 0.0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 2000)), max_size=60))
def test_nobody_ever_waits_for_longer_than_a_quarter_of_an_hour(tries: list[tuple[str, float]]) -> None:
    throttle, now = Throttle(), 0.0
    for name, pause in tries:
        now += pause
        throttle.wrong(name, now)
        throttle.check(name, now + DELAY_MOST)
