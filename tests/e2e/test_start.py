"""What a command may load: it is to answer at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

HEAVY = ["libp2p", "fastapi", "pydantic", "trio", "pycrdt", "rocksdict", "zeroconf", "httpx", "hypercorn"]
PROGRAM = f"""
import json, sys
from shoal.node.cli.main import main
try:
    main()
except SystemExit:
    pass
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""


@pytest.mark.parametrize("command", [["status"], ["folder", "list"], ["limit"], ["--help"], ["nonsense"]])
def test_a_command_loads_nothing_that_only_a_node_needs(tmp_path: Path, command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--home", str(tmp_path), *command], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.strip().splitlines()[-1]) == []
