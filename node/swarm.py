"""Several devices that need the same at once: who they are, and what each is told of what has come here.

See `transfer.shares` for what is made of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from shoal.crdt.model import DeviceId, FolderId
from shoal.node.folder.coming import Coming
from shoal.node.session import Session
from shoal.transfer.client import Fetcher

ASK_AGAIN = 5.0  # seconds


class Swarm:
    """What one node knows of the needs of the devices that it is connected with."""

    def __init__(
        self,
        own: DeviceId,
        fetcher: Fetcher,
        sessions: Mapping[DeviceId, Session],
        need: Callable[[FolderId], tuple[int, int]],
    ) -> None:
        """`sessions`: those that run, at any time; `need`: files and bytes that this disk lacks of a folder."""
        self._own = own
        self._fetcher = fetcher
        self._sessions = sessions
        self._need = need
        self._rivals: dict[FolderId, frozenset[DeviceId]] = {}
        self._asked_at: dict[DeviceId, float] = {}

    def may_have_more(self, device: DeviceId, folder: FolderId, now: float) -> bool:
        """Return whether it is time to ask a device again for what it lacked. One that needs the same says what comes
        to it, but for what it did not get from others."""
        if device in self._rivals.get(folder, ()) and now < self._asked_at.get(device, -math.inf) + ASK_AGAIN:
            return False
        self._asked_at[device] = now
        return True

    def on_need(self, folder: FolderId) -> None:
        """What somebody needs of a folder, this device or another, may have changed."""
        files, size = self._need(folder)
        known = self._rivals.get(folder, frozenset())
        rivals = frozenset(
            device
            for device, session in self._sessions.items()
            if files and _is_rival(session, folder, size, already=device in known)
        )
        if rivals != known:
            self._rivals[folder] = rivals
            self._fetcher.set_rivals(folder, self._own, rivals)

    def tell_coming(self, folder: FolderId, coming: Coming) -> None:
        """This device reads a large file, and can give chunks of it: those who keep the folder are told."""
        for session in self._sessions.values():
            if folder in session.progress:
                session.tell_coming(folder, coming)

    def on_arrived(self, folder: FolderId, chunks: Sequence[bytes]) -> None:
        """Chunks came to this disk: those who may lack them are told."""
        for session in self._sessions.values():
            progress = session.progress.get(folder)
            if progress is not None and (progress.files or not session.holds_others(folder)):
                session.tell_have(folder, chunks)


def _is_rival(session: Session, folder: FolderId, size: int, *, already: bool) -> bool:
    """Return whether a device lacks about what this one lacks, `size` bytes; it stays one until it lacks nothing."""
    progress = session.progress.get(folder)
    if progress is None:
        return False
    if not session.holds_others(folder):  # it is about to learn what this device has just learnt
        return True
    return bool(progress.files) and (already or 2 * progress.bytes >= size)
