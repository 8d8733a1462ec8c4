"""Answering what other peers ask. Pure: what was asked, by whom and when goes in, what to answer comes out."""

from __future__ import annotations

from collections.abc import Callable

from shoal.dht import addresses
from shoal.dht.keyspace import Key, PeerId, point
from shoal.dht.limits import BURST, KEYS, KEYS_BURST, QUESTIONS, Buckets
from shoal.dht.messages import Message, Peer, Type
from shoal.dht.providers import Providers
from shoal.dht.routing import Contact, RoutingTable

TOLD = 20  # peers that are nearer, in one answer
MOST_ADDRESSES = 8  # of a peer
MOST_BYTES, MOST_RECORD = 128, 1024  # of an address, and of a signed record, so that an answer stays within its bounds


class TooMuch(Exception):
    """The peer asks more than it may."""


class Server:
    """Of one peer. `record_of`: the signed record of a peer, if one is known."""

    def __init__(
        self,
        own: PeerId,
        table: RoutingTable,
        providers: Providers,
        own_addresses: Callable[[], list[str]],
        record_of: Callable[[PeerId], bytes] = lambda peer: b"",
    ) -> None:
        self._own_id = own
        self._own_addresses = own_addresses
        self._table = table
        self._providers = providers
        self._record_of = record_of
        self._questions = Buckets(QUESTIONS, BURST)
        self._keys = Buckets(KEYS, KEYS_BURST)
        self.asked = 0

    def answer(self, peer: PeerId, message: Message, now: float, wall: float) -> Message | None:
        """Return what to answer, if anything. `now`: seconds, monotonic; `wall`: Unix seconds. Raises TooMuch."""
        if not self._questions.take(peer, 1, now):
            raise TooMuch("more questions than a peer may ask")
        self.asked += 1
        match message.type:
            case Type.PING:
                return Message(Type.PING)
            case Type.ADD_PROVIDER:
                return self._add(peer, message, now, wall)
            case Type.GET_PROVIDERS:
                found = self._providers.of(Key(message.key), wall)
                providers = tuple(Peer(each.peer, each.addresses[:MOST_ADDRESSES]) for each in found)
                return Message(message.type, message.key, closer=self._closer(peer, message.key), providers=providers)
            case Type.FIND_NODE | Type.GET_VALUE:  # no values are kept
                return Message(message.type, message.key, closer=self._closer(peer, message.key))
            case Type.PUT_VALUE:
                raise TooMuch("values are not kept here")

    def _add(self, peer: PeerId, message: Message, now: float, wall: float) -> Message | None:
        """A peer speaks for itself alone, whatever it says."""
        own = next((each for each in message.providers if each.id == peer), None)
        if own is None:
            return None
        keys = [Key(key) for key in message.keys or ((message.key,) if message.key else ())]
        if not self._keys.take(peer, len(keys), now):
            raise TooMuch("more keys than a peer may announce")
        said = tuple(each for each in own.addresses if len(each) <= MOST_BYTES and addresses.decode(each) is not None)
        refused = self._providers.add(keys, peer, said[:MOST_ADDRESSES], wall)
        return Message(Type.ADD_PROVIDER, keys=tuple(refused)) if message.keys else None

    def _closer(self, peer: PeerId, key: bytes) -> tuple[Peer, ...]:
        """Return the known peers nearest to a key; `key` may be a peer id, which is looked for in the same way."""
        near = self._table.nearest(point(Key(key)), TOLD + 1, there=True)
        own = [self._own()] if key == self._own_id else []  # who looks for this peer is told of it
        return tuple([*own, *(self._told(contact) for contact in near if contact.peer != peer)][:TOLD])

    def _own(self) -> Peer:
        return Peer(self._own_id, addresses.encode_all(self._own_addresses()[:MOST_ADDRESSES]))

    def _told(self, contact: Contact) -> Peer:
        binary = addresses.encode_all(contact.addresses[:MOST_ADDRESSES])
        fit = tuple(each for each in binary if len(each) <= MOST_BYTES)
        record = self._record_of(contact.peer)
        return Peer(contact.peer, fit, 0, record if len(record) <= MOST_RECORD else b"")
