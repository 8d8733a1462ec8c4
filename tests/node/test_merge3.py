"""Three-way merges of texts: clean or not at all, the same from both sides, and no line of anybody's is lost."""

from __future__ import annotations

from difflib import Match, SequenceMatcher
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.merge3 import MAX_STEPS, is_text, merge

# Few different lines, so that they repeat; some texts end without a newline.
lines = st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=8)
texts = st.builds(lambda rows, end: ("\n".join(rows) + end).encode(), lines, st.sampled_from(["\n", ""]))


@st.composite
def changed(draw: st.DrawFn, base: list[str], mark: str) -> list[str]:
    """A text made from `base`, whose new lines are all its own."""
    made: list[str] = []
    for number, line in enumerate(base):
        act = draw(st.sampled_from(["keep", "keep", "keep", "drop", "change", "insert"]))
        made += [f"{mark}{number}"] if act in ("change", "insert") else []
        made += [line] if act in ("keep", "insert") else []
    return made


@st.composite
def families(draw: st.DrawFn) -> tuple[list[str], list[str], list[str]]:
    base = draw(st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True))
    return base, draw(changed(base, "one")), draw(changed(base, "two"))


def text(rows: list[str]) -> bytes:
    return "".join(row + "\n" for row in rows).encode()


@given(texts, texts)
def test_what_both_made_alike_is_the_merge(base: bytes, one: bytes) -> None:
    assert merge(base, one, one) == one


@given(texts, texts)
def test_what_one_alone_changed_is_the_merge(base: bytes, one: bytes) -> None:
    assert merge(base, base, one) == one
    assert merge(base, one, base) == one


@given(texts, texts, texts)
def test_a_merge_is_the_same_from_both_sides(base: bytes, one: bytes, other: bytes) -> None:
    assert merge(base, one, other) == merge(base, other, one)


@given(families())
def test_a_merge_has_every_new_line_of_both_in_order_and_nothing_that_one_deleted(
    family: tuple[list[str], list[str], list[str]],
) -> None:
    base, one, other = family
    merged = merge(text(base), text(one), text(other))
    if merged is None:
        return
    rows = merged.decode().split("\n")[:-1]
    for side, mark in ((one, "one"), (other, "two")):
        assert [row for row in rows if row.startswith(mark)] == [row for row in side if row.startswith(mark)]
    assert [row for row in rows if row in base] == [row for row in base if row in one and row in other]


@given(texts, texts, texts)
def test_a_merge_takes_each_line_from_somewhere(base: bytes, one: bytes, other: bytes) -> None:
    merged = merge(base, one, other)
    if merged is not None:
        known = {line for each in (base, one, other) for line in each.split(b"\n")}
        assert set(merged.split(b"\n")) <= known


@pytest.mark.parametrize(
    ("base", "one", "other", "merged"),
    [
        ("1 2 3 4 5", "1 x 3 4 5", "1 2 3 y 5", "1 x 3 y 5"),
        ("1 2 3 4 5", "0 1 2 3 4 5", "1 2 3 4 5 6", "0 1 2 3 4 5 6"),
        ("1 2 3 4 5", "1 3 4 5", "1 2 3 4 x", "1 3 4 x"),
        ("1 2 3", "1 x 3", "1 x 3 4", "1 x 3 4"),
        ("1 2 3", "1 x 3", "1 y 3", None),  # one line, two ways
        ("1 2 3", "1 x 3", "1 2 y", None),  # lines that touch
        ("1 2 3", "1 2 3 x", "1 2 3 y", None),  # two insertions in one place: their order is nobody's to choose
        ("1 2 3", "1 x 3", "1 3", None),  # changed here, deleted there
        ("", "x", "y", None),
    ],
)
def test_merges(base: str, one: str, other: str, merged: str | None) -> None:
    found = merge(text(base.split()), text(one.split()), text(other.split()))
    assert found == (text(merged.split()) if merged is not None else None)


def test_lines_that_repeat_are_held_against_those_of_their_place() -> None:
    rows = [row for number in range(3000) for row in (f"f{number} {{", "}", "")]
    one, other = rows.copy(), rows.copy()
    one[5:5] = ["new {", "}", ""]
    other[8000:8003] = []
    both = one.copy()
    both[8003:8006] = []
    assert merge(text(rows), text(one), text(other)) == text(both)


def test_a_last_line_without_a_newline_stays_so() -> None:
    assert merge(b"1\n2\n3", b"x\n2\n3", b"1\n2\n3") == b"x\n2\n3"
    assert merge(b"1\n2\n3\n4", b"x\n2\n3\n4", b"1\n2\n3\n4\n") == b"x\n2\n3\n4\n"


def test_a_text_that_would_take_hours_is_not_merged() -> None:
    rows = ["same"] * (int(MAX_STEPS**0.5) + 10)
    assert merge(text(["a", *rows, "b"]), text(["x", *rows, "b"]), text(["a", *rows, "z"])) is not None
    assert merge(text(["a", *rows, "b"]), text(["x", *rows[1:], "y"]), text(["a", *rows, "q"])) is None


def test_a_text_of_many_short_stretches_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 0
    search = SequenceMatcher.find_longest_match

    def counted(self: Any, left_low: int, left_high: int, right_low: int, right_high: int) -> Match:
        nonlocal steps
        steps += sum(1 + len(self.b2j.get(line, ())) for line in self.a[left_low:left_high])
        return search(self, left_low, left_high, right_low, right_high)

    monkeypatch.setattr(SequenceMatcher, "find_longest_match", counted)
    shared = [f"x{number % 1000}" for number in range(15_000)]  # never two in a row, and none of them once
    base = [row for number, line in enumerate(shared) for row in (line, f"b{number // 2}")]
    one = [row for number, line in enumerate(shared) for row in (line, f"o{number // 2}")]
    assert merge(text(base), text(one), text([*base, "z"])) is None
    assert steps <= MAX_STEPS


@pytest.mark.parametrize(
    ("data", "expected"), [(b"", True), ("ä\n".encode(), True), (b"\xe4\n", False), (b"a\0b", False)]
)
def test_what_a_text_is(data: bytes, expected: bool) -> None:
    assert is_text(data) is expected
