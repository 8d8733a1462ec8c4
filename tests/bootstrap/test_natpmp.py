"""NAT-PMP's messages, as RFC 6886 has them."""

from __future__ import annotations

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.bootstrap.natpmp import Mapping, NotMapped, ask_address, ask_mapping, read_address, read_mapping
from shoal.bootstrap.portmap import _mapped

HEAD = struct.pack(">I", 77)


def test_the_questions_are_those_of_the_standard() -> None:
    assert ask_address() == b"\x00\x00"
    assert ask_mapping(22400, 22400, 3600) == b"\x00\x02\x00\x00" + struct.pack(">HHI", 22400, 22400, 3600)


def test_the_answers_are_read() -> None:
    assert read_address(b"\x00\x80\x00\x00" + HEAD + bytes((5, 6, 7, 8))) == ipaddress.IPv4Address("5.6.7.8")
    answer = b"\x00\x82\x00\x00" + HEAD + struct.pack(">HHI", 22400, 40000, 1800)
    assert read_mapping(answer, 22400) == Mapping(22400, 40000, 1800)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\x82\x00\x02" + HEAD + bytes(8),  # not authorised
        b"\x01\x82\x00\x00" + HEAD + struct.pack(">HHI", 22400, 1, 1),  # another version
        b"\x00\x82\x00\x00" + HEAD + struct.pack(">HHI", 22401, 1, 1),  # another port
        b"\x00\x82\x00\x00" + HEAD + struct.pack(">HHI", 22400, 0, 1),  # no port
        b"\x00\x80\x00\x00" + HEAD + bytes(8),  # another question
        b"\x00\x82\x00\x00" + HEAD + bytes(3),
    ],
)
def test_what_is_no_answer_is_none(answer: bytes) -> None:
    with pytest.raises(NotMapped):
        read_mapping(answer, 22400)


@given(st.binary(max_size=40))
def test_garbage_is_refused_and_nothing_else(garbage: bytes) -> None:
    with contextlib.suppress(NotMapped):
        read_mapping(garbage, 1)
    with contextlib.suppress(NotMapped):
        read_address(garbage)


@pytest.mark.parametrize("address", ["192.168.1.1", "10.0.0.1", "100.64.3.4", "0.0.0.0", "nonsense"])
def test_an_address_that_is_not_public_is_of_no_use(address: str) -> None:
    with pytest.raises(NotMapped):
        _mapped("upnp", address, 1, 1)
