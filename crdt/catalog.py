"""The folders of an account: a growing set of signed statements, each sealed with a secret of the account.

A statement says: this folder exists, has this name and these secrets, one for each epoch. Statements are never changed;
of two with one folder id the greatest (time, device, bytes) counts for the name, and the secrets of all are known, so
every replica of the set shows the same catalog in any order of arrival. What a device said that is no member any more
does not count: the members say it again. A peer that is not of the account sees ciphertext of like length and can forge
none: the outer layer is signed by a device and checked against the roster.

    statement = CBOR [account id, device, sealed, signature]
    sealed    = XChaCha20-Poly1305 under a secret of the account, of CBOR [folder id, name, secrets, time_ms], and at
                its end, where there is something to say of it: the account that had the folder first, empty for this
                one; [folder id, node] of which it was a part
    secrets   = [[epoch, secret]...] in order, or the secret of epoch 0 alone
    signature = Ed25519 by device over b"shoal folder statement" + account id + sealed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shoal.crdt import codec
from shoal.crdt.keys import EPOCH_BITS, DeviceKey, FolderKeys, Unsealable, open_sealed, seal, verify_signature
from shoal.crdt.model import DeviceId, FolderId, NodeId

CONTEXT = b"shoal folder statement"
MAX_STATEMENT = 1024 * 1024
MAX_EPOCHS = 10_000
MAX_NAME = 255

Secrets = tuple[tuple[int, bytes], ...]
"""(epoch, 32 bytes) of each epoch, in order."""


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A folder of the account. `secrets`: what all of the folder's keys are derived from; `founder`: the account that
    shares it with this one, empty for a folder of its own; `within`: a folder, and the node there that this was."""

    id: FolderId
    name: str
    secrets: Secrets = field(repr=False)
    time_ms: int
    founder: bytes = b""
    within: tuple[FolderId, NodeId] | None = None

    def keys(self) -> FolderKeys:
        """Return the folder's keys."""
        return FolderKeys(dict(self.secrets))


@dataclass(frozen=True, slots=True)
class _Read:
    entry: FolderEntry
    author: DeviceId
    sealed_with: bytes = field(repr=False)
    order: tuple[int, bytes, bytes]


def make_statement(account: bytes, secret: bytes, key: DeviceKey, entry: FolderEntry) -> bytes:
    """Return the signed statement that `entry` is a folder of the account."""
    body: list[Any] = [entry.id, entry.name, [list(pair) for pair in entry.secrets], entry.time_ms]
    if entry.founder or entry.within:
        body.append(entry.founder)
    if entry.within:
        body.append(list(entry.within))
    sealed = seal(secret, codec.encode(body), CONTEXT + account)
    return codec.encode([account, key.id, sealed, key.sign(CONTEXT + account + sealed)])


class Catalog:
    """The statements that hold, and the folders they make. Unfit statements are dropped, and counted in `refused`."""

    def __init__(
        self,
        account: bytes,
        secrets: Callable[[], Sequence[bytes]],
        is_known: Callable[[DeviceId], bool],
        is_member: Callable[[DeviceId], bool],
    ) -> None:
        """`secrets`: those of the account that are known, the newest first; `is_known`: whether a device is or was a
        member."""
        self.account = account
        self.refused = 0
        self.version = 0  # it grows with what is held
        self._secrets = secrets
        self._is_known = is_known
        self._is_member = is_member
        self._held: dict[bytes, _Read] = {}

    def add(self, statements: Iterable[bytes]) -> list[bytes]:
        """Take statements in any order, again or for the first time; return those that were news. Of what one device
        said of a folder only the last is kept that says all that it said before."""
        news = []
        for statement in statements:
            if statement in self._held:
                continue
            read = self._read(statement)
            if read is None:
                self.refused += 1
                continue
            about = read.author, read.entry.id
            own = {said: known for said, known in self._held.items() if (known.author, known.entry.id) == about}
            if any(_says_all(known, read) for known in own.values()):
                continue
            for older in [said for said, known in own.items() if _says_all(read, known)]:
                del self._held[older]
            self._held[statement] = read
            self.version += 1
            news.append(statement)
        return news

    def statements(self) -> list[bytes]:
        """Return every statement held, in byte order."""
        return sorted(self._held)

    def folders(self) -> dict[FolderId, FolderEntry]:
        """Return the folders by id, by what members say."""
        return {folder: entry for folder, (entry, _) in self._best(self._is_member).items()}

    def to_say_again(self, secret: bytes, is_exposed: Callable[[bytes], bool]) -> list[tuple[FolderEntry, bool]]:
        """Return the folders that no member vouches for, or whose newest statement was not sealed with this secret, the
        one that all members have; and whether what that was sealed with is exposed: to whom it may be known, may read
        what comes."""
        vouched = self._best(self._is_member)
        orphans = {folder: pair for folder, pair in self._best(self._is_known).items() if folder not in vouched}
        again = [(entry, sealed) for entry, sealed in vouched.values() if sealed != secret] + [*orphans.values()]
        return [(entry, is_exposed(sealed_with)) for entry, sealed_with in again]

    def _best(self, counts: Callable[[DeviceId], bool]) -> dict[FolderId, tuple[FolderEntry, bytes]]:
        """Return what the greatest statements say, with the secrets of all, and what each was sealed with."""
        by_folder: dict[FolderId, list[_Read]] = {}
        for read in sorted(self._held.values(), key=lambda read: read.order):
            if counts(read.author):
                by_folder.setdefault(read.entry.id, []).append(read)
        best = {}
        for folder, all_reads in by_folder.items():
            # Nobody takes a folder over by saying later that it was another's first.
            reads = [read for read in all_reads if read.entry.founder == all_reads[0].entry.founder]
            last = reads[-1]
            secrets = dict(pair for read in reversed(reads) for pair in read.entry.secrets)  # of two, the older
            best[folder] = replace(last.entry, secrets=tuple(sorted(secrets.items()))), last.sealed_with
        return best

    def _read(self, statement: bytes) -> _Read | None:
        try:
            account, device, sealed, signature = codec.as_list(codec.decode(statement, MAX_STATEMENT), length=4)
            author = DeviceId(codec.as_bytes(device, 32))
            if account != self.account or not self._is_known(author):
                return None
            signed = CONTEXT + self.account + codec.as_bytes(sealed)
            if not verify_signature(author, signed, codec.as_bytes(signature, 64)):
                return None
            opened = self._open(sealed)
            if opened is None:
                return None
            sealed_with, plain = opened
            entry = _entry(codec.as_list(codec.decode(plain, MAX_STATEMENT)))
        except codec.Malformed:
            return None
        return _Read(entry, author, sealed_with, (entry.time_ms, author, statement)) if entry.name else None

    def _open(self, sealed: bytes) -> tuple[bytes, bytes] | None:
        for secret in self._secrets():
            try:
                return secret, open_sealed(secret, sealed, CONTEXT + self.account)
            except Unsealable:
                continue
        return None


def _says_all(one: _Read, other: _Read) -> bool:
    """Return whether a statement of a device makes an earlier one of it superfluous."""
    return (
        one.order > other.order
        and one.sealed_with == other.sealed_with
        and (one.entry.founder, one.entry.within) == (other.entry.founder, other.entry.within)
        and set(one.entry.secrets) >= set(other.entry.secrets)
    )


def _entry(fields: list[Any]) -> FolderEntry:
    founder: Any = b""
    outer: Any = None
    match fields:
        case [folder, name, secrets, time_ms]:
            pass
        case [folder, name, secrets, time_ms, founder]:
            pass
        case [folder, name, secrets, time_ms, founder, [outer, part]]:
            pass
        case _:
            raise codec.Malformed("not a folder of an account")
    return FolderEntry(
        FolderId(codec.as_bytes(folder, 16)),
        codec.as_text(name, MAX_NAME),
        secrets_from(secrets),
        codec.as_int(time_ms),
        b"" if founder == b"" else codec.as_bytes(founder, 32),
        None if outer is None else (FolderId(codec.as_bytes(outer, 16)), NodeId(codec.as_bytes(part, 16))),
    )


def secrets_from(value: Any) -> Secrets:
    """Return secrets as they are kept and sent. Raises codec.Malformed for such as no folder has."""
    if isinstance(value, bytes):
        return ((0, codec.as_bytes(value, 32)),)
    pairs = [codec.as_list(pair, length=2) for pair in codec.as_list(value)]
    secrets = tuple((codec.as_int(epoch), codec.as_bytes(secret, 32)) for epoch, secret in pairs)
    if len(secrets) > MAX_EPOCHS:
        raise codec.Malformed("more epochs than any folder has")
    before = -1 << EPOCH_BITS
    for epoch, _ in secrets:  # a number out of reach would leave none for those that follow
        if epoch <= before or epoch >> EPOCH_BITS > (before >> EPOCH_BITS) + 1:
            raise codec.Malformed("epochs that are not in order")
        before = epoch
    if not secrets or secrets[0][0] != 0:
        raise codec.Malformed("no first epoch")
    return secrets
