"""Pieces in a bucket, of a real server that speaks S3."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from nodes import free_port

from shoal.node.packs.backend import BackendFailed, LocalFiles, Missing
from shoal.node.packs.bucket import Bucket, BucketSettings, backend_of, read_settings, write_settings
from shoal.node.packs.shelf import Shelf
from shoal.node.store import MemoryStore
from shoal.transfer import merkle

KEYS = ("key", "a secret that nobody sees")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server with one bucket; its address."""
    port = free_port()
    log = (tmp_path_factory.mktemp("moto") / "log").open("w")
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(Request(f"{address}/shoal", method="PUT"), timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()
        log.close()


def bucket(server: str, prefix: str, name: str = "shoal") -> Bucket:
    return Bucket(BucketSettings(f"s3://{name}/{prefix}?endpoint={server}", *KEYS))


async def test_what_is_put_is_read_listed_and_removed(server: str) -> None:
    made = bucket(server, "one")
    await made.put("aa/bb.0", b"0123456789")
    assert await made.read("aa/bb.0", 2, 3) == b"234"
    assert await made.names() == [("aa/bb.0", 10)]
    await made.remove("aa/bb.0")
    await made.remove("aa/bb.0")
    assert await made.names() == []


async def test_what_is_read_beyond_the_end_is_nothing(server: str) -> None:
    made = bucket(server, "end")
    await made.put("aa/bb.0", b"0123456789")
    assert await made.read("aa/bb.0", 10, 5) == b""
    assert await made.read("aa/bb.0", 8, 5) == b"89"


def test_keys_in_the_address_are_refused_and_not_shown() -> None:
    with pytest.raises(BackendFailed, match="do not belong") as told:
        Bucket(BucketSettings("s3://KEY:SECRET@bucket"))
    assert "SECRET" not in str(told.value)


async def test_what_is_not_there_is_missing(server: str) -> None:
    with pytest.raises(Missing):
        await bucket(server, "two").read("aa/bb.0", 0, 1)


async def test_a_shelf_over_a_bucket_keeps_its_pieces_over_a_restart(server: str) -> None:
    store, data = MemoryStore(), os.urandom(300_000)
    shelf = Shelf(store, bucket(server, "three"), lambda *piece: None)
    await shelf.keep(b"f" * 16, b"p" * 32, 0, merkle.root_of(data), data)
    again = Shelf(store, bucket(server, "three"), lambda *piece: None)
    assert await again.reconcile() == 0
    assert await again.read(b"f" * 16, b"p" * 32, 0, 5, 100) == data[5:105]
    assert await again.check(b"f" * 16, b"p" * 32, 0)


async def test_two_devices_may_share_a_bucket(server: str) -> None:
    settings = BucketSettings(f"s3://shoal/six?endpoint={server}", *KEYS)
    one, other = Bucket(settings, b"1" * 32), Bucket(settings, b"2" * 32)
    await one.put("aa/bb.0", b"one")
    assert await other.names() == []
    await other.remove("aa/bb.0")
    assert await one.read("aa/bb.0", 0, 3) == b"one"


async def test_a_bucket_is_tried_before_it_is_used(server: str) -> None:
    await bucket(server, "four").check()
    with pytest.raises(BackendFailed, match="no such bucket"):
        await bucket(server, "four", "another").check()


async def test_a_server_that_is_not_there_is_told_without_the_keys() -> None:
    with pytest.raises(BackendFailed, match="cannot be reached") as told:
        await bucket(f"http://127.0.0.1:{free_port()}", "five").read("x", 0, 1)
    assert KEYS[1] not in str(told.value)


@pytest.mark.parametrize("url", ["", "http://x/y", "s3:///prefix"])
def test_what_is_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(BackendFailed, match="is no bucket"):
        Bucket(BucketSettings(url))


def test_a_home_says_where_its_pieces_are_and_keeps_the_keys_to_itself(tmp_path: Path) -> None:
    assert isinstance(backend_of(tmp_path, b"d" * 32), LocalFiles)
    settings = BucketSettings("s3://shoal?endpoint=http://127.0.0.1:1", *KEYS)
    write_settings(tmp_path, settings)
    assert read_settings(tmp_path) == settings
    assert (tmp_path / "packs.json").stat().st_mode & 0o077 == 0
    assert KEYS[1] not in repr(settings)
    assert isinstance(backend_of(tmp_path, b"d" * 32), Bucket)
    write_settings(tmp_path, None)
    assert isinstance(backend_of(tmp_path, b"d" * 32), LocalFiles)
