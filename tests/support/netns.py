"""Small internets of network namespaces: a core that routes, hosts in public, routers that masquerade in one way or
another, and devices behind them. Linux, as root, with iproute2 and iptables.

Public addresses are such as `ipaddress` takes for public. Nothing of it reaches this machine's network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest

M = TypeVar("M", bound="Machine")
Kind = Literal["cone", "rst", "full", "symmetric", "open", "firewall6"]
"""How a router treats what comes from outside, and what it makes of ports:

cone       keeps ports (plain MASQUERADE), drops what nobody inside asked for
rst        the same, and answers with a reset what nobody inside asked for
full       keeps ports, and lets in everything for the device that was added first
symmetric  gives each connection another port
open       routes without masquerading
firewall6  cone, and for IPv6 no masquerading, but drops what nobody inside asked for
"""

PUBLIC4, PUBLIC6 = "5.5", "2a00:5555"
NAMES = f"shoal{os.getpid()}-"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


@dataclass(eq=False)
class Machine:
    """A namespace. `address`, `address6`: its own, in its network."""

    net: Internet
    name: str
    address: str = ""
    address6: str = ""
    gateway: str = ""
    links: list[str] = field(default_factory=list)

    @property
    def prefix(self) -> list[str]:
        """What comes before a command that is to run there."""
        return ["ip", "netns", "exec", NAMES + self.name]

    def run(self, *command: str) -> None:
        """Run a command there, which must succeed."""
        _run(*self.prefix, *command)

    def start(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a process there."""
        return subprocess.Popen([*self.prefix, *command], **options)

    def cut(self) -> None:
        """Take it off its network, without a word to anybody."""
        self.run("ip", "link", "set", "eth0", "down")

    def mend(self) -> None:
        """Put it on its network again."""
        self.run("ip", "link", "set", "eth0", "up")
        if self.gateway:
            self.run("ip", "route", "replace", "default", "via", self.gateway)


@dataclass(eq=False)
class Router(Machine):
    """A router with a network behind it. `address`: its public one; `lan`: the first three numbers behind it."""

    kind: Kind = "cone"
    lan: str = ""
    lan6: str = ""
    count: int = 0

    def device(self, name: str) -> Machine:
        """Add a machine behind it."""
        made = self.net._machine(Machine(self.net, name))
        self.attach(made)
        return made

    def attach(self, machine: Machine) -> None:
        """Put a machine behind this router; from where it was before it is taken."""
        with contextlib.suppress(AssertionError):
            machine.run("ip", "link", "del", "eth0")
        self.count += 1
        number = self.count + 1
        self.net._plug(machine, self, "lan")
        machine.address, machine.gateway = f"{self.lan}.{number}", f"{self.lan}.1"
        machine.run("ip", "addr", "add", f"{machine.address}/24", "dev", "eth0")
        machine.run("ip", "route", "replace", "default", "via", machine.gateway)
        if self.lan6:
            machine.address6 = f"{self.lan6}{number:x}"
            machine.run("ip", "-6", "addr", "add", f"{machine.address6}/64", "dev", "eth0", "nodad")
            machine.run("ip", "-6", "route", "replace", "default", "via", f"{self.lan6}1")
        if self.kind == "full" and self.count == 1:
            self.run(*f"iptables -t nat -A PREROUTING -i eth0 -j DNAT --to-destination {machine.address}".split())


class Internet:
    """One of them; everything is removed at the end."""

    def __init__(self) -> None:
        self._machines: list[Machine] = []
        self._count = 0
        self._core = Machine(self, "core")
        self._processes: list[subprocess.Popen[Any]] = []

    def __enter__(self) -> Internet:
        _forget_dead()
        self._machine(self._core)
        self._core.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self._machines:
            _remove(NAMES + machine.name)

    def host(self, name: str) -> Machine:
        """Add a machine in public."""
        made = self._machine(Machine(self, name))
        self._public(made)
        return made

    def router(self, name: str, kind: Kind = "cone") -> Router:
        """Add a router, with a network behind it."""
        made = Router(self, name, kind=kind)
        self._machine(made)
        self._public(made)
        number = self._count
        made.lan = f"192.168.{number}"
        made.run("ip", "link", "add", "lan", "type", "bridge")
        made.run("ip", "addr", "add", f"{made.lan}.1/24", "dev", "lan")
        made.run("ip", "link", "set", "lan", "up")
        made.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for line in _rules(kind):
            made.run(*line.split())
        if kind == "firewall6":
            made.lan6 = f"{PUBLIC6}:{number:x}:1::"
            made.run("ip", "-6", "addr", "add", f"{made.lan6}1/64", "dev", "lan", "nodad")
            self._core.run("ip", "-6", "route", "add", f"{made.lan6}/64", "via", made.address6)
        return made

    def lan(self, name: str) -> Router:
        """Add a network that leads nowhere."""
        made = Router(self, name, kind="open")
        self._machine(made)
        self._count += 1
        made.lan = f"192.168.{self._count}"
        made.run("ip", "link", "add", "lan", "type", "bridge")
        made.run("ip", "addr", "add", f"{made.lan}.1/24", "dev", "lan")
        made.run("ip", "link", "set", "lan", "up")
        return made

    # -- inside ------------------------------------------------------------------------------------------------------

    def _machine(self, machine: M) -> M:
        self._machines.append(machine)
        _remove(NAMES + machine.name)
        _run("ip", "netns", "add", NAMES + machine.name)
        machine.run("ip", "link", "set", "lo", "up")
        return machine

    def _public(self, machine: Machine) -> None:
        self._count += 1
        net4, net6 = f"{PUBLIC4}.{self._count}", f"{PUBLIC6}:{self._count:x}::"
        plug = self._plug(machine, self._core)
        self._core.run("ip", "addr", "add", f"{net4}.1/24", "dev", plug)
        self._core.run("ip", "-6", "addr", "add", f"{net6}1/64", "dev", plug, "nodad")
        machine.address, machine.address6, machine.gateway = f"{net4}.2", f"{net6}2", f"{net4}.1"
        machine.run("ip", "addr", "add", f"{machine.address}/24", "dev", "eth0")
        machine.run("ip", "-6", "addr", "add", f"{machine.address6}/64", "dev", "eth0", "nodad")
        machine.run("ip", "route", "add", "default", "via", machine.gateway)
        machine.run("ip", "-6", "route", "add", "default", "via", f"{net6}1")

    def _plug(self, machine: Machine, into: Machine, bridge: str = "") -> str:
        """Connect a machine's eth0 to another; return the name of the other end."""
        plug = f"p{len(into.links)}"
        into.links.append(plug)
        _run(
            *f"ip link add eth0 netns {NAMES}{machine.name} type veth peer name {plug} netns {NAMES}{into.name}".split()
        )
        into.run("ip", "link", "set", plug, *(["master", bridge] if bridge else []), "up")
        machine.run("ip", "link", "set", "eth0", "up")
        return plug


def _rules(kind: Kind) -> Iterator[str]:
    if kind == "open":
        return
    random = " --random-fully" if kind == "symmetric" else ""
    yield f"iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE{random}"
    what = "REJECT --reject-with tcp-reset" if kind == "rst" else "DROP"
    for tool in ("iptables", "ip6tables"):
        yield f"{tool} -A FORWARD -i eth0 -m conntrack --ctstate ESTABLISHED,RELATED,DNAT -j ACCEPT"
        if kind != "full":
            yield f"{tool} -A FORWARD -i eth0 -p tcp -j {what}"
            yield f"{tool} -A INPUT -i eth0 -p tcp -m conntrack --ctstate NEW,INVALID -j {what}"


def _remove(name: str) -> None:
    pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout.split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _forget_dead() -> None:
    """Remove what runs left that are no more."""
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout.splitlines()
    for name in (line.split()[0] for line in names if line.startswith("shoal")):
        pid = name.removeprefix("shoal").partition("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            _remove(name)


def why_not(commands: Sequence[str] = ("ip", "iptables", "ip6tables", "sysctl")) -> str:
    """Return why no internet can be made here, "" where it can."""
    if os.geteuid():
        return "only root makes network namespaces"
    lacking = [command for command in commands if shutil.which(command) is None]
    if lacking:
        return f"{', '.join(lacking)} are not installed"
    probe = f"{NAMES}probe"
    try:
        _run("ip", "netns", "add", probe)
        _run(
            "ip",
            "netns",
            "exec",
            probe,
            *["iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE", "--random-fully"],
        )
    except (AssertionError, OSError) as error:
        return f"network namespaces do not work here: {error}"
    finally:
        _remove(probe)
    return ""


@pytest.fixture
def internet() -> Iterator[Internet]:
    """An internet for one test."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Internet() as made:
        yield made
