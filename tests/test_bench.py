"""What `python -m bench` makes of its rows."""

from __future__ import annotations

from bench.medians import medians


def row(tool: str, workload: str = "small", devices: int = 2, **figures: object) -> dict[str, object]:
    return {"tool": tool, "run": 0, "devices": devices, "workload": workload, **figures}


def test_every_row_has_the_medians_of_both_tools_and_their_ratios() -> None:
    rows = [row("shoal", seconds=seconds, cpu=4.0) for seconds in (9.0, 1.0, 2.0)]
    rows += [row("syncthing", seconds=seconds, cpu=16.0) for seconds in (4.0, 8.0)]
    assert medians(rows) == [
        {
            "median of": "small",
            "devices": 2,
            "shoal": {"runs": 3, "seconds": 2.0, "cpu": 4.0},
            "syncthing": {"runs": 2, "seconds": 6.0, "cpu": 16.0},
            "ratio": 0.333,
            "cpu_ratio": 0.25,
        }
    ]


def test_numbers_of_devices_are_kept_apart() -> None:
    found = medians([row("shoal", devices=devices, seconds=1.0) for devices in (3, 5, 3)])
    assert [(each["devices"], each["shoal"]) for each in found] == [
        (3, {"runs": 2, "seconds": 1.0}),
        (5, {"runs": 1, "seconds": 1.0}),
    ]


def test_there_is_no_ratio_to_nothing() -> None:
    found = medians([row("shoal", "idle", cpu=0.1), row("syncthing", "idle", cpu=0.0), row("shoal", seconds=1.0)])
    assert [(each["ratio"], each["cpu_ratio"]) for each in found] == [(None, None), (None, None)]
