"""The same folder on two devices before they knew of each other: what is the same is recognised, and nothing more."""

from __future__ import annotations

from pathlib import Path

from engines import Device, join, listing, running, settle

FILES = 300
DIFFERENT = 5


def fill(root: Path, who: str) -> int:
    """Make files, `DIFFERENT` of them with a text of their own; return the bytes of these."""
    for number in range(FILES):
        path = root / f"d{number % 7}" / f"e{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{who if number < DIFFERENT else 'the same'} {number}")
    return sum(len(f"{who} {number}") for number in range(DIFFERENT))


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("f*") if path.is_file() and ".shoal" not in path.parts]


async def test_a_device_that_joins_with_its_own_copy_takes_what_differs_alone(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    sizes = fill(one.root, "one"), fill(other.root, "other")
    async with running(one):
        await settle(one)
        join(one, other)
        async with running(other):
            await settle(one, other)
            assert (one.fetched, other.fetched) == (sizes[1], sizes[0])
            assert len(files(one.root)) == len(files(other.root)) == FILES + DIFFERENT
            assert listing(one.root) == listing(other.root)


async def test_two_devices_that_both_told_of_their_copy_before_they_met_do_too(tmp_path: Path) -> None:
    one, other = Device(1, tmp_path / "one"), Device(2, tmp_path / "other")
    sizes = fill(one.root, "one"), fill(other.root, "other")
    async with running(one, other):
        await settle(one)
        await settle(other)
        assert one.replica.frontier.keys().isdisjoint(other.replica.frontier)
        join(one, other)
        await settle(one, other)
        assert (one.fetched, other.fetched) == (sizes[1], sizes[0])
        assert len(files(one.root)) == len(files(other.root)) == FILES + DIFFERENT
        assert listing(one.root) == listing(other.root)
