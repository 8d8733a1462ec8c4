"""`python -m bench [--runs N] [--only shoal|syncthing] [--groups big small ...] [--devices 2 3 5]
[--small-files N] [--mixed-gib N] [--scale S] [--base DIR]`; what one-way tools need that encrypt nothing, `python -m
bench floors`; or one of Shoal alone:

python -m bench scale --files 1000 10000 100000 [--alone] [--base DIR]
python -m bench twins --files 100000 [--base DIR]
python -m bench versions --mib 1024 --versions 100 [--base DIR]
python -m bench link --ms 100 --mbit 200 --mib 256
python -m bench dht --nodes 50 --keys 100000
python -m bench seed --devices 100
python -m bench packs [--packs 32768 --runs 5]
python -m bench swarm --devices 4 --mbit 100 --mib 200 [--small FILES]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import dht, floors, link, packs, scale, seed, swarm, twins, versions
from bench.medians import medians
from bench.shoal_devices import ShoalDevices
from bench.syncthing_devices import SyncthingDevices
from bench.workloads import GIB, GROUPS, USUAL, Devices, Scale, run_all

TOOLS: dict[str, Callable[[Path, int], Devices]] = {"shoal": ShoalDevices, "syncthing": SyncthingDevices}


def main() -> int:
    """Run, print rows, and the medians."""
    if sys.argv[1:2] == ["packs"]:
        return packs.main(sys.argv[2:])
    if sys.argv[1:2] in (["scale"], ["twins"], ["versions"], ["link"], ["floors"], ["swarm"], ["dht"], ["seed"]):
        return _alone(sys.argv[1], sys.argv[2:])
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=sorted(TOOLS))
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=USUAL, help="of workloads")
    parser.add_argument("--devices", type=int, nargs="+", default=[2], help="that keep the folder; several in turn")
    parser.add_argument("--small-files", type=int, default=10_000, help="how many, in the group small")
    parser.add_argument("--mixed-gib", type=float, default=4, help="of media-like files, in the group mixed")
    parser.add_argument("--scale", type=float, default=1.0, help="of sizes and counts; 1 is what is published")
    parser.add_argument("--base", type=Path, help="where the folders are made; default a temporary directory")
    options = parser.parse_args()
    names = [options.only] if options.only else list(TOOLS)
    if "syncthing" in names and shutil.which("syncthing") is None:
        print("syncthing is not installed (apt-get install syncthing): Shoal alone is measured", file=sys.stderr)
        names.remove("syncthing")
    sizes = Scale(
        int(GIB * options.scale),
        int(options.small_files * options.scale),
        int(100_000 * options.scale),
        max(3, int(200 * options.scale)),
        mixed_bytes=int(GIB * options.mixed_gib * options.scale),
        groups=tuple(options.groups),
    )
    if not all(2 <= count <= 26 for count in options.devices):
        parser.error("--devices: from 2 to 26")
    base = Path(tempfile.mkdtemp(prefix="shoal-bench-", dir=options.base))
    left = options.runs * len(names) * sum(map(sizes.small_bytes, options.devices))
    needed = max(map(sizes.large_bytes, options.devices)) + left + GIB
    if needed > (free := shutil.disk_usage(base).free):
        base.rmdir()
        print(f"this needs {needed / GIB:.1f} GiB of disk and {free / GIB:.1f} are free: see --base", file=sys.stderr)
        return 1
    rows = []
    try:
        for run in range(options.runs):
            for count in options.devices:
                for name in names if run % 2 == 0 else reversed(names):
                    for row in _run(name, base / f"{run}-{count}-{name}", sizes, count, run):
                        rows.append(row)
                        print(json.dumps(row), flush=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    whole = [row for row in rows if "failed" not in row]
    for median in medians(whole):
        print(json.dumps(median))
    return int(len(whole) < len(rows))


def _alone(what: str, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"bench {what}")
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--alone", action="store_true", help="scale: without a second device")
    parser.add_argument("--mib", type=int, default=1024, help="versions: the file's size; link: what is sent")
    parser.add_argument("--ms", type=float, default=100, help="link: the round trip")
    parser.add_argument("--mbit", type=float, default=200, help="link: what it carries in a second")
    parser.add_argument("--versions", type=int, default=100, help="versions: how many")
    parser.add_argument("--devices", type=int, default=4, help="swarm: that lack what one has")
    parser.add_argument("--small", type=int, default=0, help="swarm: small files, instead of a large one")
    parser.add_argument("--nodes", type=int, default=50, help="dht: how many")
    parser.add_argument("--keys", type=int, default=100_000, help="dht: announced by one of them")
    parser.add_argument("--base", type=Path, help="where the folders are made; default a temporary directory")
    options = parser.parse_args(arguments)
    base = Path(tempfile.mkdtemp(prefix="shoal-bench-", dir=options.base))
    try:
        if what == "scale":
            scale.run(base, options.files, alone=options.alone)
        elif what == "link":
            link.run(options.ms, options.mbit, options.mib)
        elif what == "floors":
            floors.run(base, options.mib << 20, options.files)
        elif what == "swarm":
            swarm.run(base, options.devices, options.mbit, options.mib, options.small)
        elif what == "seed":
            seed.run(base, options.devices)
        elif what == "dht":
            dht.run(base, options.nodes, options.keys)
        elif what == "twins":
            twins.run(base, options.files[-1])
        else:
            versions.run(base, options.mib, options.versions)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 0


def _run(name: str, base: Path, scale: Scale, count: int, run: int) -> Iterator[dict[str, object]]:
    """Yield the rows; where one fails, the rest of this run is left out."""
    base.mkdir()
    os.sync()
    devices = TOOLS[name](base, count)
    about = {"tool": name, "run": run, "devices": count}
    try:
        devices.start()
        for row in run_all(devices, base / "stage", scale):
            yield {**about, **row}
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        yield {**about, "failed": str(error)}
    finally:
        for daemon in devices.daemons:
            daemon.stop()
        _remove_large(base)


def _remove_large(base: Path) -> None:
    """Make room for the next run. Small files stay: ext4 is slow to make files for a minute after many were removed."""
    for folder, _, names in os.walk(base):
        for path in (Path(folder, name) for name in names):
            if path.lstat().st_size > 1 << 20:
                path.unlink()


if __name__ == "__main__":
    sys.exit(main())
