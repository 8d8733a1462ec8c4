from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.e2e
def test_the_demo_shows_what_it_says() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shoal.node.demo"], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 bytes of content were sent for it" in done.stdout
    assert "both versions are on both" in done.stdout
