"""What two devices of an account, or of two that share a folder, say to each other while connected, by `/shoal/sync/1`.

Frames of canonical CBOR, each an array whose first element is its kind:
    ["hello", roster statements, catalog statements, addresses]   at the start, and again when any of it changed: of
                                        the account; a seed says that of the peer's; others the addresses alone
    ["share", bundles, people]          what is known of shared folders, see `meeting`; at the start and when it changed
    ["sync", folder id, message]        a message of `crdt.antientropy` about a folder that the sender has joined
    ["need", folder id, files, bytes]   what the sender's disk still lacks of the folder; 0, 0: it is in sync
    ["have", folder id, chunk ids]      chunks, 32 bytes each, that came to the sender's disk; to who lacks some
    ["left", folder id]                 the sender has the folder no more
    ["held?", ...], ["held", ...]       whether the other keeps what is to leave this disk: see `holdings`
    ["prove?", ...], ["proof", ...]     that it has the bytes: see `possession`
    ["board", folder id, message]       a message of `crdt.board` about a folder: who offers space, which packs there
                                        are, and who holds which piece of them
    ["ping"]                            sent once the sender has told of all its folders, then every `PING` seconds, so
                                        silence means that the peer is gone
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from shoal.crdt import codec
from shoal.crdt.antientropy import (
    AntiEntropy,
    ApplyEntries,
    CheckOwnLog,
    Command,
    OwnLogDiverged,
    PeerHolds,
    PeerMisbehaved,
    Send,
)
from shoal.crdt.antientropy_messages import Ack, Entries, Holds, Message, decode_message, encode_message
from shoal.crdt.log import LogHead, LogId
from shoal.crdt.model import DeviceId, FolderId
from shoal.node.folder.coming import Coming
from shoal.node.folder.coming import decode as decode_coming
from shoal.node.holdings import HeldQuestions
from shoal.node.possession import NONCE
from shoal.node.shares import Person, decode_bundles
from shoal.node.surroundings import Logs, Surroundings
from shoal.transfer.stream import FrameStream, StreamClosed

PROTOCOL = "/shoal/sync/1"
PING = 4.0
SILENCE = 12.0
MAX_FRAME = 16 * 1024 * 1024
MAX_DEPTH = 6
OUTBOX = 2 * MAX_FRAME  # bytes that may wait for a peer to read; one that only asks, and does not read, is left then
CHUNK = 32  # bytes of a chunk's id
HAVES = 4096  # chunks told of in one message
GATHER = 0.1  # seconds in which they are gathered
MOST_SAID = 20_000  # statements on shared folders in one message
MOST_PEOPLE = 2000
BESIDE = 128  # bytes that a waiting message costs beside its own


@dataclass(slots=True)
class Progress:
    """What a peer has said about a folder. `files`, `bytes`: what it lacks, None before it said so."""

    files: int | None = None
    bytes: int = 0
    holds_all: bool = False


class Session:
    """One connection's conversation."""

    def __init__(self, frames: FrameStream, node: Surroundings, now: Callable[[], float]) -> None:
        self.device = DeviceId(frames.peer)
        self.progress: dict[FolderId, Progress] = {}
        self._frames = frames
        self._node = node
        self._now = now
        self._machines: dict[FolderId, AntiEntropy] = {}
        self._outbox: deque[bytes] = deque()
        self._waiting = 0  # bytes in it
        self._work = trio.Event()
        self._told_need: dict[FolderId, tuple[int, int]] = {}
        self._told_shares: list[list[Any]] = []
        self._gained: dict[FolderId, list[bytes]] = {}  # chunks that the peer is to be told of
        self._told_at = math.inf
        self._heard = now()
        self.introduced = False  # the peer has told what folders it has
        self._ended = trio.CancelScope()
        self._dismissed = False
        self.held = HeldQuestions(self._queue)

    async def run(self) -> None:
        """Converse until the stream ends. Raises StreamClosed, and codec.Malformed for what no peer of ours sends."""
        self.say_hello()
        self.tell_shares()
        for folder in self._node.replicas():
            self.join(folder)
        self._queue(["ping"])  # that was all
        try:
            async with trio.open_nursery() as nursery:
                self._ended = nursery.cancel_scope
                nursery.start_soon(self._send)
                nursery.start_soon(self._keep_time)
                await self._receive(nursery)
                nursery.cancel_scope.cancel()
        finally:
            self.held.end()
        if self._waiting > OUTBOX:
            raise StreamClosed("the peer does not read what it is sent")

    # -- told by the node --------------------------------------------------------------------------------------------

    def say_hello(self) -> None:
        """Tell what the peer may know of the account, and where this device is."""
        self._queue(["hello", *self._node.mail.told_to(self.device), self._node.addresses(self.device)])

    def tell_shares(self) -> None:
        """Tell what the peer may know of shared folders."""
        told = self._node.sharing.told_to(self.device)
        for message in told:
            if message not in self._told_shares:
                self._queue(["share", *message])
        self._told_shares = told

    def admit(self, changed: Collection[FolderId]) -> None:
        """Who may have which folder changed: go by that, and ask anew for what may be taken now of those that
        `changed`."""
        for folder in self._node.replicas():
            if self._may_sync(folder):
                if folder not in self._machines or folder in changed:
                    self.join(folder)
            elif folder in self._machines:
                self.leave(folder)

    def join(self, folder: FolderId) -> None:
        """A folder was joined here, or is at the start."""
        if self._dismissed or not self._may_sync(folder):
            return
        replica = self._node.replicas()[folder]
        self._machines[folder] = AntiEntropy(own=replica.log_id)
        self._do(folder, [Send(Holds(dict(replica.frontier), ask=True))])
        greeting = self._node.packs.greeting(folder)
        if greeting is not None:
            self.tell_board(folder, greeting)

    def leave(self, folder: FolderId) -> None:
        """A folder was removed here, or the peer has no part in it any more."""
        self._machines.pop(folder, None)
        self.progress.pop(folder, None)
        self._told_need.pop(folder, None)
        self._queue(["left", folder])

    def tell_board(self, folder: FolderId, message: list[Any]) -> None:
        """Say something of a folder's board."""
        if folder in self._machines:
            self._queue(["board", folder, message])

    def tell_have(self, folder: FolderId, chunks: Sequence[bytes]) -> None:
        """Chunks came to this disk, which the peer may lack: it is told soon, of many at once."""
        if folder not in self._machines or not self._may_read(folder):
            return
        gained = self._gained.setdefault(folder, [])
        if not gained:
            self._told_at = min(self._told_at, self._now() + GATHER)
        gained += chunks
        self._work.set()

    def tell_coming(self, folder: FolderId, coming: Coming) -> None:
        """This device reads a file that the peer may need, and can give these chunks of it."""
        if folder in self._machines and self._may_read(folder):
            self._queue(["coming", folder, *coming.encode()])

    def dismiss(self, proof: Sequence[bytes]) -> None:
        """The device is of the account no more: tell it so, and nothing else. It ends the conversation then."""
        self._machines.clear()
        self._gained.clear()
        self._outbox.clear()
        self._waiting = 0
        self._queue(["hello", list(proof), [], []])
        self._dismissed = True

    def end(self) -> None:
        """End the conversation; another begins when the devices have connected again."""
        self._ended.cancel()

    def wake(self) -> None:
        """There may be new entries, or news of what this disk lacks."""
        self._work.set()

    def holds_all(self, folder: FolderId) -> bool:
        """Return whether the peer has acknowledged all entries that are here."""
        machine, replica = self._machines.get(folder), self._node.replicas().get(folder)
        return machine is not None and replica is not None and machine.peer_holds_all(replica.frontier)

    def heads(self, folder: FolderId) -> Mapping[LogId, LogHead]:
        """Return what the peer says to hold of a folder's logs."""
        machine = self._machines.get(folder)
        return machine.theirs or {} if machine is not None else {}

    def holds_others(self, folder: FolderId) -> bool:
        """Return whether the peer has acknowledged all entries that came here from other devices."""
        machine, replica = self._machines.get(folder), self._node.replicas().get(folder)
        if machine is None or replica is None:
            return False
        return machine.peer_holds_all({log: head for log, head in replica.frontier.items() if log != replica.log_id})

    def we_hold_all(self, folder: FolderId) -> bool:
        """Return whether all entries that the peer holds are here."""
        machine, replica = self._machines.get(folder), self._node.replicas().get(folder)
        return machine is not None and replica is not None and machine.we_hold_all(replica.frontier)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _may_sync(self, folder: FolderId) -> bool:
        return self._node.sharing.access.may_sync(self.device, folder)

    def _may_read(self, folder: FolderId) -> bool:
        return self._node.sharing.access.may_read(self.device, folder)

    def _queue(self, message: list[Any]) -> None:
        if self._dismissed or self._waiting > OUTBOX:
            return  # it ends
        data = codec.encode(message)
        self._outbox.append(data)
        self._waiting += len(data) + BESIDE
        if self._waiting > OUTBOX:
            self._outbox.clear()
            self.end()
        self._work.set()

    async def _send(self) -> None:
        while True:
            self._work = trio.Event()
            while self._outbox:
                data = self._outbox.popleft()
                self._waiting -= len(data) + BESIDE
                await self._frames.send(data)
            sent = False
            for folder, machine in list(self._machines.items()):
                sent = await self._send_entries(folder, machine) or sent
                self._tell_need(folder)
            self._tell_gained()
            if not sent and not self._outbox:
                with trio.move_on_after(max(0.0, self._told_at - self._now())):
                    await self._work.wait()

    async def _send_entries(self, folder: FolderId, machine: AntiEntropy) -> bool:
        replica = self._node.replicas().get(folder)
        wanted = machine.next_range(replica.frontier) if replica is not None else None
        if replica is None or wanted is None or self._dismissed:
            return False
        if self._machines.get(folder) is not machine or not self._may_sync(folder):
            return False  # that changed while something else was sent
        entries = replica.read_entries(wanted)
        if not entries:
            return False
        machine.on_sent(wanted.log, wanted.first + len(entries), sum(map(len, entries)))
        message = encode_message(Entries(wanted.log, wanted.first, tuple(entries)))
        await self._frames.send(codec.encode(["sync", folder, message]))
        return True

    def _tell_gained(self) -> None:
        if self._now() < self._told_at:
            return
        for folder, chunks in self._gained.items():
            for at in range(0, len(chunks), HAVES):
                self._queue(["have", folder, b"".join(chunks[at : at + HAVES])])
        self._gained.clear()
        self._told_at = math.inf

    def _tell_need(self, folder: FolderId) -> None:
        need = self._node.need(folder)
        if self._told_need.get(folder) != need:
            self._told_need[folder] = need
            self._queue(["need", folder, *need])

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep(1)
            now = self._now()
            if now - self._heard > SILENCE:
                raise StreamClosed("the peer fell silent")
            if int(now) % int(PING) == 0:
                self._queue(["ping"])
            for folder, machine in list(self._machines.items()):
                replica = self._node.replicas().get(folder)
                if replica is not None:
                    self._do(folder, machine.tick(replica.frontier, now))

    async def _receive(self, nursery: trio.Nursery) -> None:
        while (frame := await self._frames.receive()) is not None:
            self._heard = self._now()
            if self._dismissed:
                continue
            match codec.as_list(codec.decode(frame, MAX_FRAME, MAX_DEPTH), most=5):
                case ["hello", roster, catalog, addresses]:
                    self._on_hello(roster, catalog, addresses)
                case ["share", list(bundles), list(people)]:
                    self._on_share(bundles, people)
                case [_, bytes(folder), *_] if not self._may_sync(FolderId(folder)):
                    pass  # it has no part in that one, or has not heard of it yet
                case ["have" | "coming" | "held?" | "prove?", bytes(folder), *_] if not self._may_read(
                    FolderId(folder)
                ):
                    pass
                case ["sync", bytes(folder), bytes(message)]:
                    await self._on_sync(FolderId(folder), message)
                case ["board", bytes(folder), list(said)]:
                    if FolderId(folder) in self._machines:
                        self._node.packs.on_board(self.device, FolderId(folder), said)
                case ["need", bytes(folder), int(files), int(size)]:
                    if FolderId(folder) in self._node.account.folders():
                        progress = self._progress(FolderId(folder))
                        progress.files, progress.bytes = max(0, files), max(0, size)
                        self._node.on_peer_news(self.device, FolderId(folder))
                case ["have", bytes(folder), bytes(chunks)] if chunks and len(chunks) % CHUNK == 0:
                    if FolderId(folder) in self._node.replicas():
                        ids = [chunks[at : at + CHUNK] for at in range(0, len(chunks), CHUNK)]
                        self._node.on_have(self.device, FolderId(folder), ids)
                case ["coming", bytes(folder), bytes(upload), bytes(near), bytes(pieces)]:
                    self._node.on_coming(self.device, FolderId(folder), decode_coming(upload, near, pieces))
                case ["left", bytes(folder)]:
                    self.progress.pop(FolderId(folder), None)
                    self._machines.pop(FolderId(folder), None)
                    if FolderId(folder) in self._node.replicas():
                        self._machines[FolderId(folder)] = AntiEntropy(
                            own=self._node.replicas()[FolderId(folder)].log_id
                        )
                case ["held?", bytes(folder), int(number), asked]:
                    self.held.on_question(FolderId(folder), number, asked, self._node.attesting.holds)
                case ["held", bytes(), int(number), bytes(said)]:
                    self.held.on_answer(number, said)
                case ["prove?", bytes(folder), int(number), bytes(nonce), asked] if len(nonce) == NONCE:
                    prove = partial(self._node.attesting.prove, self.device, FolderId(folder), nonce)
                    answer = self.held.on_challenge(FolderId(folder), number, asked, prove)
                    if answer is not None:
                        nursery.start_soon(answer)
                case ["proof", bytes(), int(number), list(proofs)]:
                    self.held.on_answer(number, proofs)
                case ["ping"]:
                    self.introduced = True
                case _:
                    raise codec.Malformed("not a message of this protocol")

    def _on_hello(self, roster: Any, catalog: Any, addresses: Any) -> None:
        self._node.mail.take(
            self.device,
            [codec.as_bytes(said) for said in codec.as_list(roster)],
            [codec.as_bytes(said) for said in codec.as_list(catalog)],
        )
        self._node.on_hello(self.device, [codec.as_text(a, 512) for a in codec.as_list(addresses, most=64)])

    def _on_share(self, bundles: list[Any], people: list[Any]) -> None:
        persons = [Person.decode(each) for each in codec.as_list(people, most=MOST_PEOPLE)]
        self._node.sharing.take(
            self.device, decode_bundles(bundles, MOST_SAID), {person.id: person for person in persons}
        )

    async def _on_sync(self, folder: FolderId, message: bytes) -> None:
        machine, replica = self._machines.get(folder), self._node.replicas().get(folder)
        if machine is None or replica is None:
            return  # not joined here: nothing is known of it, and nothing said
        self._progress(folder)
        decoded = self._admissible(folder, replica, decode_message(message))
        if decoded is not None:
            self._do(folder, machine.receive(decoded, replica.frontier))
        await trio.lowlevel.checkpoint()

    def _admissible(self, folder: FolderId, replica: Logs, message: Message) -> Message | None:
        """Return a message without what is not taken of anybody's logs; None where nothing is left of it."""
        match message:
            case Holds(heads, ask):
                return Holds(replica.within_limits(heads), ask)
            case Ack(heads):
                return Ack(replica.within_limits(heads))
            case Entries(log, first):
                limit = replica.limit(log)
                if limit is not None and message.end > limit.length:
                    self._node.on_write_refused(self.device, folder, log.device)
                    kept = message.entries[: max(0, limit.length - first)]
                    return Entries(log, first, kept) if kept else None
        return message

    def _do(self, folder: FolderId, commands: list[Command]) -> None:
        machine, replica = self._machines[folder], self._node.replicas()[folder]
        for command in commands:
            match command:
                case Send(message):
                    self._queue(["sync", folder, encode_message(message)])
                case ApplyEntries(log, _, entries):
                    refusal = replica.receive_entries(entries)
                    blame = refusal.reason if refusal is not None and refusal.misbehaved else None
                    self._do(folder, machine.applied(log, replica.frontier, blame))
                case OwnLogDiverged(log):
                    self._begin_anew(replica, log)
                case CheckOwnLog(log, head):
                    if not replica.holds(log, head):
                        self._begin_anew(replica, log)
                case PeerHolds():
                    self._node.on_peer_news(self.device, folder)
                case PeerMisbehaved(reason):
                    self._node.on_misbehaved(self.device, reason)
                    raise StreamClosed(f"the peer misbehaved: {reason}")
                case _:
                    pass  # checkpoints: entries are never dropped yet, so none is ever due
        self._work.set()

    def _begin_anew(self, replica: Logs, log: LogId) -> None:
        if replica.on_own_log_diverged(log):
            self._node.on_log_restarted()

    def _progress(self, folder: FolderId) -> Progress:
        return self.progress.setdefault(folder, Progress())
