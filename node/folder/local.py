"""The synced tree: what disk and document last agreed on, and the signs by which a later change on disk is noticed.

Keys after the folder's 16 bytes, in column `local`:
    n + node                   the record
    c + parent + name          the child's node id, 1 for a folder or 0, and its `SIGNATURE`; older: the id alone; by
                               key + NUL + name where the disk takes several names for one
    N                          the sign of the rules for that, see `name_rules`; none where all names are told apart
    i + device + inode         the node id
    o + owner + copy           empty; conflict copies on disk
    t + node                   the record as it will be once a file has taken its name, with the temporary's signature
    v, a, p                    see `keeping`
    b, q                       see `bases`
    #                          how many nodes there are
    !                          empty; there once the whole folder was looked at
and those of `chunk_places` (k, d, u).
"""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cbor2

from shoal.crdt.codec import bytestring
from shoal.crdt.facts import encode_content, read_content
from shoal.crdt.model import ROOT, Content, FactId, FileContent, FolderId, Kind, NodeId
from shoal.node.folder.chunk_places import PACKED, ChunkPlaces
from shoal.node.folder.signature import Signature
from shoal.node.name_rules import PLAIN, NameRules, same
from shoal.node.store import Staging

PARKED = NodeId(b"\xff" * 16)  # the parent of nodes that wait under .shoal/tmp for their name to become free

PRIVATE = ".shoal"
MAX_DEPTH = 250  # names in a path: a path has less than 4,096 bytes on any disk that Shoal runs on
PARKING = f"{PRIVATE}/tmp/"
VERSIONS = f"{PRIVATE}/versions/"
OBJECTS = f"{PRIVATE}/objects/"
CACHED = 10_000  # decoded records
FRESH = 10_000
FEW = 100
SIGNATURE = struct.Struct(">QQQqqI")


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node that is on disk. `version`: the version that its content is; `content`: that content, as on disk."""

    id: NodeId
    parent: NodeId
    name: str
    kind: Kind
    version: FactId | None
    content: Content
    signature: Signature
    copy_of: NodeId | None = None


class LocalIndex:
    """The synced tree of one folder on the store."""

    def __init__(self, staging: Staging, folder: FolderId) -> None:
        """`staging`: the replica's, so that what was agreed on is written in one batch with what was agreed."""
        self._staging = staging
        self._folder = folder
        self.places = ChunkPlaces(self._staging, folder)
        self._cache: OrderedDict[NodeId, LocalNode] = OrderedDict()
        self.fresh: deque[NodeId] = deque(maxlen=FRESH)  # whose content came to the disk, for who has the time to look
        self._copies: dict[NodeId, set[NodeId]] = {}  # few, and asked for at every change
        self.rules, self.folds = PLAIN, False
        self.on_failed: Callable[[], None] = (
            self.load
        )  # called when a commit was not written: all that was staged is gone
        self.load()

    def load(self) -> None:
        """Take the store's word for everything: what was staged is gone."""
        self._cache.clear()
        self._copies.clear()
        for key, _ in self._staging.scan("local", self._folder + b"o"):
            self._copies.setdefault(NodeId(key[17:33]), set()).add(NodeId(key[33:]))
        self.walked = self._staging.get("local", self._folder + b"!") is not None
        count = self._staging.get("local", self._folder + b"#")
        if count is not None:
            self.count = int.from_bytes(count)
        else:  # none yet, or an older version's
            self.count = sum(1 for _ in self._staging.scan("local", self._folder + b"n"))

    def get(self, node: NodeId) -> LocalNode | None:
        cached = self._cache.get(node)
        if cached is not None:
            return cached
        data = self._staging.get("local", self._folder + b"n" + node)
        if data is None:
            return None
        record = _decode(node, data)
        self._keep(record)
        return record

    def child(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node on disk at this place."""
        row = self._staging.get("local", self._place(parent, name))
        return NodeId(row[:16]) if row is not None else None

    def holder(self, parent: NodeId, name: str) -> NodeId | None:
        """Return the node on disk at this place, or at one that is the same to the disk."""
        found = self.child(parent, name)
        return found if found is not None or not self.folds else next(iter(self.alike(parent, name).values()), None)

    def alike(self, parent: NodeId, name: str) -> dict[str, NodeId]:
        """Return the nodes on disk in a folder whose names are the same as this to the disk, by name."""
        if not self.folds:
            found = self.child(parent, name)
            return {name: found} if found is not None else {}
        prefix = self._folder + b"c" + parent + _raw(self.rules.key(name)) + b"\0"
        return {_text(key[len(prefix) :]): NodeId(row[:16]) for key, row in self._staging.scan("local", prefix)}

    def children(self, parent: NodeId) -> dict[str, NodeId]:
        """Return the nodes on disk in a folder, by name."""
        return {name: NodeId(row[:16]) for name, row in self.rows(parent).items()}

    def rows(self, parent: NodeId) -> dict[str, bytes]:
        """Return what is on disk in a folder, by name: rows that begin with the node's id, and are equal to `row_of` it
        where it is as it was."""
        prefix = self._folder + b"c" + parent
        rows = self._staging.scan("local", prefix)
        return {_text(key[len(prefix) :].rpartition(b"\0")[2]): row for key, row in rows}

    def names_between(self, parent: NodeId, first: str, last: str, most: int) -> set[str] | None:
        """Return the names on disk in a folder from `first` to `last`, in the order of their bytes; None when there are
        more than `most`, or they are not in this order."""
        if self.folds:
            return None
        prefix, end = self._folder + b"c" + parent, _raw(last)
        found: set[str] = set()
        for key, _ in self._staging.scan("local", prefix, _raw(first)):
            name = key[len(prefix) :]
            if name > end:
                break
            found.add(_text(name))
            if len(found) > most:
                return None
        return found

    def by_inode(self, device: int, inode: int) -> NodeId | None:
        return _node(self._staging.get("local", self._folder + b"i" + device.to_bytes(8) + inode.to_bytes(8)))

    def copies(self, owner: NodeId) -> list[NodeId]:
        """Return the conflict copies of `owner` that are on disk."""
        return sorted(self._copies.get(owner, ()))

    def sources(self, chunk: bytes) -> Iterator[tuple[str, int, int]]:
        """Yield where the chunk's bytes should be on this disk: relative path, offset, length; live files first."""
        for node, offset, length in self.places.live(chunk):
            path = self.path(node)
            if path is not None:
                yield path, offset, length
        for name, offset, length in self.places.kept(chunk):
            yield (object_path(chunk), 0, length) if name.endswith(PACKED) else (VERSIONS + name, offset, length)

    def put(self, node: LocalNode) -> None:
        """Stage a record in place of the one with its id."""
        old = self.get(node.id)
        if old is None:
            self.add([node])
            return
        same = _chunks(old) == _chunks(node)
        self._unlink(old, keep_chunks=same)
        self._keep(node)
        self._staging.put_all("local", self._rows_of(node))
        if not same:
            self.places.add([(node.id, node.content)])
            self.fresh.append(node.id)

    def add(self, nodes: Sequence[LocalNode]) -> None:
        """Stage the records of nodes that have none."""
        if not nodes:
            return
        rows: list[tuple[bytes, bytes]] = []
        for node in nodes:
            rows += self._rows_of(node)
            if node.kind == "dir" or len(nodes) <= FEW:  # of very many, the folders alone are asked for soon
                self._keep(node)
        self._staging.put_all("local", rows)
        self.places.add([(node.id, node.content) for node in nodes])
        self.fresh.extend([node.id for node in nodes])
        self._count(len(nodes))

    def _rows_of(self, node: LocalNode) -> list[tuple[bytes, bytes]]:
        folder, raw, signature = self._folder, _raw(node.name), SIGNATURE.pack(*node.signature)
        rows = [
            (folder + b"n" + node.id, _encode(node, raw, signature)),
            (self._place(node.parent, node.name), _row(node.id, node.kind == "dir", signature)),
            (folder + b"i" + signature[:16], node.id),  # which begins with device and inode
        ]
        if node.copy_of is not None:
            rows.append((folder + b"o" + node.copy_of + node.id, b""))
            self._copies.setdefault(node.copy_of, set()).add(node.id)
        return rows

    def put_signature(self, node: LocalNode, signature: Signature) -> None:
        """Stage that what is on disk is the same with another signature."""
        self.put(replace(node, signature=signature))

    def remove(self, node: NodeId) -> None:
        """Stage the removal of a record."""
        old = self.get(node)
        if old is not None:
            self._unlink(old, keep_chunks=False)
            self._cache.pop(node, None)
            self._staging.delete("local", self._folder + b"n" + node)
            self._count(-1)

    def intend(self, node: LocalNode) -> None:
        """Stage that a file is about to take its name: after a crash, what has the name may be that file."""
        data = _encode(node, _raw(node.name), SIGNATURE.pack(*node.signature))
        self._staging.put("local", self._folder + b"t" + node.id, data)

    def intended(self) -> list[LocalNode]:
        """Return what was to be placed and is not known to have been."""
        prefix = self._folder + b"t"
        rows = self._staging.scan("local", prefix)
        return [_decode(NodeId(key[len(prefix) :]), data) for key, data in rows]

    def forget_intention(self, node: NodeId) -> None:
        """Stage that it is known what became of it."""
        self._staging.delete("local", self._folder + b"t" + node)

    def hold_names(self, rules: NameRules) -> bool:
        """Go by what such a disk takes for one name; stage that, and return whether it is another than before."""
        sign = self._folder + b"N"
        before, after = self._staging.get("local", sign), None if rules.plain else rules.sign()
        self.rules, self.folds = rules, rules.folds
        if before == after:
            return False
        for key, _ in list(self._staging.scan("local", self._folder + b"c")):
            self._staging.delete("local", key)
        for record in self.records():
            row = row_of(record.id, record.kind == "dir", record.signature)
            self._staging.put("local", self._place(record.parent, record.name), row)
        if after is None:
            self._staging.delete("local", sign)
        else:
            self._staging.put("local", sign, after)
        return True

    @property
    def fold(self) -> Callable[[str], str]:
        """What is equal for names that are one to the disk."""
        return self.rules.key if self.folds else same

    def last_rules(self) -> NameRules:
        """Return what the disk was found to be when the folder last started."""
        sign = self._staging.get("local", self._folder + b"N")
        return NameRules.of_sign(sign) if sign is not None else PLAIN

    def odd_ones(self) -> list[LocalNode]:
        """Return the nodes whose name another has to the disk, too, or that the disk does not hold as it is."""
        alike = Counter((record.parent, self.rules.key(record.name)) for record in self.records())
        return [
            record
            for record in self.records()
            if record.parent != PARKED
            and (alike[record.parent, self.rules.key(record.name)] > 1 or self.rules.spell(record.name) != record.name)
        ]

    def records(self) -> Iterator[LocalNode]:
        """Yield every record there is."""
        prefix = self._folder + b"n"
        for key, data in list(self._staging.scan("local", prefix)):
            yield _decode(NodeId(key[len(prefix) :]), data)

    def commit(self, *, sync: bool = False) -> None:
        """Write what was staged. Unsynced by default: what is lost is seen and recognised again by a scan."""
        try:
            self._staging.commit(sync=sync)
        except BaseException:
            self.on_failed()
            raise

    def erase(self) -> None:
        """Forget the whole folder."""
        for column in ("local", "chunk"):
            for key, _ in list(self._staging.scan(column, self._folder)):
                self._staging.delete(column, key)
        self._staging.commit()
        self._cache.clear()
        self._copies.clear()
        self.count = 0
        self.walked = False

    def set_walked(self) -> None:
        """The whole folder was looked at: what is on disk is known, but for what changed since."""
        if not self.walked:
            self.walked = True
            self._staging.put("local", self._folder + b"!", b"")
            self.commit()

    def path(self, node: NodeId) -> str | None:
        """Return the node's path on disk relative to the root, "" for the root; None when it is not on disk."""
        parts: list[str] = []
        while node != ROOT:
            record = self.get(node)
            if record is None or len(parts) > 4096:
                return None
            parts.append(record.name)
            if record.parent == PARKED:
                return PARKING + "/".join(reversed(parts))
            node = record.parent
        return "/".join(reversed(parts))

    def subtree(self, node: NodeId, without: Collection[NodeId] = ()) -> list[LocalNode]:
        """Return the node's record and those of all that is in it, what is in a folder before the folder; `without`
        these, and what is in them."""
        found: list[LocalNode] = []
        queue = [node]
        while queue:
            record = self.get(queue.pop())
            if record is not None and record.id not in without:
                found.append(record)
                queue += self.children(record.id).values() if record.kind == "dir" else ()
        return found[::-1]

    def find(self, path: str) -> NodeId | None:
        """Return the node on disk at a relative path. Nothing is inside of what is no folder: not of a link to one."""
        directory, _, name = path.rpartition("/")
        parent = self.find_folder(directory)
        if parent is None or not name:
            return parent if not name else None
        return self.holder(parent, name)

    def find_folder(self, path: str) -> NodeId | None:
        """Return the folder on disk at a relative path; also one that waits for its name."""
        node = PARKED if path.startswith(PARKING) else ROOT
        path = path.removeprefix(PARKING)
        for part in path.split("/") if path else ():
            child = self.holder(node, part)
            record = self.get(child) if child is not None else None
            if record is None or record.kind != "dir":
                return None
            node = record.id
        return node

    def _count(self, more: int) -> None:
        self.count += more
        self._staging.put("local", self._folder + b"#", self.count.to_bytes(8))

    def _place(self, parent: NodeId, name: str) -> bytes:
        key = _raw(self.rules.key(name)) + b"\0" if self.folds else b""
        return self._folder + b"c" + parent + key + _raw(name)

    def _keep(self, record: LocalNode) -> None:
        self._cache[record.id] = record
        self._cache.move_to_end(record.id)
        if len(self._cache) > CACHED:
            self._cache.popitem(last=False)

    def _unlink(self, old: LocalNode, *, keep_chunks: bool) -> None:
        place = self._place(old.parent, old.name)
        row = self._staging.get("local", place)
        if row is not None and row[:16] == old.id:
            self._staging.delete("local", place)
        inode = self._folder + b"i" + old.signature.device.to_bytes(8) + old.signature.inode.to_bytes(8)
        if self._staging.get("local", inode) == old.id:
            self._staging.delete("local", inode)
        if old.copy_of is not None:
            self._staging.delete("local", self._folder + b"o" + old.copy_of + old.id)
            self._copies.get(old.copy_of, set()).discard(old.id)
        if not keep_chunks:
            self.places.drop(old.id, old.content)


_NULL = b"\xf6"


def object_path(chunk: bytes) -> str:
    """Return the relative path of the file that holds a chunk of packed versions."""
    text = chunk.hex()
    return f"{OBJECTS}{text[:2]}/{text}"


def _chunks(node: LocalNode) -> bytes:
    return node.content.chunks if isinstance(node.content, FileContent) else b""


def _raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _node(data: bytes | None) -> NodeId | None:
    return NodeId(data) if data is not None else None


def row_of(node: NodeId, is_dir: bool, signature: Signature) -> bytes:
    """Return a node's row among those in its folder."""
    return _row(node, is_dir, SIGNATURE.pack(*signature))


def _row(node: NodeId, is_dir: bool, signature: bytes) -> bytes:
    return node + (b"\1" if is_dir else b"\0") + signature


def _encode(node: LocalNode, name: bytes, signature: bytes) -> bytes:
    """Return the CBOR of [parent, name, kind, version, content, packed signature, copy of]."""
    kind = b"\x63dir" if node.kind == "dir" else b"\x64file"
    version = bytestring(node.version) if node.version is not None else _NULL
    copy_of = bytestring(node.copy_of) if node.copy_of is not None else _NULL
    common = bytestring(node.parent) + bytestring(name) + kind + version + encode_content(node.content)
    return b"\x87" + common + bytestring(signature) + copy_of


def _decode(node: NodeId, data: bytes) -> LocalNode:
    fields: list[Any] = cbor2.loads(data)
    parent, name, kind, version, content, signature, copy_of = fields
    found = read_content(content)
    assert found is not None
    # An array in records that older versions wrote.
    known = Signature(*(SIGNATURE.unpack(signature) if isinstance(signature, bytes) else signature))
    return LocalNode(node, parent, _text(name), kind, version, found, known, copy_of)
