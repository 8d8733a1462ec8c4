"""Two devices that hold the same folder and are connected."""

from __future__ import annotations

from pathlib import Path

import pytest
from engines import Device, join


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Device, Device]:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    join(one, other)
    return one, other
