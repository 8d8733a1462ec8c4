"""Daemons under measurement: start, stop, and what they cost."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


class Daemon:
    """A process and all that it starts: they share a session."""

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
        # Who starts a program for the second time does not compile it again.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,  # rsync takes a socket for inetd's
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**inherited, **(environment or {})},
            )

    def cpu_seconds(self) -> float:
        """Return user and system time so far."""
        return sum((int(fields[11]) + int(fields[12])) / TICK for _, fields in self._processes())

    def rss_mib(self) -> float:
        """Return resident memory."""
        total = 0.0
        for pid, _ in self._processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmRSS"):
                        total += int(line.split()[1]) / 1024
        return total

    def kill(self) -> None:
        """End it and what it started, without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _processes(self) -> Iterator[tuple[int, list[str]]]:
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self.process.pid:
                        yield int(name), fields


_ports = itertools.cycle(random.sample(range(12_000, 32_000), 20_000))  # below those of outgoing connections


def free_port() -> int:
    """Return a TCP port of the loopback that was free a moment ago, and was not given out before."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], seconds: float, what: str, often: float = 0.01) -> None:
    """Poll every `often` seconds. Raises TimeoutError that names `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(often)
