"""Cutting: the same cuts whatever way the file is read, stable under inserts, honest about files that change."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyfastcdc import FastCDC

from shoal.node.folder.linux import Linux
from shoal.transfer import chunking
from shoal.transfer.chunking import (
    AVERAGE_CHUNK,
    MAX_CHUNK,
    MIN_CHUNK,
    WINDOW,
    ZERO_BLOCK,
    ZERO_RUN,
    FileChanged,
    chunk_file,
    chunk_id,
    is_zeros,
    zero_chunks,
)

KEY = bytes(range(32))
MIB = 1024 * 1024


def refs_of(path: Path) -> list[tuple[bytes, int]]:
    file = Linux().open(str(path), "read")
    try:
        packed = chunk_file(file, KEY)
    finally:
        file.close()
    return unpacked(packed)


def unpacked(packed: bytes) -> list[tuple[bytes, int]]:
    return [(packed[at : at + 32], int.from_bytes(packed[at + 32 : at + 36])) for at in range(0, len(packed), 36)]


class InMemory:
    """A source whose reads come in pieces."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def mark(self) -> tuple[int, int, int]:
        return len(self.data), 0, 0

    def read_into(self, view: memoryview, offset: int) -> int:
        piece = self.data[offset : offset + min(len(view), 1_000_000)]
        view[: len(piece)] = piece
        return len(piece)

    def next_data(self, offset: int) -> int:
        return offset


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


def expected_cuts(data: bytes) -> list[tuple[bytes, int]]:
    """The rule for zeros, said plainly on the whole content."""
    blocks = [(at, min(at + ZERO_BLOCK, len(data))) for at in range(0, len(data), ZERO_BLOCK)]
    runs: list[list[int]] = []
    for start, end in blocks:
        if data.count(0, start, end) == end - start:
            if runs and runs[-1][1] == start:
                runs[-1][1] = end
            else:
                runs.append([start, end])
    runs = [run for run in runs if run[1] - run[0] >= ZERO_RUN] if len(data) >= MIN_CHUNK else []
    refs, at = [], 0
    for start, end in [*runs, [len(data), len(data)]]:
        refs += list(whole(data[at:start])) if at < start else []
        refs += [(chunk_id(KEY, bytes(n)), n) for p in range(start, end, MAX_CHUNK) if (n := min(MAX_CHUNK, end - p))]
        at = end
    return refs


LAYOUTS = [
    [(1, 0)],
    [(0, 8 * MIB)],
    [(MIB, 0), (0, 8 * MIB), (MIB, 0)],
    [(100, ZERO_RUN), (100, ZERO_RUN + 2 * ZERO_BLOCK), (100, 0)],
    [(WINDOW - 2 * ZERO_BLOCK, 0), (0, 4 * ZERO_BLOCK), (MIB, 0)],  # a run across a window's end
    [(WINDOW - 3 * ZERO_BLOCK, 0), (0, 3 * ZERO_BLOCK), (2 * MIB, 0)],  # one that is too short in the end
    [(5 * MIB + 17, 2 * WINDOW), (3 * MIB, 0)],
    [(0, WINDOW), (17, WINDOW)],
    [(3 * MIB, 333_333)],
    [(3 * MIB, 3 * ZERO_BLOCK - 1)],
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_runs_of_zeros_are_cut_out_and_holes_are_cut_like_written_zeros(
    tmp_path: Path, layout: list[tuple[int, int]]
) -> None:
    dense, sparse = tmp_path / "dense", tmp_path / "sparse"
    data = b"".join(bytes(random.Random(n).randbytes(n)) + bytes(zeros) for n, zeros in layout)
    dense.write_bytes(data)
    with sparse.open("wb") as file:
        for length, zeros in layout:
            file.write(random.Random(length).randbytes(length))
            file.seek(zeros, os.SEEK_CUR)
        file.truncate(len(data))
    assert refs_of(dense) == expected_cuts(data)
    assert refs_of(sparse) == refs_of(dense)


@given(st.lists(st.tuples(st.integers(1, 400_000), st.integers(0, 20)), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_zeros_anywhere_are_cut_by_the_rule(parts: list[tuple[int, int]]) -> None:
    data = b"".join(random.Random(n).randbytes(n) + bytes(blocks * ZERO_BLOCK // 2) for n, blocks in parts)
    assert unpacked(chunk_file(InMemory(data), KEY)) == expected_cuts(data)


@pytest.mark.parametrize("middle", ["data", "zeros", "short zeros", "monotonous"])
@pytest.mark.parametrize("shift", [0, 1, ZERO_BLOCK // 2, 100_003])
def test_cutting_from_the_middle_as_well_cuts_as_cutting_from_the_start(
    monkeypatch: pytest.MonkeyPatch, middle: str, shift: int
) -> None:
    monkeypatch.setattr(chunking, "PARALLEL", MIB)
    monkeypatch.setattr(chunking, "OVERLAP", 3 * MIB)
    source = random.Random(shift)
    between = {
        "data": b"",
        "zeros": bytes(6 * MIB),
        "short zeros": bytes(ZERO_RUN - ZERO_BLOCK // 2),
        "monotonous": b"x" * 6 * MIB,
    }[middle]
    data = source.randbytes(12 * MIB + shift) + between + source.randbytes(12 * MIB)
    assert unpacked(chunk_file(InMemory(data), KEY)) == expected_cuts(data)


@given(st.lists(st.tuples(st.integers(1, 900_000), st.integers(0, 20)), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_zeros_anywhere_are_cut_by_the_rule_in_two_threads(parts: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunking, "PARALLEL", MIN_CHUNK)
        patch.setattr(chunking, "OVERLAP", MIB)
        data = b"".join(random.Random(n).randbytes(n) + bytes(blocks * ZERO_BLOCK // 2) for n, blocks in parts)
        assert unpacked(chunk_file(InMemory(data), KEY)) == expected_cuts(data)


def test_a_big_hole_is_passed_over_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(20 << 30)
        file.seek(10 << 30)
        file.write(b"some data")
    read = 0
    real = os.preadv

    def counting(fd: int, views: list[memoryview], offset: int) -> int:
        nonlocal read
        got = real(fd, views, offset)
        read += got
        return got

    monkeypatch.setattr(os, "preadv", counting)
    refs = refs_of(tmp_path / "f")
    assert sum(length for _, length in refs) == 20 << 30
    assert len({identity for identity, _ in refs}) <= 4  # zeros of two lengths, and what is around the data
    assert read < 8 * WINDOW


def test_chunks_of_zeros_are_known_by_their_ids() -> None:
    key = bytes(32)
    refs = [(chunk_id(key, bytes(MAX_CHUNK)), MAX_CHUNK), (b"x" * 32, ZERO_BLOCK), (chunk_id(key, bytes(5000)), 5000)]
    assert zero_chunks(key, iter(refs), MAX_CHUNK + ZERO_BLOCK + 5000) == {0: MAX_CHUNK, MAX_CHUNK + ZERO_BLOCK: 5000}
    assert not is_zeros(KEY, refs[0][0], MAX_CHUNK, last=True)
    assert not is_zeros(key, chunk_id(key, b""), 0, last=True)
    assert not is_zeros(key, b"x" * 32, 1 << 31, last=True)
