"""Canonical CBOR: one value has one encoding, and nothing else is read.

Signed and hashed things need this: with ordinary CBOR anyone who forwards an entry could encode the same fields in
another way (a longer length, a trailing byte): the signature would still be good, but the hash that the next entry
names would be another.

Read are null, booleans, integers of 64 bits, byte and text strings, arrays and maps with sorted keys, all of definite
and shortest length (RFC 8949, 4.2, keys sorted by length first); no tags, no floats. Size and depth are bounded before
anything is built, and every item costs its sender at least a byte, so a reader's memory is bounded by what came.
"""

from __future__ import annotations

from typing import Any

import cbor2

MAX_DEPTH = 8
_NUMBERS = [bytes([value]) for value in range(24)]
_HEADS = [bytes([0x40 | length]) if length < 24 else bytes([0x58, length]) for length in range(256)]
_SIMPLE = {0xF4: False, 0xF5: True, 0xF6: None}


class Malformed(ValueError):
    """The bytes are not the canonical encoding of what was expected: their author is at fault."""


def encode(value: Any) -> bytes:
    """Return the one encoding of `value`."""
    return cbor2.dumps(value, canonical=True)


def number(value: int) -> bytes:
    """Return the encoding of an integer of 64 bits. With `bytestring`, for what is encoded so often that a general
    encoder costs too much."""
    if value < 0:
        return cbor2.dumps(value)
    if value < 24:
        return _NUMBERS[value]
    if value < 1 << 16:
        return b"\x18" + value.to_bytes(1) if value < 256 else b"\x19" + value.to_bytes(2)
    return b"\x1a" + value.to_bytes(4) if value < 1 << 32 else b"\x1b" + value.to_bytes(8)


def bytestring(value: bytes) -> bytes:
    """Return the encoding of a byte string."""
    return (_HEADS[len(value)] if len(value) < 256 else _long_head(len(value))) + value


def _long_head(length: int) -> bytes:
    return b"\x59" + length.to_bytes(2) if length < 1 << 16 else b"\x5a" + length.to_bytes(4)


def decode(data: bytes, max_size: int, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value whose encoding `data` is, all of it. Raises Malformed."""
    if len(data) > max_size:
        raise Malformed(f"{len(data)} bytes, the limit is {max_size}")
    try:
        value, end = _item(data, 0, max_depth)
    except IndexError:
        raise Malformed("ends inside an item") from None
    if end != len(data):
        raise Malformed("bytes follow the value")
    return value


def as_bytes(value: Any, size: int | None = None) -> bytes:
    """Return `value` if it is a byte string, of exactly `size` bytes if given. Raises Malformed."""
    if type(value) is not bytes or (size is not None and len(value) != size):
        raise Malformed("not a byte string of the right size")
    return value


def as_int(value: Any, least: int = 0, most: int = (1 << 62) - 1) -> int:
    """Return `value` if it is an integer from `least` to `most`. Raises Malformed."""
    if type(value) is not int or not least <= value <= most:
        raise Malformed("not an integer in range")
    return value


def as_text(value: Any, most: int) -> str:
    """Return `value` if it is a text of at most `most` characters. Raises Malformed."""
    if type(value) is not str or len(value) > most:
        raise Malformed("not a text of the right length")
    return value


def as_bool(value: Any) -> bool:
    """Return `value` if it is a boolean. Raises Malformed."""
    if type(value) is not bool:
        raise Malformed("not a boolean")
    return value


def as_list(value: Any, length: int | None = None, most: int | None = None) -> list[Any]:
    """Return `value` if it is an array, of `length` items if given, of at most `most` if given. Raises Malformed."""
    fits = type(value) is list and length in (None, len(value)) and (most is None or len(value) <= most)
    if not fits:
        raise Malformed("not an array of the right length")
    return list(value)


def _item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    head = data[at]
    major = head >> 5
    if major >= 6:
        if head in _SIMPLE:
            return _SIMPLE[head], at + 1
        raise Malformed("a tag, a float or another value that is not used here")
    count, at = _count(data, at, head & 31)
    if major == 0:
        return count, at
    if major == 1:
        return -1 - count, at
    if count > len(data) - at:
        raise Malformed("announces more than there is")
    if major <= 3:
        raw = data[at : at + count]
        return raw if major == 2 else _text(raw), at + count
    if depth == 0:
        raise Malformed("nested too deep")
    if major == 4:
        items = []
        for _ in range(count):
            value, at = _item(data, at, depth - 1)
            items.append(value)
        return items, at
    return _map(data, at, count, depth - 1)


def _map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[Any, Any], int]:
    found: dict[Any, Any] = {}
    before = (0, b"")
    for _ in range(count):
        start = at
        key, at = _item(data, at, 0)
        order = (at - start, data[start:at])
        if order <= before or type(key) is list or type(key) is dict:
            raise Malformed("map keys out of order")
        before = order
        found[key], at = _item(data, at, depth)
    return found, at


def _count(data: bytes, at: int, info: int) -> tuple[int, int]:
    if info < 24:
        return info, at + 1
    if info > 27:
        raise Malformed("an indefinite or reserved length")
    width = 1 << (info - 24)
    end = at + 1 + width
    if end > len(data):
        raise Malformed("ends inside an item")
    count = int.from_bytes(data[at + 1 : end])
    if count < (24 if width == 1 else 1 << (4 * width)):
        raise Malformed("a longer form than needed")
    return count, end


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed("text that is not UTF-8") from error
