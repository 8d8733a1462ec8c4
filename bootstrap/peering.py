"""Keeps a connection to every trusted device: dials what the address book knows, waits longer after each failure, and
starts anew when something is heard of the device."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable

import trio
from trio_typing import TaskStatus

from shoal.bootstrap.addressbook import AddressBook
from shoal.bootstrap.backoff import delay
from shoal.bootstrap.circuit_addresses import is_circuit
from shoal.bootstrap.host import Host, Unreachable
from shoal.crdt.model import DeviceId

ANSWERER_WAITS = 0.7  # seconds that the device with the greater id leaves the other to dial first

DIRECT_AGAIN, DIRECT_MOST = 12.0, 600.0  # seconds between two attempts to do without a relay
MOST_SAID = 16  # addresses
SHORT = 2.0  # seconds; conversations that end sooner are begun again on the same connection, some times
AGAIN, AGAIN_AFTER = 3, 0.1  # times; seconds, twice as long each time


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
        self._said: dict[DeviceId, tuple[str, ...]] = {}
        self.punch: Callable[[DeviceId], None] = lambda device: None  # a hole to a device, if that is possible
        self.on_lost: Callable[[], None] = lambda: None
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
            self._heard.pop(device, None)
            self._said.pop(device, None)

    def hint(self, device: DeviceId, addresses: Iterable[str]) -> None:
        """Addresses of a device were heard of: try them now."""
        if device in self._trusted:
            self._book.learn(device, addresses)
            self._wake(device)

    def suggest(self, device: DeviceId, addresses: Iterable[str]) -> None:
        """Somebody who may lie says where a device is: try it there, and forget that when more is said."""
        if device in self._trusted:
            self._said[device] = tuple(addresses)[:MOST_SAID]
            self._wake(device)

    def upgraded(self, device: DeviceId) -> None:
        """A device that was reached through a relay is connected directly: the conversation goes on over that."""
        self._wake(device)

    def moved(self) -> None:
        """This machine is in another network: try everybody now."""
        for device in self._trusted:
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
        if device in self._trusted:
            self.on_lost()

    def _wake(self, device: DeviceId) -> None:
        if device in self._trusted:
            self._heard.setdefault(device, trio.Event()).set()

    async def _keep(self, device: DeviceId, scope: trio.CancelScope) -> None:
        with scope:
            failures = 0
            if device < self._host.device:
                await self._pause(device, ANSWERER_WAITS)
            while True:
                if device in self._host.connected():
                    is_short = await self._serve(device, is_last=failures >= AGAIN)
                    failures = failures + 1 if is_short else 0
                    if failures > AGAIN:
                        await trio.sleep(delay(failures - AGAIN, random.random()))
                    elif failures:
                        await trio.sleep(AGAIN_AFTER * 2**failures * random.uniform(0.8, 1.2))
                    continue
                tried = self._addresses(device)
                try:
                    address = await self._dial(device, tried)
                except Unreachable:
                    if self._addresses(device) != tried or device in self._host.connected():
                        failures = 0
                        continue
                    failures += 1
                    if await self._pause(device, delay(failures, random.random())):
                        failures = 0
                else:
                    self._book.worked(device, address, self._now_ms())
        await self._host.disconnect(device)

    async def _dial(self, device: DeviceId, addresses: list[str]) -> str:
        """Connect to a device, and return the address that worked. Raises Unreachable, also when others are heard of
        meanwhile."""
        if not addresses:
            raise Unreachable("no address is known")
        found = ""
        async with trio.open_nursery() as nursery:

            async def until_heard() -> None:
                while self._addresses(device) == addresses and device not in self._host.connected():
                    heard = self._heard[device] = trio.Event()
                    await heard.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_heard)
            found = await self._connect(device, addresses)
            nursery.cancel_scope.cancel()
        if not found:
            raise Unreachable("it is elsewhere, or came by itself")
        return found

    async def _connect(self, device: DeviceId, addresses: list[str]) -> str:
        try:
            return await self._host.connect(device, addresses)
        except Unreachable:
            return ""

    async def _serve(self, device: DeviceId, *, is_last: bool) -> bool:
        """Run `while_up` until the connection is gone, or the device turned out to be; return whether that was short.
        `is_last`: the connection is closed then, too: before, the other may just not have been ready."""
        began = trio.current_time()
        self._book.seen(device, self._now_ms())
        ways = self._host.ways(device)
        relayed = self._host.is_relayed(device)
        begins = self._host.device < device  # the conversation: it is begun anew as there is a better way
        async with trio.open_nursery() as nursery:

            async def until_down() -> None:
                while not self._host.are_closed(ways) and not (relayed and begins and self._host.is_direct(device)):
                    await self._pause(device, 5)
                nursery.cancel_scope.cancel()

            async def work() -> None:
                await self._while_up(device)
                nursery.cancel_scope.cancel()

            nursery.start_soon(until_down)
            nursery.start_soon(work)
            if relayed:
                nursery.start_soon(self._seek_direct, device)
        self._book.seen(device, self._now_ms())
        is_short = trio.current_time() - began < SHORT
        if is_last or not is_short or (relayed and self._host.is_direct(device)):
            await self._host.close(ways)  # and none that came since: it goes on over that
        return is_short

    async def _seek_direct(self, device: DeviceId) -> None:
        """Try now and then whether a device that is reached by a relay can be reached without."""
        wait = DIRECT_AGAIN
        while True:
            self.punch(device)
            await trio.sleep(wait * random.uniform(0.8, 1.2))
            wait = min(2 * wait, DIRECT_MOST)
            direct = [address for address in self._addresses(device) if not is_circuit(address)]
            if direct:
                with contextlib.suppress(Unreachable):
                    await self._host.connect(device, direct)

    def _addresses(self, device: DeviceId) -> list[str]:
        """Return where to try a device: those that worked or were told, then what is only said of it."""
        return list(dict.fromkeys([*self._book.addresses(device), *self._said.get(device, ())]))

    async def _pause(self, device: DeviceId, seconds: float) -> bool:
        """Wait; return whether something was heard of the device before the time was up."""
        self._heard[device] = trio.Event()
        with trio.move_on_after(seconds):
            await self._heard[device].wait()
            return True
        return False
