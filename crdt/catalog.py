"""The folders of an account: a growing set of signed statements, each sealed with the account's secret.

A statement says: this folder exists, has this name and this secret. Statements are never changed; of two with one
folder id the greatest (time, device, bytes) counts, so every replica of the set shows the same catalog in any order
of arrival. A peer that is not of the account sees ciphertext of like length and can forge none: the outer layer is
signed by a device and checked against the roster.

    statement = CBOR [account id, device, sealed, signature]
    sealed    = XChaCha20-Poly1305 under the account secret, of CBOR [folder id, name, folder secret, time_ms]
    signature = Ed25519 by device over b"shoal folder statement" + account id + sealed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import cbor2

from shoal.crdt.keys import DeviceKey, open_sealed, seal, verify_signature
from shoal.crdt.model import DeviceId, FolderId

CONTEXT = b"shoal folder statement"
MAX_STATEMENT = 4096
MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A folder of the account. `secret`: 32 bytes that all of the folder's keys are derived from."""

    id: FolderId
    name: str
    secret: bytes = field(repr=False)
    time_ms: int


def make_statement(account: bytes, secret: bytes, key: DeviceKey, entry: FolderEntry) -> bytes:
    """Return the signed statement that `entry` is a folder of the account."""
    body = cbor2.dumps([entry.id, entry.name, entry.secret, entry.time_ms])
    sealed = seal(secret, body, CONTEXT + account)
    return cbor2.dumps([account, key.id, sealed, key.sign(CONTEXT + account + sealed)])


class Catalog:
    """The statements that hold, and the folders they make. Unfit statements are dropped, and counted in `refused`."""

    def __init__(self, account: bytes, secret: bytes, is_member: Callable[[DeviceId], bool]) -> None:
        self.account = account
        self.refused = 0
        self._secret = secret
        self._is_member = is_member
        self._held: dict[bytes, tuple[tuple[int, bytes, bytes], FolderEntry]] = {}

    def add(self, statements: Iterable[bytes]) -> list[bytes]:
        """Take statements in any order, again or for the first time; return those that were news."""
        news = []
        for statement in statements:
            if statement in self._held:
                continue
            read = self._read(statement)
            if read is None:
                self.refused += 1
                continue
            self._held[statement] = read
            news.append(statement)
        return news

    def statements(self) -> list[bytes]:
        """Return every statement held, in byte order."""
        return sorted(self._held)

    def folders(self) -> dict[FolderId, FolderEntry]:
        """Return the folders by id: for each, what its greatest statement says."""
        best: dict[FolderId, tuple[tuple[int, bytes, bytes], FolderEntry]] = {}
        for order, entry in self._held.values():
            if entry.id not in best or best[entry.id][0] < order:
                best[entry.id] = (order, entry)
        return {folder: entry for folder, (_, entry) in best.items()}

    def _read(self, statement: bytes) -> tuple[tuple[int, bytes, bytes], FolderEntry] | None:
        if len(statement) > MAX_STATEMENT:
            return None
        try:
            account, device, sealed, signature = cbor2.loads(statement)
            if account != self.account or not self._is_member(device):
                return None
            if not verify_signature(device, CONTEXT + self.account + sealed, signature):
                return None
            folder, name, secret, time_ms = cbor2.loads(open_sealed(self._secret, sealed, CONTEXT + self.account))
        except Exception:  # whatever a stranger's bytes provoke, it is the same refusal
            return None
        fits = (
            isinstance(folder, bytes)
            and len(folder) == 16
            and isinstance(name, str)
            and 0 < len(name) <= MAX_NAME
            and isinstance(secret, bytes)
            and len(secret) == 32
            and isinstance(time_ms, int)
        )
        if not fits:
            return None
        return (time_ms, device, statement), FolderEntry(FolderId(folder), name, secret, time_ms)
