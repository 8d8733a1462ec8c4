"""Devices that settle conflicts on their own come to an end, agree, and lose nobody's words, whatever the order."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import blake3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt.frontier import missing
from shoal.crdt.keys import DeviceKey, FolderKeys
from shoal.crdt.model import ROOT, Content, DeviceId, FactId, FileContent, FolderId, NodeId, NodeView, Version
from shoal.crdt.rivals import Mergeable, Stands, judge, merged_meta
from shoal.node.changes import Create, Edit, Resolve
from shoal.node.folder.merging import Merger
from shoal.node.folder.stash import Stashed
from shoal.node.replica import Replica
from shoal.node.store import MemoryStore

LINES = 7
TEXTS: dict[bytes, bytes] = {}  # chunk id -> bytes: as if every device could get all of them


def content_of(text: bytes, mode: int = 0o644, mtime_ns: int = 0) -> FileContent:
    chunk = blake3.blake3(text).digest()
    TEXTS[chunk] = text
    return FileContent(len(text), mode, mtime_ns, chunk + len(text).to_bytes(4))


def text_of(content: Content | None) -> bytes:
    assert isinstance(content, FileContent)
    return TEXTS[content.chunks[:32]]


class Disk:
    """Stands in for index, contents, stash and turns of a device that holds every byte."""

    def __init__(self) -> None:
        self.places = self

    def copies(self, owner: NodeId) -> list[NodeId]:
        return []

    def keep(self, *arguments: Any) -> Any:
        _, data = arguments
        return Stashed("", content_of(data)) if isinstance(data, bytes) else None

    def drop(self, stashed: Stashed) -> None:
        pass

    async def whole(self, contents: Sequence[Content]) -> list[bytes]:
        return [text_of(content) for content in contents]

    async def apart(self, work: Callable[..., Any], *arguments: object) -> Any:
        return work(*arguments)


class Device:
    """A replica of a folder with one file, and what merges in it."""

    def __init__(self, number: int) -> None:
        key = DeviceKey(bytes([number]) * 32)
        entropy = random.Random(number).randbytes
        store = MemoryStore()
        self.replica = Replica(
            store,
            FolderId(b"f" * 16),
            FolderKeys.from_secret(b"s" * 32),
            key,
            lambda device: True,
            lambda: 1000,
            entropy,
        )
        disk = cast(Any, Disk())
        self.merger = Merger(disk, disk, self.replica, disk, disk)

    def views(self) -> list[NodeView]:
        return self.replica.children(ROOT)

    def add_word(self, line: int, word: str, mode: int, mtime_ns: int, at: int = 0) -> None:
        """Have a person add a word to a line of the file, or of one of its copies."""
        views = self.views()
        view = views[at % len(views)]
        lines = text_of(view.version.content).split(b"\n")
        lines[line] += b" " + word.encode()
        content = content_of(b"\n".join(lines), mode, mtime_ns)
        self.replica.commit([Edit(view.id, content, view.version.id)])

    def choose(self, at: int) -> None:
        """Have a person settle the conflict, if there is one."""
        for view in self.views():
            if view.conflicts:
                version = (view.version, *view.conflicts)[at % (1 + len(view.conflicts))]
                heads = tuple(head.id for head in self.replica.heads(view.id))
                self.replica.commit([Resolve(view.id, heads, version.content, chosen=True)])

    async def settle(self) -> bool:
        """Do what can be done without a person; return whether there was any."""
        done = False
        for node in list(self.replica.conflicted):
            while self.merger.wants(node):
                done = await self.merger.settle(node) != "left" or done
        return done

    def send(self, other: Device) -> None:
        for span in missing(self.replica.frontier, other.replica.frontier):
            assert other.replica.receive_entries(self.replica.read_entries(span)) is None


async def begun(count: int) -> list[Device]:
    devices = [Device(number) for number in range(1, count + 1)]
    base = content_of(b"\n".join(b"line %d" % number for number in range(LINES)))
    devices[0].replica.commit([Create(ROOT, "f", "file", base)])
    for other in devices[1:]:
        devices[0].send(other)
    return devices


async def end(devices: Sequence[Device]) -> int:
    """Let all hear of all and settle until nothing happens any more; return how many rounds it took."""
    for count in range(40):
        for one in devices:
            for other in devices:
                if one is not other:
                    one.send(other)
        if not any([await device.settle() for device in devices]):
            return count
    raise AssertionError("they never come to an end")


device = st.integers(0, 2)
acts = st.one_of(
    st.tuples(st.just("edit"), device, st.integers(0, LINES - 1), st.sampled_from([0o644, 0o600, 0o755])),
    st.tuples(st.just("edit"), device, st.integers(0, LINES - 1), st.just(0o644)),
    st.tuples(st.just("send"), device, device, st.just(0)),
    st.tuples(st.just("settle"), device, st.just(0), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(acts, max_size=25))
async def test_devices_that_merge_in_any_order_come_to_an_end_agree_and_keep_every_word(
    steps: list[tuple[str, int, int, int]],
) -> None:
    devices = await begun(3)
    words = []
    for number, (what, who, which, mode) in enumerate(steps):
        match what:
            case "edit":
                words.append(f"word{number}.")
                devices[who].add_word(which, words[-1], mode, number)
            case "send" if who != which:
                devices[who].send(devices[which])
            case "settle":
                await devices[who].settle()
    await end(devices)
    assert devices[0].views() == devices[1].views() == devices[2].views()
    shown = b"\n".join(text_of(view.version.content) for view in devices[0].views())
    assert [word for word in words if word.encode() not in shown] == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(acts, st.tuples(st.just("choose"), device, device, st.just(0))), max_size=25))
async def test_people_who_settle_beside_devices_that_merge_come_to_an_end_and_agree(
    steps: list[tuple[str, int, int, int]],
) -> None:
    devices = await begun(3)
    for number, (what, who, which, mode) in enumerate(steps):
        match what:
            case "edit":
                devices[who].add_word(which, f"word{number}.", mode, number, at=number)
            case "choose":
                devices[who].choose(which)
            case "send" if who != which:
                devices[who].send(devices[which])
            case "settle":
                await devices[who].settle()
    await end(devices)
    assert devices[0].views() == devices[1].views() == devices[2].views()


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(LINES)), st.lists(st.tuples(device, device), max_size=8))
async def test_three_people_who_change_lines_that_do_not_touch_never_see_a_conflict(
    order: list[int], sends: list[tuple[int, int]]
) -> None:
    devices = await begun(3)
    apart = [line for line in order if line % 2 == 0][:3]
    for who, line in enumerate(apart):
        devices[who].add_word(line, f"by{who}", 0o644, who)
    for who, to in sends:
        if who != to:
            devices[who].send(devices[to])
            await devices[to].settle()
    assert await end(devices) <= 4
    (view,) = devices[0].views()
    text = text_of(view.version.content)
    assert all(f"by{who}".encode() in text for who in range(3))
    assert isinstance(view.version.content, FileContent)
    assert view.version.content.mtime_ns == 2


async def test_two_devices_that_merge_at_once_write_the_same() -> None:
    devices = await begun(2)
    devices[0].add_word(1, "one", 0o600, 5)
    devices[1].add_word(4, "other", 0o755, 7)
    for one, other in (devices, devices[::-1]):
        one.send(other)
    assert [await each.settle() for each in devices] == [True, True]
    contents = [each.views()[0].version.content for each in devices]
    assert contents[0] == contents[1]
    assert await end(devices) == 0
    assert len(devices[0].replica.heads(devices[0].views()[0].id)) == 2


async def test_devices_that_merged_alike_and_went_on_merge_again() -> None:
    devices = await begun(2)
    devices[0].add_word(1, "one", 0o644, 0)
    devices[1].add_word(4, "other", 0o644, 0)
    for one, other in (devices, devices[::-1]):
        one.send(other)
    for each in devices:
        await each.settle()
    devices[0].add_word(1, "more", 0o644, 0)
    devices[1].add_word(4, "yet", 0o644, 0)
    await end(devices)
    (view,) = devices[0].views()
    assert text_of(view.version.content).split(b"\n")[1:5:3] == [b"line 1 one more", b"line 4 other yet"]


async def test_programs_that_merge_differently_come_to_an_end() -> None:
    """As after an update of the one and not of the other: they leave it to a person."""
    devices = await begun(2)
    devices[0].add_word(1, "one", 0o644, 0)
    devices[1].add_word(4, "other", 0o644, 0)
    for one, other in (devices, devices[::-1]):
        one.send(other)
    for number, each in enumerate(devices):
        (node,) = each.replica.conflicted
        heads = tuple(head.id for head in each.replica.heads(node))
        each.replica.commit([Resolve(node, heads, content_of(b"merge %d" % number), chosen=False)])
    await end(devices)
    assert len(devices[0].views()) == 2


@pytest.mark.parametrize(
    ("base", "one", "other", "mode"),
    [(0o644, 0o644, 0o600, 0o600), (0o644, 0o755, 0o600, 0o711), (0o600, 0o640, 0o640, 0o640)],
)
def test_permissions_are_merged_bit_by_bit(base: int, one: int, other: int, mode: int) -> None:
    made = [FileContent(0, each, number, b"") for number, each in enumerate((base, one, other))]
    assert merged_meta(*made) == merged_meta(made[0], made[2], made[1]) == (mode, 2)


# -- the rules, on histories written down: version -> what it replaces, and its content; content 0 deletes


def history(text: str) -> dict[str, Version]:
    """Read `a: 1, b<a: 2`: versions of a file, oldest first, and the number that stands for their content."""
    found: dict[str, Version] = {}
    for number, part in enumerate(text.split(",")):
        names, content = part.split(":")
        name, _, behind = names.strip().partition("<")
        facts = tuple(found[each].id for each in behind.split("+") if each)
        file = FileContent(1, 0o644, 0, bytes([int(content)]) * 32 + bytes([0, 0, 0, 1])) if int(content) else None
        made = Version(FactId(name.encode().ljust(12)), facts, number, DeviceId(bytes(32)), 0, file)
        found[name] = made
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("o: 1, a<o: 2, b<o: 3", "merge o"),
        ("o: 1, p<o: 2, a<p: 3, b<p: 4", "merge p"),
        ("a: 2, b: 3", None),  # nothing in common: made apart under one name
        ("o: 1, s<o: 2, a<s: 3, b<o: 2", "a"),  # the same edit apart, then one more
        ("o: 1, s<o: 2, a<s: 3, t<o: 2, b<t: 4", "merge s"),  # the same edit apart, then one more each
        ("o: 1, x<o: 2, y<x: 3, a<y: 4, z<o: 4, b<z: 3", None),  # a file and its copy changed names
        ("o: 1, a<o: 2, x<o: 3, b<x: 1", "a"),  # changed and changed back
        ("o: 1, d<o: 0, a<d: 2, b<d: 3", None),  # made anew after a deletion: what was deleted is no ancestor
        ("o: 1, x<o: 2, y<o: 3, a<x+y: 4, b<x+y: 5", None),  # merged differently
        ("o: 1, x<o: 2, y<o: 3, z<o: 6, m<x+y: 4, a<m+z: 7, b<x+z: 5", "a"),  # b brings together what a has
        ("o: 1, x<o: 2, y<o: 3, p<x+y: 2, a<p: 2, q<x+y: 3, b<q: 3", None),  # two people settled it, in two ways
        ("o: 1, x<o: 2, y<o: 3, z<o: 4, p<x+y: 2, a<p: 2, m<x+y: 5, b<m+z: 6", None),  # a person's word stays
        ("o: 1, x<o: 2, y<o: 3, p<x+y: 2, a<p: 2, b<x: 5", "b"),  # settled for x, which was edited meanwhile
        ("o: 1, x<o: 2, y<o: 3, p<x+y: 4, a<p: 4, b<x: 5", "merge x"),  # merged by hand, beside an edit
    ],
)
def test_what_is_judged_of_two_heads(text: str, expected: str | None) -> None:
    known = history(text)
    facts = {version.id: version for version in known.values()}

    def shown(one: str, other: str) -> str | None:
        match judge(known[one], known[other], facts.get):
            case Stands(version):
                return version.id.decode().strip()
            case Mergeable(base):
                return f"merge {base.id.decode().strip()}"
        return None

    assert shown("a", "b") == shown("b", "a") == expected


def test_a_history_that_is_not_all_known_is_left_alone() -> None:
    known = history("o: 1, a<o: 2, b<o: 3")
    facts = {version.id: version for name, version in known.items() if name != "o"}
    assert judge(known["a"], known["b"], facts.get) is None
