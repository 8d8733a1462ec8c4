from __future__ import annotations

from shoal.bootstrap.addressbook import KEPT, AddressBook
from shoal.crdt.model import DeviceId

PEER = DeviceId(b"p" * 32)


class Saved:
    def __init__(self) -> None:
        self.data: bytes | None = None

    def __call__(self, data: bytes) -> None:
        self.data = data


def test_the_address_that_worked_last_is_tried_first() -> None:
    book = AddressBook(None, Saved())
    book.learn(PEER, ["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.2/tcp/1"])
    book.worked(PEER, "/ip4/10.0.0.2/tcp/1", 5)
    assert book.addresses(PEER) == ["/ip4/10.0.0.2/tcp/1", "/ip4/10.0.0.1/tcp/1"]


def test_what_is_heard_now_goes_before_what_worked_long_ago() -> None:
    book = AddressBook(None, Saved())
    book.worked(PEER, "/ip4/10.0.0.1/tcp/1", 5)
    assert book.learn(PEER, ["/ip4/10.9.9.9/tcp/1/p2p/12D3KooW"])
    assert book.addresses(PEER) == ["/ip4/10.9.9.9/tcp/1", "/ip4/10.0.0.1/tcp/1"]
    assert not book.learn(PEER, ["/ip4/10.9.9.9/tcp/1"])


def test_a_peer_cannot_fill_the_book() -> None:
    book = AddressBook(None, Saved())
    for number in range(1000):
        book.learn(PEER, [f"/ip4/10.0.0.1/tcp/{number}"])
    assert len(book.addresses(PEER)) == KEPT


def test_the_book_survives_a_restart() -> None:
    saved = Saved()
    AddressBook(None, saved).worked(PEER, "/ip4/10.0.0.1/tcp/1", 77)
    again = AddressBook(saved.data, Saved())
    assert again.addresses(PEER) == ["/ip4/10.0.0.1/tcp/1"]
    assert again.seen_ms(PEER) == 77


def test_of_a_stranger_nothing_is_known() -> None:
    book = AddressBook(None, Saved())
    assert book.addresses(PEER) == []
    assert book.seen_ms(PEER) == 0
