"""Dialling a peer that has many addresses: side by side, a moment apart, those through relays last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection

from shoal.bootstrap.circuit_addresses import is_circuit
from shoal.bootstrap.connections import Connections
from shoal.bootstrap.tcp import Source, connect, read_target, resolve
from shoal.crdt.model import DeviceId

Dial = Callable[[str], Awaitable[None]]
"""Connects to the peer at one address, or raises anything."""

STAGGER_SECONDS = 0.25  # between the starts of dials to one peer's addresses
CIRCUITS_WAIT = 1.0  # seconds that direct dials have before relays are asked, unless all have failed before
RETRIES = 3  # of a dial that failed at once
RETRY_SECONDS = 0.1  # before the first; twice as long before each other


async def first_of(addresses: Sequence[str], dial: Dial, dial_circuit: Dial | None, seconds: float) -> str | None:
    """Return the first address at which a dial came through, each within so many seconds; None when none did."""
    direct = [address for address in addresses if not is_circuit(address)]
    circuits = [address for address in addresses if is_circuit(address)]
    won: list[str] = []
    tried = trio.Event()  # all that is direct, without success
    async with trio.open_nursery() as nursery:

        async def attempt(address: str, way: Dial) -> None:
            with trio.move_on_after(seconds):
                try:
                    await way(address)
                except Exception:
                    return
                won.append(address)
                nursery.cancel_scope.cancel()

        async def attempts(those: list[str], way: Dial) -> None:
            async with trio.open_nursery() as inner:
                for number, address in enumerate(those):
                    await trio.sleep(STAGGER_SECONDS if number else 0)
                    inner.start_soon(attempt, address, way)

        async def attempt_direct() -> None:
            await attempts(direct, dial)
            tried.set()

        nursery.start_soon(attempt_direct)
        if circuits and dial_circuit is not None:
            with trio.move_on_after(CIRCUITS_WAIT):
                await tried.wait()
            await attempts(circuits, dial_circuit)
    return won[0] if won else None


async def dial_direct(address: str, device: DeviceId, upgrades: Connections, sources: list[Source]) -> None:
    """Connect over TCP. Raises OSError, ValueError and what py-libp2p raises."""
    targets = await resolve(read_target(address))
    for left in reversed(range(RETRIES + 1)):
        try:
            # A second dial from the listening port might meet one of the peer's again, on one pair of ports, where
            # both are the client: they become one connection on which nobody answers (see `punch`).
            stream = await connect(targets[(RETRIES - left) % len(targets)], sources, reuse=left == RETRIES)
            local = stream.socket.getsockname()
            connection = await upgrades.dialled(RawConnection(TrioTCPStream(stream), True), device)
            connection.muxed_conn.shoal_from = (str(local[0]), int(local[1]))
            return
        except Exception:
            if not left:
                raise
        await trio.sleep(RETRY_SECONDS * 2 ** (RETRIES - left))
