"""Real daemons on machines of their own, see `netns`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from netns import Machine
from nodes import Node


class Device(Node):
    """A node on a machine of its own."""

    def __init__(self, home: Path, machine: Machine, *, is_seed: bool = False) -> None:
        super().__init__(home)
        self.machine = machine
        self.prefix = machine.prefix
        self.is_seed = is_seed
        self.mdns = False
        self.api = "127.0.0.1:8484"
        self.listen = "/ip4/0.0.0.0/tcp/22400"

    def up(self, *more: str) -> None:
        command = ["seed", "up", "--open"] if self.is_seed else ["up"]
        if not self.is_seed and not self.mdns:
            more = ("--no-mdns", *more)
        self.run(*command, "--api", self.api, "--name", self.home.name, "--listen", self.listen, *more)

    def peer(self, name: str) -> Any:
        """Return what is known of another device, by its name."""
        return next((each for each in self.json("peers") if each["name"] == name), {"connected": False})


@contextmanager
def running(*devices: Device) -> Iterator[None]:
    try:
        for device in devices:
            device.up()
        yield
    finally:
        for device in devices:
            device.down()


def until(holds: Callable[[], Any], seconds: float) -> float:
    """Wait until something holds; return how long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, f"it did not come about in {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - began
