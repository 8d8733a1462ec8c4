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

from shoal.crdt import codec
from shoal.crdt.keys import DeviceKey, Unsealable, open_sealed, seal, verify_signature
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
    body = codec.encode([entry.id, entry.name, entry.secret, entry.time_ms])
    sealed = seal(secret, body, CONTEXT + account)
    return codec.encode([account, key.id, sealed, key.sign(CONTEXT + account + sealed)])


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
        try:
            account, device, sealed, signature = codec.as_list(codec.decode(statement, MAX_STATEMENT), length=4)
            author = DeviceId(codec.as_bytes(device, 32))
            if account != self.account or not self._is_member(author):
                return None
            signed = CONTEXT + self.account + codec.as_bytes(sealed)
            if not verify_signature(author, signed, codec.as_bytes(signature, 64)):
                return None
            plain = open_sealed(self._secret, sealed, CONTEXT + self.account)
            folder, name, secret, time_ms = codec.as_list(codec.decode(plain, MAX_STATEMENT), length=4)
            entry = FolderEntry(
                FolderId(codec.as_bytes(folder, 16)),
                codec.as_text(name, MAX_NAME),
                codec.as_bytes(secret, 32),
                codec.as_int(time_ms),
            )
        except (codec.Malformed, Unsealable):
            return None
        return ((entry.time_ms, author, statement), entry) if entry.name else None
