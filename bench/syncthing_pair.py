"""Two Syncthing daemons that keep a folder the same: watcher delay 1 s, scans kicked by REST, loopback only."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from bench.processes import Daemon, free_port, wait_until

KEY = "bench"


class SyncthingPair:
    """Folders `a` and `b` under `base`, kept by a daemon each."""

    name = "syncthing"

    def __init__(self, base: Path) -> None:
        self.a, self.b = base / "a", base / "b"
        self.daemons = []
        self._gui = []
        ids, listens = [], []
        for side in ("a", "b"):
            home = base / f"home-{side}"
            (base / side).mkdir(parents=True)
            subprocess.run(
                ["syncthing", "generate", f"--home={home}", "--no-default-folder", "--skip-port-probing"],
                capture_output=True,
                check=True,
            )
            gui = f"127.0.0.1:{free_port()}"
            command = ["syncthing", f"--home={home}", "--no-browser", f"--gui-address={gui}", f"--gui-apikey={KEY}"]
            self.daemons.append(Daemon([*command, "--no-restart"], base / f"{side}.log", {"STNOUPGRADE": "1"}))
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
        for gui, other, listen in zip(self._gui, reversed(ids), reversed(listens), strict=True):
            self._rest(gui, "POST", "config/devices", {"deviceID": other, "addresses": [listen]})
        for gui, path in zip(self._gui, (self.a, self.b), strict=True):
            devices = [{"deviceID": device} for device in ids]
            folder = {
                "id": "bench",
                "path": str(path),
                "devices": devices,
                "fsWatcherDelayS": 1,
                "rescanIntervalS": 3600,
            }
            self._rest(gui, "POST", "config/folders", folder)
        self.kick()
        wait_until(lambda: self._connected(), 60, "syncthing's connection")
        (self.a / "first").write_text("there")
        self.kick()
        wait_until((self.b / "first").exists, 60, "syncthing's first file")

    def kick(self) -> None:
        """Have a scanned now."""
        self._rest(self._gui[0], "POST", "db/scan?folder=bench")

    def received_bytes(self) -> int:
        """Return all bytes that b has received."""
        total: int = self._rest(self._gui[1], "GET", "system/connections")["total"]["inBytesTotal"]
        return total

    def _connected(self) -> bool:
        connections = self._rest(self._gui[0], "GET", "system/connections")["connections"]
        return any(connection["connected"] for connection in connections.values())

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
        with urllib.request.urlopen(request, timeout=120) as answer:
            data = answer.read()
        return json.loads(data) if data.strip() else None
