"""Names for what cannot have its own."""

from __future__ import annotations

import pytest

from shoal.crdt.facts import name_error
from shoal.crdt.naming import origin_name

DAY = 1_764_000_000_000  # 2025-11-24


@pytest.mark.parametrize(
    ("name", "device", "number", "shown"),
    [
        ("plan.txt", "laptop", 1, "plan (from laptop, 2025-11-24).txt"),
        ("plan.txt", "laptop", 2, "plan (from laptop, 2025-11-24, 2).txt"),
        ("README", "a/b\n", 1, "README (from a_b_, 2025-11-24)"),
        ("x", " ", 1, "x (from elsewhere, 2025-11-24)"),
    ],
)
def test_a_copy_that_becomes_a_file_says_where_it_came_from(name: str, device: str, number: int, shown: str) -> None:
    assert origin_name(name, device, DAY, number) == shown


@pytest.mark.parametrize("device", ["d" * 300, "ü" * 300, "\udce9"])
def test_such_a_name_fits_any_disk(device: str) -> None:
    assert name_error(origin_name("n" * 250 + ".txt", device, 1 << 62)) is None
