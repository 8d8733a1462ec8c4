"""Keeps a connection to every trusted device: dials what the address book knows, waits longer after each failure, and
starts anew when something is heard of the device."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable

import trio
from trio_typing import TaskStatus

from shoal.bootstrap.addressbook import AddressBook
from shoal.bootstrap.backoff import delay
from shoal.bootstrap.host import Host, Unreachable
from shoal.crdt.model import DeviceId

ANSWERER_WAITS = 0.7  # seconds that the device with the greater id leaves the other to dial first

SHORT = 2.0  # seconds; conversations that end sooner are not begun again at once


class Peering:
    """`on_up` and `on_down` are called as trusted devices come and go; `while_up` runs while one is connected."""

    def __init__(
        self, host: Host, book: AddressBook, now_ms: Callable[[], int], while_up: Callable[[DeviceId], Awaitable[None]]
    ) -> None:
        self._host = host
        self._book = book
        self._now_ms = now_ms
        self._while_up = while_up
        self._nursery: trio.Nursery | None = None
        self._trusted: dict[DeviceId, trio.CancelScope] = {}
        self._heard: dict[DeviceId, trio.Event] = {}
        self.remote: dict[DeviceId, str] = {}  # where each connected device is connected from
        self.up = trio.Event()  # set, and replaced, as `while_up` gets ready for a device
        host.on_connected = self._connected
        host.on_disconnected = self._disconnected

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    def trust(self, devices: Iterable[DeviceId]) -> None:
        """Keep connections to exactly these devices."""
        wanted = set(devices) - {self._host.device}
        for device in wanted - set(self._trusted):
            assert self._nursery is not None
            self._trusted[device] = trio.CancelScope()
            self._nursery.start_soon(self._keep, device, self._trusted[device])
        for device in set(self._trusted) - wanted:
            self._trusted.pop(device).cancel()

    def hint(self, device: DeviceId, addresses: Iterable[str]) -> None:
        """Addresses of a device were heard of: try them now."""
        if device in self._trusted:
            self._book.learn(device, addresses)
            self._wake(device)

    def announce_up(self) -> None:
        """Wake who waits for `up`."""
        self.up.set()
        self.up = trio.Event()

    def connected(self) -> set[DeviceId]:
        """Return the trusted devices that are connected."""
        return self._host.connected() & set(self._trusted)

    def remote_host(self, device: DeviceId) -> str:
        """Return the IP address that a device is connected from; "" when it is not."""
        return self.remote.get(device, "").rpartition(":")[0]

    def _connected(self, device: DeviceId, address: str) -> None:
        self.remote[device] = address
        self._wake(device)

    def _disconnected(self, device: DeviceId) -> None:
        self.remote.pop(device, None)
        self._wake(device)

    def _wake(self, device: DeviceId) -> None:
        self._heard.setdefault(device, trio.Event()).set()

    async def _keep(self, device: DeviceId, scope: trio.CancelScope) -> None:
        with scope:
            failures = 0
            if device < self._host.device:
                await self._pause(device, ANSWERER_WAITS)
            while True:
                if device in self._host.connected():
                    began = trio.current_time()
                    await self._serve(device)
                    failures = failures + 1 if trio.current_time() - began < SHORT else 0
                    if failures > 1:
                        await trio.sleep(delay(failures, random.random()))
                    continue
                addresses = self._book.addresses(device)
                try:
                    if not addresses:
                        raise Unreachable("no address is known")
                    address = await self._host.connect(device, addresses)
                except Unreachable:
                    failures += 1
                    if await self._pause(device, delay(failures, random.random())):
                        failures = 0
                else:
                    self._book.worked(device, address, self._now_ms())
        await self._host.disconnect(device)

    async def _serve(self, device: DeviceId) -> None:
        """Run `while_up` until the connection is gone, or the device turned out to be."""
        self._book.seen(device, self._now_ms())
        async with trio.open_nursery() as nursery:

            async def until_down() -> None:
                while device in self._host.connected():
                    await self._pause(device, 5)
                nursery.cancel_scope.cancel()

            async def work() -> None:
                await self._while_up(device)
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_down)
            nursery.start_soon(work)
        self._book.seen(device, self._now_ms())
        await self._host.disconnect(device)

    async def _pause(self, device: DeviceId, seconds: float) -> bool:
        """Wait; return whether something was heard of the device before the time was up."""
        self._heard[device] = trio.Event()
        with trio.move_on_after(seconds):
            await self._heard[device].wait()
            return True
        return False
