"""Raw connections made into connections of the swarm: those that come in through listeners, those dialled, circuits,
and those that are punched, whose roles do not follow from who dialled.

In place of py-libp2p's own handler of what comes in, which stays until the swarm ends: so its place among the limits
was never given back, and the 65th connection from one address was refused for good.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

import trio
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_PING, YAMUX_HEADER_FORMAT
from multiaddr import Multiaddr

from shoal.bootstrap.limits import InboundLimits
from shoal.bootstrap.peerid import peer_id_bytes
from shoal.bootstrap.tcp import prepare
from shoal.crdt.model import DeviceId

UPGRADE_SECONDS = 10.0


def raw_of(connection: Any) -> Any:
    """Return the raw connection below one of the swarm's: below Yamux, a session, and Noise; None where it ended."""
    try:
        return connection.muxed_conn.secured_conn.conn.conn
    except AttributeError:
        return None


async def answers(connection: Any, seconds: float) -> bool:
    """Return whether the other end of a connection of the swarm answers a ping of Yamux's in time."""
    muxed = connection.muxed_conn
    with trio.move_on_after(seconds):
        try:
            muxed._ping_id += 1
            answered = muxed._ping_event = trio.Event()
            muxed._ping_sent_time = trio.current_time()
            await muxed._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, muxed._ping_id))
            await answered.wait()
            return True
        except Exception:
            return False
    return False


class WrongPeer(Exception):
    """Somebody else answered."""


class Connections:
    """Upgrades raw connections with a swarm's own functions."""

    def __init__(self, network: Any, limits: InboundLimits) -> None:
        self._network = network
        self._limits = limits
        self._punched: dict[tuple[str, int], DeviceId] = {}
        network._do_handle_inbound_connection = self._serve
        limits.guard(network)

    async def accept(self, raw: Any, counted_as: str) -> None:
        """Serve a connection that came another way than through a listener, until it ends. `counted_as`: whose part of
        the limits it takes."""
        if not self._limits.admit(counted_as):
            await raw.close()
            return
        try:
            await self._hold(raw)
        finally:
            self._limits.release(counted_as)

    async def dialled(self, raw: Any, device: DeviceId) -> Any:
        """Upgrade as the one who dialled; return the swarm's connection. Raises whatever went wrong."""
        try:
            with trio.fail_after(UPGRADE_SECONDS):
                return await self._network.upgrade_outbound_raw_conn(raw, ID(peer_id_bytes(device)))
        except BaseException:
            if not self._is_up(raw):  # who waited for it may cancel this as soon as it is
                with contextlib.suppress(Exception), trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await raw.close()
            raise

    def _is_up(self, raw: Any) -> bool:
        """Return whether a raw connection is one of the swarm's."""
        return any(raw_of(each) is raw for those in self._network.connections.values() for each in those)

    async def answered(self, raw: Any, device: DeviceId) -> None:
        """Upgrade a connection that both dialled as the one who was dialled. Raises whatever went wrong."""
        muxed = await self._network.upgrade_inbound_raw_conn(raw, Multiaddr("/ip4/0.0.0.0/tcp/0"))
        if muxed.peer_id != ID(peer_id_bytes(device)):
            await muxed.close()
            raise WrongPeer

    async def prove(self, raw: Any, device: DeviceId) -> None:
        """Have whoever is at the other end of a dialled connection prove to be the device, and close it. Raises
        whatever went wrong."""
        try:
            await self._network.upgrader.upgrade_security(raw, True, ID(peer_id_bytes(device)))
        finally:
            with contextlib.suppress(Exception), trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await raw.close()

    @contextlib.contextmanager
    def punching(self, device: DeviceId, remotes: list[tuple[str, int]]) -> Iterator[None]:
        """While it is open: what comes in from these addresses was sent to meet a dial of ours, and is upgraded as if
        we had dialled."""
        mine = {remote: device for remote in remotes if remote not in self._punched}
        self._punched.update(mine)
        try:
            yield
        finally:
            for remote in mine:
                del self._punched[remote]

    async def _serve(self, stream: TrioTCPStream, *args: Any) -> None:
        prepare(stream.stream.socket)
        remote = stream.get_remote_address()
        device = self._punched.get(remote) if remote is not None else None
        await self._hold(RawConnection(stream, device is not None), device)

    async def _hold(self, raw: Any, device: DeviceId | None = None) -> None:
        """Upgrade, and wait for the end: who counts connections counts those that are there."""
        try:
            if device is None:
                muxed = await self._network.upgrade_inbound_raw_conn(raw, Multiaddr("/ip4/0.0.0.0/tcp/0"))
            else:
                muxed = (await self.dialled(raw, device)).muxed_conn
            await muxed.event_closed.wait()
        except Exception:
            with contextlib.suppress(Exception):
                await raw.close()
