"""Protobuf as far as the DHT needs it: two kinds of fields (protobuf.dev, Encoding).

By hand, as the limits that `messages` keeps are none that a generated parser does.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _BYTES = 0, 2  # wire types


class Malformed(Exception):
    """Not a message of this protocol, or over a limit; the message says why."""


def with_length(data: bytes) -> bytes:
    """Return a frame: the length as a varint, then the data."""
    return varint(len(data)) + data


def varint(number: int) -> bytes:
    """Return an unsigned LEB128 number."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number, and where what follows it begins. Raises Malformed."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("a number that does not end")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield each field's number, and its value. Raises Malformed."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = read_varint(data, at)
            yield number, value
        elif wire == _BYTES:
            size, at = read_varint(data, at)
            if size > len(data) - at:
                raise Malformed("a field that does not end")
            yield number, data[at : at + size]
            at += size
        elif wire in (1, 5):  # fixed sizes, of fields that are not known
            at += 8 if wire == 1 else 4
            if at > len(data):
                raise Malformed("a field that does not end")
        else:
            raise Malformed("a field of no known kind")


def number_field(field: int, value: int) -> bytes:
    """Return a field that holds a number."""
    return varint(field << 3 | _VARINT) + varint(value)


def field(field: int, value: bytes) -> bytes:
    """Return a field that holds bytes."""
    return varint(field << 3 | _BYTES) + varint(len(value)) + value
