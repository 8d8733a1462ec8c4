"""NAT-PMP (RFC 6886): asking the router for a port, in two messages of a few bytes. Pure.

question   version 0, opcode, then for a mapping: 2 bytes of 0, own port, wished port, seconds (4 bytes)
answer     version 0, opcode + 128, result (2), seconds since the router started (4), then: the public IPv4 address;
           or own port, public port, seconds
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

PORT = 5351
_ADDRESS, _MAP_TCP = 0, 2
_ANSWER = 128
_HEAD = struct.Struct(">BBHI")
_MAPPING = struct.Struct(">HHI")
MOST_SECONDS = 7 * 24 * 3600


class NotMapped(Exception):
    """The router refused, or said what makes no sense; the message says why."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A port of the router that leads to one of ours, for so many seconds."""

    own_port: int
    public_port: int
    seconds: int


def ask_address() -> bytes:
    """Return the question for the public address."""
    return bytes((0, _ADDRESS))


def ask_mapping(own_port: int, wished_port: int, seconds: int) -> bytes:
    """Return the question for a mapping; 0 seconds and a wish of 0 give it back."""
    return bytes((0, _MAP_TCP, 0, 0)) + _MAPPING.pack(own_port, wished_port, seconds)


def read_address(answer: bytes) -> ipaddress.IPv4Address:
    """Raises NotMapped."""
    return ipaddress.IPv4Address(_body(answer, _ADDRESS, 4))


def read_mapping(answer: bytes, own_port: int) -> Mapping:
    """Raises NotMapped, also for an answer about another port."""
    own, public, seconds = _MAPPING.unpack(_body(answer, _MAP_TCP, _MAPPING.size))
    if own != own_port or (seconds and not public):
        raise NotMapped("an answer to another question")
    return Mapping(own, public, min(seconds, MOST_SECONDS))


def _body(answer: bytes, opcode: int, size: int) -> bytes:
    if len(answer) < _HEAD.size:
        raise NotMapped("an answer that is too short")
    version, said, result, _ = _HEAD.unpack_from(answer)
    if version != 0 or said != opcode + _ANSWER:
        raise NotMapped("an answer to another question")
    if result != 0:
        raise NotMapped(f"the router refused: result {result}")
    if len(answer) < _HEAD.size + size:
        raise NotMapped("an answer that is too short")
    return answer[_HEAD.size : _HEAD.size + size]
