"""A port of the router that leads to the one that is listened on: by NAT-PMP, else by UPnP (IGD, through miniupnpc).

Kept while `run` runs, given back at its end; a router that does neither costs a few questions now and then. An address
that is not public is of no use: the router is behind another.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import trio

from shoal.bootstrap import natpmp
from shoal.bootstrap.natpmp import NotMapped

LASTS = 3600  # seconds that are asked for
FIRST_WAIT, LAST_WAIT = 30.0, 3600.0  # seconds between two attempts where none works
TRIES = (0.25, 0.5, 1.0)  # seconds that an answer of NAT-PMP is waited for
UPNP_FINDS = 1500  # milliseconds in which routers answer
UPNP_WITHIN = 20.0  # seconds for all of it
DESCRIPTION = "Shoal"
ROUTES = Path("/proc/net/route")

Way = Literal["nat-pmp", "upnp"]


@dataclass(frozen=True, slots=True)
class Mapped:
    """A mapping that there is. `address`: a multiaddr; `seconds`: how long it lasts."""

    way: Way
    address: str
    public_port: int
    seconds: int


class PortMapper:
    """Of one port. `mapped`: what there is now; `on_change` is called as it changes."""

    def __init__(self, port: int, on_change: Callable[[], None]) -> None:
        self._port = port
        self._on_change = on_change
        self._gateway = default_gateway
        self._moved = trio.Event()
        self._upnp: Any = None
        self.mapped: Mapped | None = None

    def moved(self) -> None:
        """The machine is in another network."""
        self._moved.set()

    async def run(self) -> None:
        """Keep a mapping until cancelled; then give it back."""
        failures = 0
        try:
            while True:
                self._moved = trio.Event()
                found = await self._map()
                failures = 0 if found is not None else failures + 1
                if found != self.mapped:
                    self.mapped = found
                    self._on_change()
                wait = found.seconds / 2 if found is not None else min(LAST_WAIT, FIRST_WAIT * 2 ** (failures - 1))
                with trio.move_on_after(wait * random.uniform(0.9, 1.0)):
                    await self._moved.wait()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await self._give_back()

    async def _map(self) -> Mapped | None:
        for way in (self._by_natpmp, self._by_upnp):
            with contextlib.suppress(NotMapped, OSError):
                return await way()
        return None

    # -- NAT-PMP -----------------------------------------------------------------------------------------------------

    async def _by_natpmp(self) -> Mapped:
        """Raises NotMapped, OSError."""
        gateway = self._gateway()
        if gateway is None:
            raise NotMapped("there is no router")
        public = natpmp.read_address(await ask(gateway, natpmp.ask_address()))
        question = natpmp.ask_mapping(self._port, self._port, LASTS)
        made = natpmp.read_mapping(await ask(gateway, question), self._port)
        return _mapped("nat-pmp", str(public), made.public_port, made.seconds)

    # -- UPnP --------------------------------------------------------------------------------------------------------

    async def _by_upnp(self) -> Mapped:
        """Raises NotMapped."""
        with trio.move_on_after(UPNP_WITHIN):
            return await trio.to_thread.run_sync(self._upnp_map, abandon_on_cancel=True)  # type: ignore[call-arg]
        raise NotMapped("no router answers")

    def _upnp_map(self) -> Mapped:
        import miniupnpc  # type: ignore[import-not-found]

        router = miniupnpc.UPnP()
        router.discoverdelay = UPNP_FINDS
        try:
            if not router.discover():
                raise NotMapped("no router answers")
            router.selectigd()
            public = router.externalipaddress()
            port = self._port
            if not router.addportmapping(port, "TCP", router.lanaddr, port, DESCRIPTION, "", LASTS):
                raise NotMapped("the router refused")
        except NotMapped:
            raise
        except Exception as error:  # the library raises bare Exceptions
            raise NotMapped(str(error)) from error
        self._upnp = router
        return _mapped("upnp", public, port, LASTS)

    async def _give_back(self) -> None:
        mapped, self.mapped = self.mapped, None
        if mapped is None:
            return
        with contextlib.suppress(Exception):
            if mapped.way == "nat-pmp":
                gateway = self._gateway()
                if gateway is not None:
                    await ask(gateway, natpmp.ask_mapping(self._port, 0, 0))
            else:
                give_back = partial(self._upnp.deleteportmapping, mapped.public_port, "TCP")
                await trio.to_thread.run_sync(give_back, abandon_on_cancel=True)  # type: ignore[call-arg]


def _mapped(way: Way, host: str, port: int, seconds: int) -> Mapped:
    try:
        ip = ipaddress.IPv4Address(host)
    except ValueError as error:
        raise NotMapped(f"{host!r} is no address") from error
    if not ip.is_global:
        raise NotMapped(f"{ip} is not public: the router is behind another")
    return Mapped(way, f"/ip4/{ip}/tcp/{port}", port, seconds or LASTS)


async def ask(gateway: str, question: bytes) -> bytes:
    """Ask a router by NAT-PMP; return its answer: only from where the question went one is taken. Raises NotMapped,
    OSError."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.connect((gateway, natpmp.PORT))
        for wait in TRIES:
            await sock.send(question)
            with trio.move_on_after(wait):
                while True:
                    answer = await sock.recv(64)
                    if len(answer) > 1 and answer[1] == question[1] + 128:
                        return answer
    raise NotMapped("the router does not answer")


def default_gateway() -> str | None:
    """Return the router's IPv4 address, where the system says it (Linux)."""
    try:
        lines = ROUTES.read_text().splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) > 3 and fields[1] == "00000000" and int(fields[3], 16) & 2:
            return socket.inet_ntoa(struct.pack("<I", int(fields[2], 16)))
    return None
