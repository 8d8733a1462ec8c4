"""Bulk channels between real daemons: used where a port can be dialled, and not missed where none can."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nodes import Node, pair, running

pytestmark = pytest.mark.e2e

SIZE = 40 << 20
OFF = ["--bulk", "off"]


@pytest.mark.parametrize(
    ("giver_says", "taker_says", "by_bulk"),
    [([], [], True), (OFF, [], True), ([], OFF, True), (OFF, OFF, False)],
    ids=["both", "the taker's port alone", "the giver's port alone", "none"],
)
def test_a_large_file_comes_by_bulk_where_either_side_can_be_dialled(
    tmp_path: Path, giver_says: list[str], taker_says: list[str], by_bulk: bool
) -> None:
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    one.bulk, other.bulk = giver_says, taker_says
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(SIZE))
    with running(one, other):
        pair(one, other)
        one.run("folder", "add", str(source), "--name", "F")
        other.run("folder", "join", "F", str(target))
        other.run("status", "--wait", "--timeout", "60")
        assert (target / "large").read_bytes() == (source / "large").read_bytes()
        traffic = other.json("status")["traffic"]
        assert traffic["received"] == SIZE
        assert (traffic["received_bulk"] > SIZE / 2) is by_bulk


def test_a_port_that_is_none_or_taken_is_refused(tmp_path: Path) -> None:
    one, other = Node(tmp_path / "one"), Node(tmp_path / "other")
    one.bulk = ["--bulk", "0"]
    with running(one):
        for said, why in [("70000", "no port"), ("-1", "no port"), (one.listen.rsplit("/")[-1], "port is in use")]:
            done = other.run(
                "up", "--listen", other.listen, "--api", other.api, "--no-mdns", "--bulk", said, check=False
            )
            assert done.returncode != 0
            assert why in done.stderr
            assert "Traceback" not in done.stderr
