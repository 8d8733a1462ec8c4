"""Syncthing daemons that keep a folder the same: watcher delay 1 s, scans kicked by REST, loopback only."""

from __future__ import annotations

import json
import string
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from bench.processes import Daemon, free_port, wait_until
from bench.workloads import LIMIT

KEY = "bench"


class SyncthingDevices:
    """Folders `a`, `b` and so on under `base`, kept by a daemon each."""

    name = "syncthing"

    def __init__(self, base: Path, count: int = 2) -> None:
        self.folders = [base / name for name in string.ascii_lowercase[:count]]
        self.daemons: list[Daemon] = []
        self._gui: list[str] = []

    def start(self) -> None:
        """Start them, connect them, and have the folder on all."""
        ids, listens = [], []
        for place in self.folders:
            home = place.with_name(f"home-{place.name}")
            place.mkdir(parents=True)
            subprocess.run(
                ["syncthing", "generate", f"--home={home}", "--no-default-folder", "--skip-port-probing"],
                capture_output=True,
                check=True,
            )
            gui = f"127.0.0.1:{free_port()}"
            command = ["syncthing", f"--home={home}", "--no-browser", f"--gui-address={gui}", f"--gui-apikey={KEY}"]
            self.daemons.append(Daemon([*command, "--no-restart"], place.with_suffix(".log"), {"STNOUPGRADE": "1"}))
            self._gui.append(gui)
            wait_until(lambda gui=gui: self._answers(gui), 60, "syncthing's start")  # type: ignore[misc]
            ids.append(self._rest(gui, "GET", "system/status")["myID"])
            listens.append(f"tcp://127.0.0.1:{free_port()}")
        for gui, listen in zip(self._gui, listens, strict=True):
            options = {
                "listenAddresses": [listen],
                "globalAnnounceEnabled": False,
                "localAnnounceEnabled": False,
                "relaysEnabled": False,
                "natEnabled": False,
                "urAccepted": -1,
                "crashReportingEnabled": False,
            }
            self._rest(gui, "PATCH", "config/options", options)
        for own, gui in zip(ids, self._gui, strict=True):
            for other, listen in zip(ids, listens, strict=True):
                if other != own:
                    self._rest(gui, "POST", "config/devices", {"deviceID": other, "addresses": [listen]})
        for gui, place in zip(self._gui, self.folders, strict=True):
            devices = [{"deviceID": device} for device in ids]
            folder = {
                "id": "bench",
                "path": str(place),
                "devices": devices,
                "fsWatcherDelayS": 1,
                "rescanIntervalS": 3600,
            }
            self._rest(gui, "POST", "config/folders", folder)
        self.kick()
        wait_until(lambda: self._connected(), 60, "syncthing's connection")
        (self.folders[0] / "first").write_text("there")
        self.kick()
        for other_folder in self.folders[1:]:
            wait_until((other_folder / "first").exists, 60, "syncthing's first file")

    def kick(self) -> None:
        """Have the first scanned now; it answers when it has hashed all that is new."""
        self._rest(self._gui[0], "POST", "db/scan?folder=bench")

    def received_bytes(self) -> int:
        """Return all bytes that the second has received."""
        return self._total(1, "inBytesTotal")

    def sent_bytes(self) -> int:
        """Return all bytes that the first has sent."""
        return self._total(0, "outBytesTotal")

    def _total(self, which: int, what: str) -> int:
        total: int = self._rest(self._gui[which], "GET", "system/connections")["total"][what]
        return total

    def _connected(self) -> bool:
        """Return whether each is connected with all others."""
        found = [self._rest(gui, "GET", "system/connections")["connections"] for gui in self._gui]
        return all(sum(each["connected"] for each in connections.values()) == len(found) - 1 for connections in found)

    def _answers(self, gui: str) -> bool:
        try:
            self._rest(gui, "GET", "system/ping")
        except OSError:
            return False
        return True

    @staticmethod
    def _rest(gui: str, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"http://{gui}/rest/{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"X-API-Key": KEY, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            data = answer.read()
        return json.loads(data) if data.strip() else None
