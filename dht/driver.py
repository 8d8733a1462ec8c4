"""A peer of the DHT: runs the pure parts on trio, over questions and answers that are carried for it.

Rows of the table, beside those of `providers`:

    b"a" + key   -> when it was last announced, Unix seconds, 4 bytes; 0 for never
    b"r"         -> CBOR [[peer id, [address...], record], ...]: who was known when it was last written
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cbor2
import trio

from shoal.dht import addresses as multiaddrs
from shoal.dht import peer_records
from shoal.dht.announcing import Announcing
from shoal.dht.keyspace import Key, PeerId, Point, key_near, point
from shoal.dht.lookup import ALPHA, Lookup
from shoal.dht.messages import Message, Peer, Type
from shoal.dht.peer_records import PeerRecord
from shoal.dht.protobuf import Malformed
from shoal.dht.providers import Providers
from shoal.dht.routing import K, RoutingTable
from shoal.dht.server import MOST_ADDRESSES, Server
from shoal.dht.table import Table
from shoal.dht.upkeep import Check, Refresh, Upkeep

ANSWERS_WITHIN = 5.0  # seconds, with the dial
LOOKUP_WITHIN = 30.0
PATHS = 3
GENTLE = 3  # questions in flight of a look-up that refreshes the table
AT_FIRST, STAGGER = 3, 0.015  # questions that are asked at once; seconds between those after: an answer may be enough
TEND_EVERY = 5.0
EXPIRE_EVERY = 20.0
SAVE_EVERY = 600.0
AT_ONCE = 8  # checks of upkeep
DAY = 24 * 3600  # seconds by which a record may be ahead of this clock
RECORDS = 2048  # signed records that are kept
BATCH = 1000  # keys in one message
ROUTES = b"r"


class Unanswered(Exception):
    """The peer cannot be reached, or does not answer."""


class Messenger(Protocol):
    """Carries messages to peers, connecting to them where need be."""

    async def ask(self, peer: PeerId, addresses: tuple[str, ...], question: bytes) -> bytes:
        """Send a message and return the answer. Raises Unanswered."""
        ...

    async def tell(self, peer: PeerId, addresses: tuple[str, ...], message: bytes) -> None:
        """Send a message that is not answered. Raises Unanswered."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A provider that was found. `addresses`: where others say that it is."""

    peer: PeerId
    addresses: tuple[str, ...]


def _most_said(addresses: Counter[bytes]) -> tuple[str, ...]:
    """Return the addresses that most say, first: one that lies must not push out what others say."""
    return multiaddrs.decode_all(address for address, _ in addresses.most_common(2 * MOST_ADDRESSES))


@dataclass(slots=True)
class Stats:
    """What was done since the start. `sent`: messages by their type."""

    sent: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    lookups: int = 0
    hops: int = 0


class Dht:
    """`serves`: whether others may ask this peer, and put it in their tables."""

    def __init__(
        self,
        own: PeerId,
        messenger: Messenger,
        table: Table,
        *,
        own_addresses: Callable[[], list[str]],
        sign: Callable[[bytes], bytes],
        wall: Callable[[], float],
        rng: random.Random,
        seeds: Callable[[], Mapping[PeerId, tuple[str, ...]]] = dict,
    ) -> None:
        """`own_addresses`: where this peer can be dialled, now; `sign`: with its key; `wall`: Unix seconds; `seeds`:
        peers to begin with."""
        self.own = own
        self.serves = False
        self.stats = Stats()
        self.routing = RoutingTable(own)
        self.providers = Providers(table)
        self._messenger = messenger
        self._table = table
        self._own_addresses = own_addresses
        self._sign = sign
        self._wall = wall
        self._rng = rng
        self._seeds = seeds
        self._records: dict[PeerId, PeerRecord] = {}
        self._checked: dict[bytes, PeerRecord] = {}  # by envelope: signatures are checked once
        self._own_record: PeerRecord | None = None
        self._woken = trio.Event()
        self._refreshing = trio.Lock()
        self._server = Server(own, self.routing, self.providers, own_addresses, self._record_of)
        self._upkeep = Upkeep(self.routing, own, rng)
        self.announcing = Announcing(self, table, wall)
        self._load()

    # -- as a server -------------------------------------------------------------------------------------------------

    def answer(self, peer: PeerId, question: bytes) -> bytes | None:
        """Return what to answer a peer, if anything. Raises Malformed, TooMuch."""
        message = Message.decode(question)
        answer = self._server.answer(peer, message, trio.current_time(), self._wall())
        if message.sender:
            record = self._take_record(message.sender, of=peer)
            if record is not None:
                self.routing.heard_of(peer, multiaddrs.decode_all(record.addresses))
        return answer.encode() if answer is not None else None

    @property
    def questions(self) -> int:
        """How many questions others asked."""
        return self._server.asked

    # -- as a client -------------------------------------------------------------------------------------------------

    async def find_providers(self, key: Key, enough: int = 1) -> list[Found]:
        """Return who said to have what is under a key: at least `enough` of them, if there are."""
        found: dict[PeerId, Counter[bytes]] = {}  # how many say each address of each
        for each in self.providers.of(key, self._wall()):
            found.setdefault(each.peer, Counter()).update(each.addresses)

        def enough_by(message: Message) -> bool:
            for each in message.providers:
                if each.id != self.own:
                    found.setdefault(PeerId(each.id), Counter()).update(each.addresses[:MOST_ADDRESSES])
            return len(found) >= enough

        if len(found) < enough:
            await self._walk(point(key), Message(Type.GET_PROVIDERS, key, sender=self._sender()), enough_by)
        return [Found(peer, _most_said(where)) for peer, where in found.items()]

    async def find_peer(self, peer: PeerId) -> tuple[str, ...]:
        """Return where a peer that serves the DHT is, as far as others know: none where they know nothing."""
        known = self.routing.get(peer)
        if known is not None and known.answered is not None:
            return known.addresses
        found: list[tuple[str, ...]] = []

        def is_it(message: Message) -> bool:
            found.extend(self._addresses(each) for each in message.closer if each.id == peer)
            return bool(found)

        await self._walk(point(peer), Message(Type.FIND_NODE, peer, sender=self._sender()), is_it)
        return found[0] if found else ()

    async def nearest_to(self, key: Key) -> list[PeerId]:
        """Return the peers nearest to a key, the nearest first."""
        question = Message(Type.FIND_NODE, key, sender=self._sender())
        return (await self._walk(point(key), question, lambda message: False)).result()

    async def tell_of(self, peer: PeerId, keys: Sequence[Key]) -> bool:
        """Tell a peer that this one has what is under these keys; return whether it took them all."""
        own = Peer(self.own, multiaddrs.encode_all(self._own_addresses()))
        if peer in self._records:  # only peers of ours say such records, and know batches
            for at in range(0, len(keys), BATCH):
                batch = tuple(keys[at : at + BATCH])
                answer = await self._ask(peer, Message(Type.ADD_PROVIDER, providers=(own,), keys=batch))
                if answer is None or answer.keys:
                    return False
            return True
        for key in keys:
            message = Message(Type.ADD_PROVIDER, key, providers=(own,))
            self._count(message)
            try:
                with trio.fail_after(ANSWERS_WITHIN):
                    await self._messenger.tell(peer, self._where(peer), message.encode())
            except (Unanswered, trio.TooSlowError):
                return False
        return True

    # -- always ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the table fresh, what is over forgotten, and what this peer has announced, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tend)
            nursery.start_soon(self._expire)
            nursery.start_soon(self.announcing.run)

    def heard_of(self, peer: PeerId, addresses: Iterable[str]) -> None:
        """A peer that serves the DHT may be at these addresses."""
        if peer != self.own:
            self.routing.heard_of(peer, addresses)

    def wake(self) -> None:
        """There may be other seeds than before: try them now."""
        self._woken.set()

    def save(self) -> None:
        """Write who is known; if it is nobody, who was known before stays."""
        known = [
            [each.peer, list(each.addresses), self._record_of(each.peer)]
            for each in self.routing
            if each.answered is not None
        ]
        if known:
            self._table.write({ROUTES: cbor2.dumps(known)})

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _walk(
        self, target: Point, question: Message, is_enough: Callable[[Message], bool], alpha: int = ALPHA
    ) -> Lookup:
        """Ask ever nearer peers, until `is_enough` says so of an answer."""
        if not len(self.routing):
            self._hear_of_seeds()
        known = [contact.peer for contact in self.routing.nearest(target)]
        lookup = Lookup(target, known, self.own, paths=min(PATHS, max(1, len(known) // 3)), alpha=alpha)
        heard: dict[PeerId, Peer] = {}
        news = trio.Event()
        self.stats.lookups += 1

        async def ask(peer: PeerId, place: int) -> None:
            await trio.sleep(max(0, place - AT_FIRST) * STAGGER)
            answer = await self._ask(peer, question, heard.get(peer))
            if answer is None:
                lookup.failed(peer)
            else:
                named = {PeerId(each.id): each for each in answer.closer}
                heard.update((fresh, named[fresh]) for fresh in lookup.answered(peer, named))
                if is_enough(answer):
                    nursery.cancel_scope.cancel()
            news.set()

        with trio.move_on_after(LOOKUP_WITHIN):
            async with trio.open_nursery() as nursery:
                while not lookup.is_done:
                    for place, peer in enumerate(lookup.next_queries(), 1):
                        nursery.start_soon(ask, peer, place)
                    await news.wait()
                    news = trio.Event()
        self.stats.hops += lookup.hops
        return lookup

    async def _ask(self, peer: PeerId, question: Message, heard: Peer | None = None) -> Message | None:
        """Return a peer's answer, None where it gives none; the table hears of either."""
        answer: Message | None = None
        self._count(question)
        with trio.move_on_after(ANSWERS_WITHIN):
            with contextlib.suppress(Unanswered, Malformed):
                answer = Message.decode(await self._messenger.ask(peer, self._where(peer, heard), question.encode()))
        if answer is None:
            self.stats.failed += 1
            self.routing.failed(peer)
            return None
        known = self.routing.get(peer)
        if known is None or known.answered is None:
            self.announcing.somebody_came()
        record = self._take_record(answer.sender, of=peer) if answer.sender else None
        said = multiaddrs.decode_all(record.addresses) if record is not None and record.peer == peer else ()
        self.routing.answered(peer, said or self._where(peer, heard), trio.current_time())
        return answer

    def _where(self, peer: PeerId, heard: Peer | None = None) -> tuple[str, ...]:
        """Return where to try a peer: what it signed counts before what others say."""
        if heard is not None and heard.record:
            self._take_record(heard.record, of=peer)
        record = self._records.get(peer)
        if record is not None:
            return multiaddrs.decode_all(record.addresses)
        known = self.routing.get(peer)
        return known.addresses if known is not None and known.addresses else self._addresses(heard) if heard else ()

    def _addresses(self, told: Peer) -> tuple[str, ...]:
        return multiaddrs.decode_all(told.addresses[:MOST_ADDRESSES])

    def _take_record(self, envelope: bytes, of: PeerId) -> PeerRecord | None:
        """Return a signed record, if it is one of that peer's, and keep it where it is the newest."""
        known = self._checked.get(envelope)
        if known is not None:
            return known if known.peer == of else None
        try:
            record = peer_records.read(envelope)
        except Malformed:
            return None
        if record.peer != of or record.seq > 1000 * (self._wall() + DAY):
            return None
        self._checked[envelope] = record
        if len(self._checked) > RECORDS:
            del self._checked[next(iter(self._checked))]
        before = self._records.get(record.peer)
        if before is None or record.seq > before.seq:
            self._records.pop(record.peer, None)
            self._records[record.peer] = record
            if len(self._records) > RECORDS:
                del self._records[next(iter(self._records))]
        return record

    def _record_of(self, peer: PeerId) -> bytes:
        record = self._records.get(peer)
        return record.envelope if record is not None else b""

    def _sender(self) -> bytes:
        """Return this peer's own record, for who may ask it in turn."""
        if not self.serves:
            return b""
        said = multiaddrs.encode_all(self._own_addresses())
        if self._own_record is None or self._own_record.addresses != said:
            self._own_record = peer_records.make(self.own, int(self._wall() * 1000), said, self._sign)
        return self._own_record.envelope

    def _count(self, message: Message) -> None:
        name = message.type.name
        self.stats.sent[name] = self.stats.sent.get(name, 0) + 1

    def _hear_of_seeds(self) -> None:
        for peer, where in self._seeds().items():
            if self.routing.get(peer) is None:
                self.heard_of(peer, where)

    async def _tend(self) -> None:
        saved = trio.current_time()
        while True:
            self._hear_of_seeds()
            due = self._upkeep.due(trio.current_time())
            limit = trio.CapacityLimiter(AT_ONCE)
            async with trio.open_nursery() as nursery:
                for action in due:
                    nursery.start_soon(self._do, action, limit)
            if trio.current_time() - saved >= SAVE_EVERY:
                self.save()
                saved = trio.current_time()
            with trio.move_on_after(TEND_EVERY * (0.5 + self._rng.random())):
                await self._woken.wait()
            self._woken = trio.Event()

    async def _do(self, action: Check | Refresh, limit: trio.CapacityLimiter) -> None:
        async with limit:
            wanted = Key(self.own)
            if action.target is not None:
                wanted = key_near(point(self.own), action.target, self.own, self._rng)
            if isinstance(action, Refresh):
                question = Message(Type.FIND_NODE, wanted, sender=self._sender())
                async with self._refreshing:  # nobody waits for it
                    await self._walk(point(wanted), question, lambda message: False, GENTLE)
                return
            answer = await self._ask(action.peer, Message(Type.FIND_NODE, wanted, sender=self._sender()))
            if answer is not None and action.target is not None:
                for each in answer.closer[:K]:
                    self.routing.heard_of(PeerId(each.id), self._where(PeerId(each.id), each))

    async def _expire(self) -> None:
        while True:
            await trio.sleep(EXPIRE_EVERY)
            self.providers.expire(self._wall())

    def _load(self) -> None:
        saved = self._table.get(ROUTES)
        for peer, where, envelope in cbor2.loads(saved) if saved is not None else []:
            self.routing.heard_of(PeerId(peer), where)
            if envelope:
                self._take_record(envelope, of=PeerId(peer))
