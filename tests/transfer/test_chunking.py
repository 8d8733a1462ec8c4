"""Cutting: the same cuts whatever way the file is read, stable under inserts, honest about files that change."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyfastcdc import FastCDC

from shoal.node.folder.linux import Linux
from shoal.transfer.chunking import AVERAGE_CHUNK, MAX_CHUNK, MIN_CHUNK, WINDOW, FileChanged, chunk_file, chunk_id

KEY = bytes(range(32))
MIB = 1024 * 1024


def refs_of(path: Path) -> list[tuple[bytes, int]]:
    file = Linux().open(str(path), "read")
    try:
        packed = chunk_file(file, KEY)
    finally:
        file.close()
    return [(packed[at : at + 32], int.from_bytes(packed[at + 32 : at + 36])) for at in range(0, len(packed), 36)]


def whole(data: bytes) -> Iterator[tuple[bytes, int]]:
    for chunk in FastCDC(avg_size=AVERAGE_CHUNK, min_size=MIN_CHUNK, max_size=MAX_CHUNK).cut_buf(data):
        yield chunk_id(KEY, data[chunk.offset : chunk.offset + chunk.length]), chunk.length


def test_an_empty_file_has_no_chunks(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert refs_of(tmp_path / "f") == []


@pytest.mark.parametrize("size", [1, 4096, MIN_CHUNK - 1])
def test_a_small_file_is_one_chunk(tmp_path: Path, size: int) -> None:
    data = random.Random(1).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    assert refs_of(tmp_path / "f") == [(chunk_id(KEY, data), size)]


@pytest.mark.parametrize("size", [MIN_CHUNK, MIN_CHUNK + 1, 5 * MIB, WINDOW, WINDOW + 1, 2 * WINDOW + 12_345])
def test_reading_in_windows_cuts_as_reading_at_once(tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "f").write_bytes(data)
    assert refs_of(tmp_path / "f") == list(whole(data))


def test_monotonous_content_is_cut_at_the_largest_size(tmp_path: Path) -> None:
    data = bytes(WINDOW + 3 * MIB)
    (tmp_path / "f").write_bytes(data)
    refs = refs_of(tmp_path / "f")
    assert refs == list(whole(data))
    assert max(length for _, length in refs) <= MAX_CHUNK
    assert sum(length for _, length in refs) == len(data)


def test_an_insert_near_the_start_changes_few_chunks(tmp_path: Path) -> None:
    data = random.Random(7).randbytes(40 * MIB)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data[:1000] + b"fourteen bytes" + data[1000:])
    new = set(refs_of(tmp_path / "b")) - set(refs_of(tmp_path / "a"))
    assert sum(length for _, length in new) < 5 * MIB


def test_another_key_names_the_same_bytes_otherwise() -> None:
    assert chunk_id(KEY, b"same") != chunk_id(bytes(32), b"same")


@pytest.mark.parametrize("size", [1000, 3 * MIB])
@pytest.mark.parametrize("change", ["shrink", "grow", "rewrite"])
def test_a_file_written_while_it_is_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, change: str
) -> None:
    path = tmp_path / "f"
    path.write_bytes(random.Random(3).randbytes(size))
    os.utime(path, ns=(1, 1))

    def meddling(real: Callable[..., object]) -> Callable[..., object]:
        def read(*args: object) -> object:
            if change == "shrink":
                os.truncate(path, size // 2)
            elif change == "grow":
                path.write_bytes(bytes(size + 1))
            else:
                path.write_bytes(bytes(size))
            return real(*args)

        return read

    monkeypatch.setattr(os, "pread", meddling(os.pread))
    monkeypatch.setattr(os, "preadv", meddling(os.preadv))
    with pytest.raises(FileChanged):
        refs_of(path)
