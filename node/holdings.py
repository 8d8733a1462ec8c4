"""Questions of the sync session on what the other device has on its disk and keeps: asked before anything leaves here.

    ["held?", folder id, number, [node id + version id]]    at most `MOST` of them
    ["held", folder id, number, one byte each]              1: this version is on the sender's disk, and wanted there

The one who asks has decided before, durably, that it does not keep them, and says no itself from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio

from shoal.crdt import codec
from shoal.crdt.model import FactId, FolderId, NodeId

MOST = 500
ANSWERED_WITHIN = 10.0  # seconds
_SIZE = 28  # bytes of a node id and a version id

Held = tuple[NodeId, FactId]


class HeldQuestions:
    """One session's questions of this kind."""

    def __init__(self, send: Callable[[list[Any]], None]) -> None:
        self._send = send
        self._asked = 0
        self._open: dict[int, trio.Event] = {}
        self._answers: dict[int, bytes] = {}
        self._ended = False

    async def ask(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        """Return what the peer says of at most `MOST` versions; no, where it says nothing in time."""
        if self._ended:
            return [False] * len(asked)
        self._asked += 1
        number = self._asked
        self._open[number] = answered = trio.Event()
        try:
            self._send(["held?", folder, number, [node + version for node, version in asked]])
            with trio.move_on_after(ANSWERED_WITHIN):
                await answered.wait()
        finally:
            del self._open[number]
        answer = self._answers.pop(number, b"")
        return [byte == 1 for byte in answer] if len(answer) == len(asked) else [False] * len(asked)

    def on_question(self, folder: FolderId, number: int, asked: Any, holds: Callable[..., list[bool]]) -> None:
        """The peer asks. Raises Malformed."""
        raw = [codec.as_bytes(each, _SIZE) for each in codec.as_list(asked, most=MOST)]
        answers = holds(folder, [(NodeId(each[:16]), FactId(each[16:])) for each in raw])
        self._send(["held", folder, number, bytes(answers)])

    def end(self) -> None:
        """The session is over: nothing is answered any more."""
        self._ended = True
        for answered in self._open.values():
            answered.set()

    def on_answer(self, number: int, answer: bytes) -> None:
        """The peer answers; what nobody waits for any more is dropped."""
        if number in self._open:
            self._answers[number] = answer
            self._open[number].set()
