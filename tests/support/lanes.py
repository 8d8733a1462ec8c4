"""Bulk channels between two ends in this process, over real sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from shoal.bootstrap.bulk import TcpConnection
from shoal.transfer.aead import Cipher
from shoal.transfer.bulk import TOKEN_SIZE, Grant, lane_keys
from shoal.transfer.lanes import Lanes
from shoal.transfer.messages import MAX_FRAME, MAX_WANT

GIVER, TAKER = b"G" * 32, b"T" * 32


@contextlib.contextmanager
def lane_pair(
    count: int = 1, cipher: Cipher = Cipher.AEGIS_256
) -> Iterator[tuple[Lanes, Lanes, list[tuple[socket.socket, socket.socket]]]]:
    """Give the taker's end, the giver's, and for each lane the two plain sockets in its middle: nothing gets through
    unless somebody carries it from one to the other."""
    with contextlib.ExitStack() as stack:
        takers, givers, middles = [], [], []
        for _ in range(count):
            (taker, near), (giver, far) = socket.socketpair(), socket.socketpair()
            takers.append(TcpConnection(taker))
            givers.append(TcpConnection(giver))
            middles.append((near, far))
            for each in (takers[-1], givers[-1], near, far):
                stack.callback(each.close)
        yield *_ends(cipher, takers, givers), middles


@contextlib.contextmanager
def joined_pair(count: int = 1, cipher: Cipher = Cipher.AEGIS_256) -> Iterator[tuple[Lanes, Lanes]]:
    """Give both ends of a channel with nobody in its middle."""
    with contextlib.ExitStack() as stack:
        takers, givers = [], []
        for _ in range(count):
            taker, giver = socket.socketpair()
            takers.append(TcpConnection(taker))
            givers.append(TcpConnection(giver))
            stack.callback(takers[-1].close)
            stack.callback(givers[-1].close)
        yield _ends(cipher, takers, givers)


def _ends(cipher: Cipher, takers: list[TcpConnection], givers: list[TcpConnection]) -> tuple[Lanes, Lanes]:
    grant = Grant(cipher, 1, b"s" * 32, tuple(bytes([n]) * TOKEN_SIZE for n in range(len(takers))))
    taker_keys, giver_keys = lane_keys(grant, "taker").values(), lane_keys(grant, "giver").values()
    return (
        Lanes(GIVER, list(zip(takers, taker_keys, strict=True)), MAX_FRAME),
        Lanes(TAKER, list(zip(givers, giver_keys, strict=True)), MAX_WANT),
    )
