"""The rule of what is wanted on a disk: the nearest choice decides; and what the planner makes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.crdt.model import ROOT, DeviceId, DirContent, FactId, FileContent, FolderId, NodeId, NodeView, Version
from shoal.node.folder.local import LocalIndex, LocalNode
from shoal.node.folder.planner import MakeFolder, Note, Park, Place, Remove, Rename, SetMeta, Wait, plan
from shoal.node.folder.selection import SelectedDocument, Selection
from shoal.node.folder.signature import Signature
from shoal.node.store import MemoryStore, Staging

FOLDER = FolderId(b"f" * 16)


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(16))


def view(number: int, parent: int = 0, kind: str = "file") -> NodeView:
    content = DirContent(0o755) if kind == "dir" else FileContent(number, 0o644, 0, bytes(36))
    version = Version(FactId(number.to_bytes(12)), (), number, DeviceId(bytes(32)), 0, content)
    above = node(parent) if parent else ROOT
    return NodeView(
        node(number), above, f"n{number}", "dir" if kind == "dir" else "file", version, (), FactId(b"l" * 12)
    )


class Document:
    """A replica's tree, as a dict."""

    def __init__(self, *views: NodeView) -> None:
        self.views = {each.id: each for each in views}
        self.tree = SimpleNamespace(copies=lambda node: [])

    def view(self, node: NodeId) -> NodeView | None:
        return self.views.get(node)

    def is_waiting(self, node: NodeId) -> bool:
        return False


def selection(document: Any, store: MemoryStore | None = None) -> Selection:
    return Selection(Staging(store or MemoryStore()), FOLDER, document)


PHOTOS, YEAR, PICTURE, NOTES = view(1, kind="dir"), view(2, 1, "dir"), view(3, 2), view(4)


def test_the_nearest_choice_decides() -> None:
    document = Document(PHOTOS, YEAR, PICTURE, NOTES)
    chosen = selection(document)
    assert all(map(chosen.wants, document.views))
    chosen.choose(PHOTOS.id, False)
    assert [chosen.wants(each) for each in document.views] == [False, False, False, True]
    chosen.choose(PICTURE.id, True)
    assert [chosen.wants(each) for each in document.views] == [False, False, True, True]
    assert [chosen.leads_on(each) for each in document.views] == [True, True, False, False]


def test_a_choice_for_a_folder_voids_those_in_it() -> None:
    chosen = selection(Document(PHOTOS, YEAR, PICTURE, NOTES))
    chosen.choose(ROOT, False)
    chosen.choose(PICTURE.id, True)
    chosen.choose(PHOTOS.id, False)
    assert chosen.choices == {ROOT: False}
    chosen.choose(ROOT, True)
    assert chosen.choices == {}
    assert chosen.was_used


def test_choices_follow_the_node_and_not_its_path() -> None:
    document = Document(PHOTOS, YEAR, PICTURE, NOTES)
    chosen = selection(document)
    chosen.choose(PHOTOS.id, False)
    document.views[YEAR.id] = view(2, kind="dir")
    assert chosen.wants(PICTURE.id), "it was moved out"
    document.views[NOTES.id] = view(4, 1)
    assert not chosen.wants(NOTES.id), "it was moved in"


def test_choices_and_wishes_are_there_after_a_restart() -> None:
    store, document = MemoryStore(), Document(PHOTOS, YEAR, PICTURE, NOTES)
    staging = Staging(store)
    chosen = Selection(staging, FOLDER, document)  # type: ignore[arg-type]
    chosen.choose(PHOTOS.id, False)
    chosen.choose(PICTURE.id, True)
    chosen.wish("caf\udce9/x", False)
    chosen.strayed(NOTES.id)
    staging.commit()
    again = selection(document, store)
    assert (again.choices, again.wishes, again.strays) == (chosen.choices, {"caf\udce9/x": False}, {NOTES.id})


def record(shown: NodeView, parent: NodeId | None = None) -> LocalNode:
    content, number = shown.version.content, int.from_bytes(shown.id)
    assert content is not None
    signature = Signature(1, number, 1, 1, 1, 1)
    return LocalNode(shown.id, parent or shown.parent, shown.name, shown.kind, shown.version.id, content, signature)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_plan_brings_or_removes_what_is_left_out(data: st.DataObject) -> None:
    shown: list[NodeView] = []
    for number in range(1, data.draw(st.integers(1, 10)) + 1):
        folders = [0, *(int.from_bytes(each.id) for each in shown if each.kind == "dir")]
        shown.append(view(number, data.draw(st.sampled_from(folders)), data.draw(st.sampled_from(["dir", "file"]))))
    document = Document(*shown)
    store = MemoryStore()
    staging = Staging(store)
    index = LocalIndex(staging, FOLDER)
    chosen = Selection(staging, FOLDER, document)  # type: ignore[arg-type]
    for each in shown:
        is_there = each.parent == ROOT or index.get(each.parent) is not None
        if is_there and data.draw(st.booleans()):
            index.put(record(each))
    for each in shown:
        match data.draw(st.sampled_from(["no choice", "wanted", "left out"])):
            case "wanted":
                chosen.choose(each.id, True)
            case "left out":
                chosen.choose(each.id, False)
    wanted = {each.id for each in shown if chosen.wants(each.id)}
    needed = wanted | {each.id for each in shown if chosen.leads_on(each.id)}
    there = {each.id for each in shown if index.get(each.id) is not None}
    brought = set()
    for step in plan([each.id for each in shown], SelectedDocument(document, chosen, index), index):  # type: ignore[arg-type]
        match step:
            case MakeFolder(made) | Place(made):
                brought.add(made.id)
            case Remove() | Rename() | Park() | SetMeta() | Note() | Wait():
                raise AssertionError(f"nothing here is to go, or to be otherwise: {step}")
    assert brought == needed - there


def test_what_is_left_out_and_still_there_moves_along_where_its_place_is_here() -> None:
    document = Document(PHOTOS, YEAR, PICTURE, NOTES)
    staging = Staging(MemoryStore())
    index = LocalIndex(staging, FOLDER)
    chosen = Selection(staging, FOLDER, document)  # type: ignore[arg-type]
    for each in (PHOTOS, NOTES):
        index.put(record(each))
    chosen.choose(NOTES.id, False)
    selected = SelectedDocument(document, chosen, index)  # type: ignore[arg-type]
    document.views[NOTES.id] = view(4, 1)
    (step,) = plan([NOTES.id], selected, index)
    assert isinstance(step, Rename)
    assert step.view.parent == PHOTOS.id
    document.views[NOTES.id] = view(4, 2)
    assert plan([NOTES.id], selected, index) == [], "its new folder is not here: it stays where it is"
