"""Facts as bytes: CBOR arrays, checked field by field, because they may come from another implementation.

    version  = [0, id, [replaced ids], lamport, device, time_ms, content]
    location = [1, id, [replaced ids], lamport, device, time_ms, parent, name, kind]    kind: 0 file, 1 dir
    content  = null (deleted) | [0, size, mode, mtime_ns, chunks] | [0, size, mode, mtime_ns, chunks, attributes]
               | [1, target, mtime_ns] | [2, mode]
    attributes = [[name, value], ...], at least one, by name; names begin with "user."

Names and link targets are byte strings: the file system's own bytes, which need not be UTF-8.
"""

from __future__ import annotations

from typing import Any

import cbor2

from shoal.crdt import codec
from shoal.crdt.codec import bytestring, number
from shoal.crdt.model import (
    CHUNK_REF_SIZE,
    MAX_ATTRIBUTES,
    MAX_LAMPORT,
    PERMISSIONS,
    Attributes,
    Content,
    DeviceId,
    DirContent,
    Fact,
    FactId,
    FileContent,
    Kind,
    LinkContent,
    Location,
    NodeId,
    Version,
)

FACT_ID_SIZE = 12
MAX_REPLACES = 10_000
QUICK = 4096  # bytes
RECENT = 4000  # facts whose bytes are kept: a new one is written to the document, and then to the tree's record
MAX_FACT = 64 * 1024 * 1024
MAX_NAME = 255
USER = b"user."  # what the names of extended attributes begin with that are synced
MAX_TARGET = 4096
KINDS: tuple[Kind, ...] = ("file", "dir")

_NONE = b"\x80"  # an empty array

_recent: dict[FactId, tuple[Fact, bytes]] = {}


class MalformedFact(Exception):
    """The bytes are not a fact that any Shoal would write."""


def name_error(name: str) -> str | None:
    """Return why `name` cannot be a node's name, or None when it can."""
    raw = name.encode("utf-8", "surrogateescape")
    if not raw or name in (".", ".."):
        return "it is empty or a dot name"
    if b"/" in raw or b"\0" in raw:
        return "it holds a slash or a NUL"
    if len(raw) > MAX_NAME:
        return f"it is longer than {MAX_NAME} bytes"
    return None


def encode_fact(fact: Fact) -> bytes:
    """Return the fact's bytes."""
    known = _recent.get(fact.id)
    if known is not None and known[0] is fact:
        return known[1]
    data = _encode(fact)
    if len(data) <= QUICK:
        if len(_recent) >= RECENT:
            _recent.clear()
        _recent[fact.id] = fact, data
    return data


def _encode(fact: Fact) -> bytes:
    replaces = cbor2.dumps(fact.replaces) if fact.replaces else _NONE
    common = bytestring(fact.id) + replaces + number(fact.lamport) + bytestring(fact.device) + number(fact.time_ms)
    if isinstance(fact, Version):
        return b"\x87\0" + common + encode_content(fact.content)
    place = bytestring(fact.parent) + bytestring(_raw(fact.name)) + number(KINDS.index(fact.kind))
    return b"\x89\1" + common + place


def decode_fact(data: bytes) -> Fact:
    """Read a fact. Raises MalformedFact."""
    try:
        # A stranger's large numbers cost cbor2 the square of their length: what is long is read by the strict reader.
        fields = cbor2.loads(data) if len(data) <= QUICK else codec.decode(data, MAX_FACT)
        tag, fact_id, replaces, lamport, device, time_ms, *rest = fields
        common = (
            FactId(_bytes(fact_id, FACT_ID_SIZE)),
            tuple(FactId(_bytes(r, FACT_ID_SIZE)) for r in replaces[: MAX_REPLACES + 1]),
            _number(lamport, MAX_LAMPORT),
            DeviceId(_bytes(device, 32)),
            _number(time_ms),
        )
        if len(common[1]) > MAX_REPLACES:
            raise MalformedFact("it replaces too many others")
        if tag == 0:
            (content,) = rest
            return Version(*common, read_content(content))
        if tag != 1:
            raise MalformedFact(f"unknown kind of fact {tag!r}")
        parent, raw, kind = rest
        name = _text(raw, MAX_NAME)
        if name_error(name) is not None:
            raise MalformedFact(f"unfit name: {name_error(name)}")
        return Location(*common, NodeId(_bytes(parent, 16)), name, KINDS[_number(kind)])
    except MalformedFact:
        raise
    except Exception as error:
        raise MalformedFact("not a fact") from error


def encode_content(content: Content | None) -> bytes:
    """Return a content's bytes, as part of a fact's."""
    if isinstance(content, FileContent) and not content.attributes:
        common = number(content.size) + number(content.mode) + number(content.mtime_ns)
        return b"\x85\0" + common + bytestring(content.chunks)
    return cbor2.dumps(content_fields(content))


def content_fields(content: Content | None) -> list[Any] | None:
    """Return a content as plain values."""
    match content:
        case None:
            return None
        case FileContent(size, mode, mtime_ns, chunks, attributes):
            if attributes:
                return [0, size, mode, mtime_ns, chunks, [list(attribute) for attribute in attributes]]
            return [0, size, mode, mtime_ns, chunks]
        case LinkContent(target, mtime_ns):
            return [1, _raw(target), mtime_ns]
        case DirContent(mode):
            return [2, mode]


def read_content(fields: Any) -> Content | None:
    """Read what `content_fields` made. Raises MalformedFact."""
    match fields:
        case None:
            return None
        case [0, size, mode, mtime_ns, bytes(chunks), *more]:
            attributes = _attributes(more[0]) if len(more) == 1 else ()
            if len(more) > 1:
                raise MalformedFact("too much is said of a file")
            found = FileContent(_number(size), _number(mode) & PERMISSIONS, _time(mtime_ns), chunks, attributes)
            if len(chunks) % CHUNK_REF_SIZE or sum(length for _, length in found.refs()) != size:
                raise MalformedFact("the chunks do not add up to the size")
            return found
        case [1, target, mtime_ns]:
            return LinkContent(_text(target, MAX_TARGET), _time(mtime_ns))
        case [2, mode]:
            return DirContent(_number(mode) & PERMISSIONS)
    raise MalformedFact("unknown kind of content")


def _attributes(value: Any) -> Attributes:
    if not isinstance(value, list) or not value:
        raise MalformedFact("unfit attributes")
    found = []
    for each in value:
        if not isinstance(each, list) or len(each) != 2 or not all(isinstance(part, bytes) for part in each):
            raise MalformedFact("unfit attributes")
        found.append((each[0], each[1]))
    if not fit_attributes(tuple(found)):
        raise MalformedFact("unfit attributes")
    return tuple(found)


def fit_attributes(attributes: Attributes) -> bool:
    """Return whether a file may have these, and be synced with them."""
    names = [name for name, _ in attributes]
    right = all(name.startswith(USER) and len(name) <= MAX_NAME and b"\0" not in name for name in names)
    size = sum(len(name) + len(value) for name, value in attributes)
    return right and names == sorted(set(names)) and size <= MAX_ATTRIBUTES


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(value: Any, limit: int) -> str:
    if not isinstance(value, bytes) or not 0 < len(value) <= limit or b"\0" in value:
        raise MalformedFact("unfit text")
    return value.decode("utf-8", "surrogateescape")


def _bytes(value: Any, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise MalformedFact(f"{size} bytes expected")
    return value


def _time(value: Any) -> int:
    if type(value) is not int or abs(value) >= 1 << 63:
        raise MalformedFact("unfit time")
    return value


def _number(value: Any, most: int = (1 << 63) - 1) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise MalformedFact("a number from 0 expected")
    return value
