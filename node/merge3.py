"""Three-way merge of texts by lines. Pure: the same three texts give the same result on every device.

A stretch that one side changed is taken from it; one that both changed alike is taken once. Where both changed the same
stretch, or stretches that touch, nothing is merged: a wrong merge is worse than a conflict.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import accumulate

MAX_TEXT = 1 << 20  # bytes
MAX_LINES = 30_000
MAX_STEPS = 5_000_000  # of comparing one text with another: a second or two


def is_text(data: bytes) -> bool:
    """Return whether it is UTF-8 without a NUL, and not too long."""
    if len(data) > MAX_TEXT or b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def merge(base: bytes, one: bytes, other: bytes) -> bytes | None:
    """Return the text with the changes of both; None when they are in each other's way, or it would take too long."""
    if one == other or other == base:
        return one
    if one == base:
        return other
    lines, ones, others = _lines(base), _lines(one), _lines(other)
    if max(len(lines), len(ones), len(others)) > MAX_LINES:
        return None
    same_one, same_other = _matches(lines, ones), _matches(lines, others)
    if same_one is None or same_other is None:
        return None
    merged: list[bytes] = []
    for b, o, t in _stretches(lines, ones, others, same_one, same_other):
        if o == t or t == b:
            merged += o
        elif o == b:
            merged += t
        else:
            return None
    return b"".join(merged)


_Stretch = tuple[Sequence[bytes], Sequence[bytes], Sequence[bytes]]


def _stretches(
    base: list[bytes], one: list[bytes], other: list[bytes], in_one: dict[int, int], in_other: dict[int, int]
) -> Iterator[_Stretch]:
    """Yield all three texts in stretches: a line that all have, then what differs up to the next such line."""
    b = o = t = 0
    for line in [*sorted(in_one.keys() & in_other.keys()), len(base)]:
        end_one, end_other = in_one.get(line, len(one)), in_other.get(line, len(other))
        if line == len(base):
            end_one, end_other = len(one), len(other)
        yield base[b:line], one[o:end_one], other[t:end_other]
        if line < len(base):
            yield (base[line : line + 1],) * 3
        b, o, t = line + 1, end_one + 1, end_other + 1


def _matches(base: list[bytes], side: list[bytes]) -> dict[int, int] | None:
    """Return base line -> the line of `side` that it became, both ascending; None when it would take too long.

    Lines that each text has once are held against each other first (patience diff): what is between two of them is
    short, and braces and empty lines are not taken for those of other places."""
    found: dict[int, int] = {}
    steps = MAX_STEPS
    b = s = 0
    for next_b, next_s in [*_anchors(base, side), (len(base), len(side))]:
        left, right = base[b:next_b], side[s:next_s]
        start, most = 0, min(len(left), len(right))
        while start < most and left[start] == right[start]:
            start += 1
        end = 0
        while end < most - start and left[-1 - end] == right[-1 - end]:
            end += 1
        found.update((b + at, s + at) for at in range(start))
        inner_left, inner_right = left[start : len(left) - end], right[start : len(right) - end]
        blocks, steps = _blocks(inner_left, inner_right, steps)
        if blocks is None:
            return None
        for left_at, right_at, size in blocks:
            found.update((b + start + left_at + at, s + start + right_at + at) for at in range(size))
        found.update((next_b - 1 - at, next_s - 1 - at) for at in range(end))
        if next_b < len(base):
            found[next_b] = next_s
        b, s = next_b + 1, next_s + 1
    return found


def _blocks(left: list[bytes], right: list[bytes], steps: int) -> tuple[list[tuple[int, int, int]] | None, int]:
    """Return where stretches of both are equal, as difflib finds them, and how many of the `steps` are left; None for
    the stretches when they do not suffice: many short ones cost the square of their number, and more."""
    counts = Counter(right)
    costs = [0, *accumulate(1 + counts[line] for line in left)]  # of looking at the first lines of `left`
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    found: list[tuple[int, int, int]] = []
    queue = [(0, len(left), 0, len(right))]
    while queue:
        left_low, left_high, right_low, right_high = queue.pop()
        steps -= costs[left_high] - costs[left_low]
        if steps < 0:
            return None, 0
        at, to, size = matcher.find_longest_match(left_low, left_high, right_low, right_high)
        if size:
            found.append((at, to, size))
            if left_low < at and right_low < to:
                queue.append((left_low, at, right_low, to))
            if at + size < left_high and to + size < right_high:
                queue.append((at + size, left_high, to + size, right_high))
    return found, steps


def _anchors(base: list[bytes], side: list[bytes]) -> list[tuple[int, int]]:
    """Return the places of lines that both have once, as many as are in the same order in both."""
    counts, others = Counter(base), Counter(side)
    places = {line: at for at, line in enumerate(side) if others[line] == 1}
    pairs = [(at, places[line]) for at, line in enumerate(base) if counts[line] == 1 and line in places]
    ends: list[int] = []  # of the ascending runs so far, by length: the place in `side` that the best one ends with
    best: list[int] = []  # likewise, the number of that pair
    before: list[int] = []  # for each pair, the one before it in its run
    for number, (_, at) in enumerate(pairs):
        length = bisect_left(ends, at)
        before.append(best[length - 1] if length else -1)
        ends[length : length + 1] = [at]
        best[length : length + 1] = [number]
    run: list[tuple[int, int]] = []
    number = best[-1] if best else -1
    while number >= 0:
        run.append(pairs[number])
        number = before[number]
    return run[::-1]


def _lines(text: bytes) -> list[bytes]:
    """Return the lines with their ends; only a newline ends one."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines
