"""Questions of the sync session on what the other device has on its disk and keeps: asked before anything leaves here.

    ["held?", folder id, number, [node id + version id]]    at most `MOST` of them
    ["held", folder id, number, one byte each]              1: this version is on the sender's disk, and wanted there
    ["prove?", ...], ["proof", ...]                         see `possession`

The one who asks has decided before, durably, that it does not keep them, and says no itself from then on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio

from shoal.crdt import codec
from shoal.crdt.model import FactId, FolderId, NodeId

MOST = 500
ANSWERED_WITHIN = 10.0  # seconds
PROVEN_WITHIN = 60.0  # seconds: a disk that sleeps, and many files
AT_ONCE = 4  # challenges of one peer that wait here; what is more is not answered
_SIZE = 28  # bytes of a node id and a version id

Held = tuple[NodeId, FactId]


class HeldQuestions:
    """One session's questions of this kind."""

    def __init__(self, send: Callable[[list[Any]], None]) -> None:
        self._send = send
        self._asked = 0
        self._open: dict[int, trio.Event] = {}
        self._answers: dict[int, Any] = {}
        self._ended = False
        self._reading = trio.Lock()  # one challenge after the other
        self._challenged = 0

    async def ask(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        """Return what the peer says of at most `MOST` versions; no, where it says nothing in time."""
        answer = await self._ask(["held?", folder], [], asked, ANSWERED_WITHIN)
        is_right = isinstance(answer, bytes) and len(answer) == len(asked)
        return [byte == 1 for byte in answer] if is_right else [False] * len(asked)

    async def challenge(self, folder: FolderId, nonce: bytes, asked: Sequence[Held]) -> list[bytes]:
        """Return the peer's proofs for versions; empty ones, where it says nothing in time."""
        answer = await self._ask(["prove?", folder], [nonce], asked, PROVEN_WITHIN)
        is_right = isinstance(answer, list) and len(answer) == len(asked)
        return [each if isinstance(each, bytes) else b"" for each in answer] if is_right else [b""] * len(asked)

    async def _ask(self, head: list[Any], more: list[Any], asked: Sequence[Held], seconds: float) -> Any:
        if self._ended:
            return None
        self._asked += 1
        number = self._asked
        self._open[number] = answered = trio.Event()
        try:
            self._send([*head, number, *more, [node + version for node, version in asked]])
            with trio.move_on_after(seconds):
                await answered.wait()
        finally:
            del self._open[number]
        return self._answers.pop(number, None)

    def on_question(self, folder: FolderId, number: int, asked: Any, holds: Callable[..., list[bool]]) -> None:
        """The peer asks. Raises Malformed."""
        self._send(["held", folder, number, bytes(holds(folder, _versions(asked)))])

    def on_challenge(
        self, folder: FolderId, number: int, asked: Any, prove: Callable[[Sequence[Held]], Awaitable[list[bytes]]]
    ) -> Callable[[], Awaitable[None]] | None:
        """The peer wants proof; return what gives it, None when too much of that waits already. Raises Malformed."""
        versions = _versions(asked)
        if self._challenged >= AT_ONCE:
            return None
        self._challenged += 1

        async def answer() -> None:
            try:
                async with self._reading:
                    self._send(["proof", folder, number, await prove(versions)])
            finally:
                self._challenged -= 1

        return answer

    def end(self) -> None:
        """The session is over: nothing is answered any more."""
        self._ended = True
        for answered in self._open.values():
            answered.set()

    def on_answer(self, number: int, answer: Any) -> None:
        """The peer answers; what nobody waits for any more is dropped."""
        if number in self._open:
            self._answers[number] = answer
            self._open[number].set()


def _versions(asked: Any) -> list[Held]:
    raw = [codec.as_bytes(each, _SIZE) for each in codec.as_list(asked, most=MOST)]
    return [(NodeId(each[:16]), FactId(each[16:])) for each in raw]
