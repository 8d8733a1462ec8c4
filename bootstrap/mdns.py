"""Finding devices on the local network: DNS-SD service `_shoal._tcp`, by zeroconf in threads of its own.

A device announces its peer id, its port, and, while a pairing code is open there, the code's public plate. Names and
addresses are hints: who answers there is proven by the connection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

from shoal.bootstrap.peerid import device_from_text, peer_id_text
from shoal.crdt.model import DeviceId

SERVICE = "_shoal._tcp.local."


@dataclass(frozen=True, slots=True)
class Found:
    """A device heard of. `plate`: of its open pairing code, or ""."""

    device: DeviceId
    addresses: tuple[str, ...]
    plate: str


class Mdns:
    """Announces this device and reports others to `on_found`, on the trio thread."""

    def __init__(self, device: DeviceId, port: int, on_found: Callable[[Found], None]) -> None:
        self._device = device
        self._port = port
        self._on_found = on_found
        self._zeroconf: Any = None
        self._info: Any = None
        self.found: dict[DeviceId, Found] = {}
        self.heard = trio.Event()  # set, and replaced, at each report

    async def run(self, hosts: Sequence[str]) -> None:
        """Announce on `hosts` (IPv4) and listen, until cancelled; a machine without multicast goes without."""
        token = trio.lowlevel.current_trio_token()
        try:
            await trio.to_thread.run_sync(self._start, list(hosts), token)
        except OSError:
            return
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._stop)

    async def set_plate(self, plate: str) -> None:
        """Announce that a code with this plate is open here; "" that none is."""
        if self._zeroconf is not None:
            await trio.to_thread.run_sync(self._update, plate)

    def _start(self, hosts: list[str], token: trio.lowlevel.TrioToken) -> None:
        from zeroconf import IPVersion, ServiceBrowser, ServiceStateChange, Zeroconf

        self._zeroconf = Zeroconf(interfaces=hosts, ip_version=IPVersion.V4Only)
        self._hosts = hosts
        self._info = self._describe("")
        self._zeroconf.register_service(self._info, allow_name_change=True)

        def changed(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
            if state_change is ServiceStateChange.Removed:
                return
            info = zeroconf.get_service_info(service_type, name, timeout=2000)
            found = _read(info) if info is not None else None
            if found is not None and found.device != self._device:
                with contextlib.suppress(trio.RunFinishedError):
                    token.run_sync_soon(self._report, found)

        self._browser = ServiceBrowser(self._zeroconf, SERVICE, handlers=[changed])

    def _describe(self, plate: str) -> Any:
        import socket

        from zeroconf import ServiceInfo

        text = peer_id_text(self._device)
        return ServiceInfo(
            SERVICE,
            f"{text[-20:]}.{SERVICE}",
            port=self._port,
            addresses=[socket.inet_aton(host) for host in self._hosts],
            properties={"id": text, "plate": plate},
            server=f"{text[-20:]}.local.",
        )

    def _update(self, plate: str) -> None:
        self._info = self._describe(plate)
        self._zeroconf.update_service(self._info)

    def _stop(self) -> None:
        self._zeroconf.close()

    def _report(self, found: Found) -> None:
        self.found[found.device] = found
        self.heard.set()
        self.heard = trio.Event()
        self._on_found(found)


def _read(info: Any) -> Found | None:
    try:
        properties = {k.decode(): (v or b"").decode() for k, v in info.properties.items()}
        device = device_from_text(properties["id"])
        addresses = tuple(f"/ip4/{host}/tcp/{info.port}" for host in info.parsed_addresses() if ":" not in host)
        return Found(device, addresses, properties.get("plate", ""))
    except (KeyError, ValueError, UnicodeDecodeError, AttributeError):
        return None
