"""The messages of circuits and of hole punching: as libp2p's own, and no more than is allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.relay.circuit_v2.pb import circuit_pb2, dcutr_pb2

from shoal.bootstrap.circuit_addresses import CircuitAddress, from_bytes, is_circuit, read_circuit, to_bytes
from shoal.bootstrap.circuit_messages import (
    MAX_ADDRESSES,
    MAX_MESSAGE,
    CircuitLimit,
    CircuitPeer,
    HopMessage,
    HopType,
    PunchMessage,
    PunchType,
    Reservation,
    Status,
    StopMessage,
    StopType,
    receive_message,
    send_message,
)
from shoal.bootstrap.peerid import peer_id_bytes, peer_id_text
from shoal.crdt.model import DeviceId
from shoal.dht.protobuf import Malformed, field, number_field
from shoal.transfer.stream import StreamClosed

DEVICE = DeviceId(b"\x07" * 32)
ID = peer_id_bytes(DEVICE)
ADDRESSES = to_bytes(["/ip4/1.2.3.4/tcp/22000", "/ip6/2001:db8::1/tcp/22000"])


def test_a_request_reads_in_libp2p_as_it_was_meant() -> None:
    theirs = circuit_pb2.HopMessage()
    theirs.ParseFromString(HopMessage(HopType.CONNECT, CircuitPeer(ID, ADDRESSES)).encode())
    assert theirs.type == circuit_pb2.HopMessage.CONNECT
    assert theirs.peer.id == ID
    assert tuple(theirs.peer.addrs) == ADDRESSES


def test_the_first_type_is_written_though_it_is_zero() -> None:
    assert HopMessage(HopType.RESERVE).encode() == b"\x08\x00"
    assert StopMessage(StopType.CONNECT).encode() == b"\x08\x00"


def test_what_go_libp2p_answers_is_understood() -> None:
    """`{type: STATUS, reservation: {expire, addrs, voucher}, limit: {duration, data}, status: OK}`, by the spec."""
    reservation = number_field(1, 1_900_000_000) + field(2, ADDRESSES[0]) + field(3, b"a voucher")
    limit = number_field(1, 120) + number_field(2, 1 << 17)
    data = number_field(1, 2) + field(3, reservation) + field(4, limit) + number_field(5, 100)
    assert HopMessage.decode(data) == HopMessage(
        HopType.STATUS, None, Reservation(1_900_000_000, ADDRESSES[:1]), CircuitLimit(120, 1 << 17), Status.OK
    )


def test_punching_reads_in_libp2p_as_it_was_meant() -> None:
    theirs = dcutr_pb2.HolePunch()
    theirs.ParseFromString(PunchMessage(PunchType.CONNECT, ADDRESSES).encode())
    assert theirs.type == dcutr_pb2.HolePunch.CONNECT
    assert tuple(theirs.ObsAddrs) == ADDRESSES
    assert PunchMessage.decode(dcutr_pb2.HolePunch(type=dcutr_pb2.HolePunch.SYNC).SerializeToString()) == PunchMessage(
        PunchType.SYNC
    )


peers = st.none() | st.builds(
    CircuitPeer, st.binary(min_size=1, max_size=64), st.lists(st.binary(max_size=64), max_size=4).map(tuple)
)
limits = st.none() | st.builds(CircuitLimit, st.integers(0, 2**32 - 1), st.integers(0, 2**63))
places = st.none() | st.builds(
    Reservation, st.integers(0, 2**63), st.lists(st.binary(max_size=64), max_size=4).map(tuple)
)
statuses = st.sampled_from(list(Status))


@given(st.builds(HopMessage, st.sampled_from(list(HopType)), peers, places, limits, statuses))
def test_hop_messages_come_back_as_they_were(message: HopMessage) -> None:
    assert HopMessage.decode(message.encode()) == message


@given(st.builds(StopMessage, st.sampled_from(list(StopType)), peers, limits, statuses))
def test_stop_messages_come_back_as_they_were(message: StopMessage) -> None:
    assert StopMessage.decode(message.encode()) == message


@given(st.binary(max_size=200))
def test_garbage_is_malformed_or_a_message(data: bytes) -> None:
    for kind in (HopMessage, StopMessage, PunchMessage):
        try:
            kind.decode(data)
        except Malformed:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x07",  # no such type
        b"\x0a\x01\x00",  # the type as bytes
        field(2, b""),  # a peer without an id
        field(2, field(1, b"x" * 500)),
        field(2, field(1, ID) + field(2, b"x") * (MAX_ADDRESSES + 1)),
        field(2, field(1, ID) + field(2, b"x" * 1000)),
        number_field(1, 2) + number_field(5, 999),
        number_field(1, 2) + field(3, field(1, b"soon")),
        b"\x12\xff",
    ],
)
def test_what_is_over_a_limit_or_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        HopMessage.decode(data)


def test_fields_that_are_not_known_are_skipped() -> None:
    assert HopMessage.decode(b"\x08\x01" + field(99, b"new") + number_field(98, 1)) == HopMessage(HopType.CONNECT)


class Wire:
    """A stream whose other side has said everything already, in pieces of one byte."""

    peer = bytes(DEVICE)

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def receive_some(self, max_bytes: int) -> bytes:
        data, self.data = self.data[:1], self.data[1:]
        return data

    async def send_all(self, data: bytes) -> None:
        self.data += data

    async def aclose(self) -> None: ...

    async def reset(self) -> None: ...


async def test_nothing_behind_a_message_is_read() -> None:
    wire = Wire(b"")
    message = HopMessage(HopType.CONNECT, CircuitPeer(ID, (b"x" * 200,)))
    await send_message(wire, message)
    wire.data += b"what the circuit carries"
    assert HopMessage.decode(await receive_message(wire, 1)) == message
    assert wire.data == b"what the circuit carries"


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x81\x40" + b"x" * MAX_MESSAGE * 2])
async def test_a_message_that_is_too_large_is_not_read(data: bytes) -> None:
    wire = Wire(data)
    with pytest.raises(Malformed):
        await receive_message(wire, 1)
    assert len(wire.data) >= len(data) - 3


@pytest.mark.parametrize("data", [b"", b"\x05", b"\x85", b"\x05abc"])
async def test_a_message_that_ends_early_is_an_end(data: bytes) -> None:
    with pytest.raises(StreamClosed):
        await receive_message(Wire(data), 1)


def test_the_address_of_a_circuit_is_read() -> None:
    relay = peer_id_text(DEVICE)
    text = f"/ip4/1.2.3.4/tcp/5/p2p/{relay}/p2p-circuit"
    assert read_circuit(text) == CircuitAddress(DEVICE, "/ip4/1.2.3.4/tcp/5")
    assert read_circuit(f"{text}/p2p/{relay}") == CircuitAddress(DEVICE, "/ip4/1.2.3.4/tcp/5")
    assert str(read_circuit(text)) == text
    assert is_circuit(text)
    assert not is_circuit(f"/ip4/1.2.3.4/tcp/5/p2p/{relay}")


@pytest.mark.parametrize("text", ["", "/p2p-circuit", "/ip4/1.2.3.4/tcp/5/p2p-circuit", "/p2p/x/p2p-circuit"])
def test_what_is_no_circuit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_circuit(text)


def test_a_circuit_in_a_circuit_is_refused() -> None:
    relay = peer_id_text(DEVICE)
    with pytest.raises(ValueError, match="circuit"):
        read_circuit(f"/ip4/1.2.3.4/tcp/5/p2p/{relay}/p2p-circuit/p2p/{relay}/p2p-circuit")


def test_addresses_that_are_none_are_left_out() -> None:
    assert from_bytes([b"\xff\xff", ADDRESSES[0], b""]) == ["/ip4/1.2.3.4/tcp/22000"]
    assert to_bytes(["nonsense", "/ip4/1.2.3.4/tcp/22000"]) == ADDRESSES[:1]
