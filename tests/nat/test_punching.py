"""Two nodes behind routers of their own, and two seeds in public: how soon they are connected, and how. Each is a
process of its own: this file, run as a program, is one.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import netns
import pytest
import trio
from netns import Internet, Kind, Machine

from shoal.bootstrap.circuit import Circuits
from shoal.bootstrap.host import run_host
from shoal.bootstrap.peerid import device_from_text, peer_id_text
from shoal.bootstrap.punch import Punching
from shoal.bootstrap.reachability import DialBack, Reachability
from shoal.bootstrap.relay import Relay
from shoal.transfer.stream import ByteStream

ECHO = "/test/echo/1"
PORT = 22000
IP4, IP6 = f"/ip4/0.0.0.0/tcp/{PORT}", f"/ip6/::/tcp/{PORT}"

RouterKind = Kind | Literal["closed"]
"""`closed`: as `cone`, but what nobody asked for gets as far as a port of the router that is closed, which answers with
a reset, and leaves a trace in its table that takes the port from our own dial; `rst` leaves none."""

pytestmark = pytest.mark.e2e


class Process:
    """A node or a seed in a namespace."""

    def __init__(self, machine: Machine, role: str, listen: str) -> None:
        self.name = machine.name
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        command = [sys.executable, "-W", "ignore", __file__, role, secrets.token_hex(32), listen]
        known = {**os.environ, "PYTHONPATH": str(Path(netns.__file__).parent)}
        self._process = machine.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=known)
        threading.Thread(target=self._read, daemon=True).start()
        up = self.wait("up", 30)
        self.id: str = up["id"]
        self.addresses: list[str] = up["addresses"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))
        self._said.put({"event": "error", "what": "it ended"})

    def wait(self, event: str, seconds: float = 60) -> dict[str, Any]:
        """Return what is said next of this kind."""
        until = time.monotonic() + seconds
        while True:
            said = self._said.get(timeout=max(0.01, until - time.monotonic()))
            if said["event"] == "error":
                raise AssertionError(said)
            if said["event"] == event:
                return said

    def ask(self, what: str, **options: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"what": what, **options}) + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


@contextmanager
def nodes(
    internet: Internet, a: RouterKind, b: RouterKind, listen: str
) -> Iterator[tuple[Process, Process, list[Process]]]:
    """Two nodes behind routers of these kinds that have their places at two seeds."""
    processes: list[Process] = []
    try:
        for name in ("seed", "other"):
            processes.append(Process(internet.host(name), "seed", listen))
        for name, kind in (("a", a), ("b", b)):
            router = internet.router(f"router-{name}", "cone" if kind == "closed" else kind)
            if kind == "closed":
                router.run("iptables", "-F", "INPUT")
            processes.append(Process(router.device(name), "node", listen))
        seeds, (one, two) = processes[:2], processes[2:]
        for node in (one, two):
            node.ask("keep", relays={seed.id: seed.addresses[:1] for seed in seeds})
        for node in (one, two):
            while len(node.wait("reserved")["addresses"]) < 2:
                pass
        yield one, two, seeds
    finally:
        for process in processes:
            process.end()


def meet(one: Process, two: Process, *, again: bool = False) -> dict[str, Any]:
    """Have one connect to two as a peer does that knows everything; return how it went."""
    if again:
        one.ask("disconnect", device=two.id)
        one.wait("disconnected")
        time.sleep(0.3)
    two.ask("addresses")
    known = two.wait("addresses")["addresses"]
    one.ask("connect", device=two.id, addresses=known)
    went = one.wait("went", 40)
    print(f"  {one.name} to {two.name}{' again' if again else ''}: {went}")
    return went


DIRECT: list[tuple[RouterKind, RouterKind, str]] = [
    ("rst", "cone", IP4),
    ("closed", "closed", IP4),
    ("symmetric", "full", IP4),
    ("firewall6", "firewall6", IP6),
]
DIRECT_TOO: list[tuple[RouterKind, RouterKind, str]] = [
    ("cone", "cone", IP4),
    ("cone", "rst", IP4),
    ("rst", "rst", IP4),
    ("closed", "cone", IP4),
    ("full", "symmetric", IP4),
    ("full", "cone", IP4),
]


@pytest.mark.parametrize(
    ("a", "b", "listen"), [*DIRECT, *(pytest.param(*each, marks=pytest.mark.soak) for each in DIRECT_TOO)]
)
def test_these_get_a_direct_connection(internet: Internet, a: RouterKind, b: RouterKind, listen: str) -> None:
    with nodes(internet, a, b, listen) as (one, two, _):
        for number in range(2):  # the second time, the pair of ports is in TIME_WAIT
            went = meet(one, two, again=number > 0)
            assert went["direct_after"] is not None


@pytest.mark.parametrize(("a", "b"), [("cone", "symmetric"), pytest.param("symmetric", "rst", marks=pytest.mark.soak)])
def test_these_stay_relayed_and_work(internet: Internet, a: RouterKind, b: RouterKind) -> None:
    with nodes(internet, a, b, IP4) as (one, two, _):
        went = meet(one, two)
        assert went["direct_after"] is None
        assert went["echoed"]


@pytest.mark.parametrize(("kind", "reachable"), [("full", "public"), ("symmetric", "private")])
def test_whether_strangers_can_connect_is_found_out(internet: Internet, kind: RouterKind, reachable: str) -> None:
    with nodes(internet, kind, "cone", IP4) as (one, _, seeds):
        one.ask("look", seeds=[seed.id for seed in seeds])
        assert one.wait("reachable", 30)["reachable"] == reachable


def say(event: str, **what: Any) -> None:
    print(json.dumps({"event": event, **what}), flush=True)


async def echo(stream: ByteStream) -> None:
    while data := await stream.receive_some(65536):
        await stream.send_all(data)
    await stream.aclose()


async def run_process(role: str, seed: str, listen: str) -> None:
    """Be a seed or a node; what it is asked comes as lines, and so goes what it says."""
    async with run_host(bytes.fromhex(seed), [listen]) as host, trio.open_nursery() as nursery:
        host.handle(ECHO, echo)
        say("up", id=peer_id_text(host.device), addresses=host.addresses())
        if role == "seed":
            relay, back = Relay(host), DialBack(host)
            await trio.sleep_forever()
            del relay, back
        circuits, punching = Circuits(host), Punching(host)
        circuits.on_reserved = lambda: say("reserved", addresses=circuits.addresses())
        await nursery.start(circuits.run)
        await nursery.start(punching.run)

        async def echoed(device: Any) -> bool:
            stream = await host.open(device, ECHO)
            await stream.send_all(b"hello")
            return await stream.receive_some(5) == b"hello"

        async def connect(asked: dict[str, Any]) -> None:
            device = device_from_text(asked["device"])
            began = trio.current_time()
            way = await host.connect(device, asked["addresses"])
            first_after = round(trio.current_time() - began, 2)
            assert await echoed(device)
            direct_after = None
            with trio.move_on_after(20):
                await host.wait_direct(device)
                direct_after = round(trio.current_time() - began, 2)
            say(
                "went",
                first_after=first_after,
                direct_after=direct_after,
                echoed=await echoed(device),
                first="relay" if "p2p-circuit" in way else "direct",
            )

        async for line in trio.wrap_file(sys.stdin):
            asked = json.loads(line)
            match asked["what"]:
                case "keep":
                    circuits.keep({device_from_text(relay): known for relay, known in asked["relays"].items()})
                case "addresses":
                    say("addresses", addresses=[*host.addresses(), *circuits.addresses()], observed=host.observed())
                case "connect":
                    nursery.start_soon(connect, asked)
                case "disconnect":
                    await host.disconnect(device_from_text(asked["device"]))
                    say("disconnected")
                case "look":
                    seeds = [device_from_text(seed) for seed in asked["seeds"]]
                    await Reachability(host, partial(list, seeds)).look()
                    say("reachable", reachable=host.reachable)


if __name__ == "__main__":
    trio.run(run_process, *sys.argv[1:])
