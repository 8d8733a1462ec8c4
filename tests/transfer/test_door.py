"""Who is let in at the bulk channel's port."""

from __future__ import annotations

from shoal.transfer.aead import Cipher
from shoal.transfer.bulk import TICKET_SECONDS, TOKEN_SIZE, Grant, lane_keys
from shoal.transfer.door import FROM_ONE_ADDRESS, UNPROVEN, Door

TOKENS = tuple(bytes([n]) * TOKEN_SIZE for n in range(3))
KEYS = lane_keys(Grant(Cipher.AEGIS_256, 1, b"s" * 32, TOKENS), "giver")


def test_a_token_is_good_for_whom_it_was_made_and_once() -> None:
    door = Door()
    door.expect(KEYS, 0.0)
    assert door.keys_for(TOKENS[0], 1.0) is KEYS[TOKENS[0]]
    assert door.spend(TOKENS[0])
    assert door.keys_for(TOKENS[0], 1.0) is None
    assert not door.spend(TOKENS[0]), "whoever comes second with it, in the same moment"
    assert door.keys_for(TOKENS[1], 1.0) is KEYS[TOKENS[1]]


def test_a_token_expires() -> None:
    door = Door()
    door.expect(KEYS, 100.0)
    assert door.keys_for(TOKENS[0], 100.0 + TICKET_SECONDS - 0.1) is not None
    assert door.keys_for(TOKENS[0], 100.0 + TICKET_SECONDS) is None


def test_nobody_is_let_in_with_a_token_that_is_waited_for_no_more_or_never_was() -> None:
    door = Door()
    door.expect(KEYS, 0.0)
    door.forget(KEYS)
    assert door.keys_for(TOKENS[0], 0.0) is None
    assert door.keys_for(b"?" * TOKEN_SIZE, 0.0) is None


def test_one_address_gets_a_bounded_share_of_those_who_have_proven_nothing() -> None:
    door = Door()
    assert [door.knock("1.1.1.1") for _ in range(FROM_ONE_ADDRESS + 2)] == [True] * FROM_ONE_ADDRESS + [False] * 2
    assert door.knock("2.2.2.2")
    door.heard("1.1.1.1")
    assert door.knock("1.1.1.1")


def test_all_together_are_bounded() -> None:
    door = Door()
    assert sum(door.knock(f"10.0.0.{n}") for n in range(2 * UNPROVEN)) == UNPROVEN
