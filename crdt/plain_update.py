"""The one shape of Yjs update that Shoal writes, written and read without a document in memory.

A pycrdt document of a folder of a million files takes 1.5 GB, and what it does with our updates can be said in a line:
new keys of one map are set to bytes, nothing is changed or deleted. In Yjs v1 encoding such an update is

    update  = number of sections, sections, 0 (no deletions)
    section = number of items, client, clock of the first; items, whose clocks follow each other
    item    = 0x28 (any value, with a key), 1 (in a map by name), "facts", key, 1 (value), 116 (bytes), length, bytes

where numbers are LEB128 and strings have their length in front. `parse` returns None for any other update: that is not
wrong, and pycrdt knows what it means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MAP = "facts"
_BEFORE = b"\x28\x01" + bytes([len(MAP)]) + MAP.encode()
_BETWEEN = b"\x01\x74"
MAX_NUMBER = 1 << 53  # clients and clocks are JavaScript's

Items = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Section:
    """What one client wrote: keys and values. `clock`: how many items it had written to this document before."""

    client: int
    clock: int
    items: Items

    @property
    def end(self) -> int:
        """The clock after it."""
        return self.clock + len(self.items)


def encode(section: Section) -> bytes:
    """Return the update that carries a section."""
    parts = [b"\x01", _number(len(section.items)), _number(section.client), _number(section.clock)]
    for key, value in section.items:
        raw = key.encode()
        parts += (_BEFORE, _number(len(raw)), raw, _BETWEEN, _number(len(value)), value)
    parts.append(b"\0")
    return b"".join(parts)


def parse(update: bytes) -> list[Section] | None:
    """Return the sections of an update of this shape, None for another one or for what is no update."""
    try:
        count, at = _read(update, 0)
        sections = []
        for _ in range(count):
            length, at = _read(update, at)
            client, at = _read(update, at)
            clock, at = _read(update, at)
            items = []
            for _ in range(length):
                key, value, at = _item(update, at)
                items.append((key, value))
            sections.append(Section(client, clock, items))
    except (IndexError, ValueError):
        return None
    clients = {section.client for section in sections}
    return sections if update[at:] == b"\0" and len(clients) == count else None


def _item(update: bytes, at: int) -> tuple[str, bytes, int]:
    start = at + len(_BEFORE)
    if update[at:start] != _BEFORE:
        raise ValueError("another item")
    length, start = _read(update, start)
    end = start + length
    if update[end : end + 2] != _BETWEEN:
        raise ValueError("another value")
    key = update[start:end].decode()
    length, start = _read(update, end + 2)
    end = start + length
    if end >= len(update):  # the deletions follow at least
        raise ValueError("it ends too soon")
    return key, update[start:end], end


def _number(value: int) -> bytes:
    if value < 1 << 14:
        return _SMALL[value] if value < 128 else bytes((value & 127 | 128, value >> 7))
    raw = bytearray()
    while value > 127:
        raw.append(value & 127 | 128)
        value >>= 7
    raw.append(value)
    return bytes(raw)


_SMALL = [bytes([value]) for value in range(128)]


def _read(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 127) << shift
        if value >= MAX_NUMBER:
            raise ValueError("a number out of range")
        if byte < 128:
            return value, at + 1
        shift += 7
