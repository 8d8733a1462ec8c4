"""Metadata of a device in memory, and what a person does at random, told by its author."""

from __future__ import annotations

import random

from shoal.crdt.authoring import Author, Lamport
from shoal.crdt.document import Document, MemoryShards
from shoal.crdt.model import ROOT, DeviceId, DirContent, Fact, FactId, FileContent, NodeId, NodeView
from shoal.crdt.tree import Tree
from shoal.crdt.tree_index import MemoryIndex

Update = tuple[int, int, dict[int, bytes]]  # author, number, shard updates


class Replica:
    """A device's metadata in memory: a document, a tree, and the updates it wrote."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.number = number
        self.rng = rng
        self.document = Document(1000 + number, MemoryShards())
        self.tree = Tree(MemoryIndex())
        self.lamport = Lamport()
        self.now_ms = 0
        self.author = Author(DeviceId(bytes([number]) * 32), self.lamport, rng.randbytes, lambda: self.now_ms)
        self.written: list[Update] = []
        self.facts: dict[FactId, tuple[NodeId, Fact]] = {}

    def take(self, facts: list[tuple[NodeId, Fact]]) -> None:
        for node, fact in facts:
            assert fact.id not in self.facts
            self.facts[fact.id] = node, fact
            self.lamport.observe(fact.lamport)
        self.tree.apply(facts)

    def write(self, facts: list[tuple[NodeId, Fact]]) -> None:
        self.written.append((self.number, len(self.written), self.document.add(facts)))
        self.take(facts)

    def receive(self, update: Update) -> None:
        self.take(self.document.apply(update[2]))

    def act(self) -> None:
        """Do one thing that a person could do here."""
        rng = self.rng
        views = all_views(self.tree)
        folders = [ROOT, *(v.id for v in views if v.kind == "dir")]
        name = rng.choice("abc")
        content = FileContent(1, 0o644, 0, rng.randbytes(32) + bytes([0, 0, 0, 1]))
        what = rng.choice(["file", "dir", "edit", "move", "move", "delete"])
        view = rng.choice(views) if views else None
        parent = rng.choice(folders)
        taken = {v.name for v in self.tree.children(parent)}
        if what == "file" and name not in taken:
            self.write(self.author.create(self.tree, parent, name, "file", content)[1])
        elif what == "dir" and name not in taken:
            self.write(self.author.create(self.tree, parent, name, "dir", DirContent(0o755))[1])
        elif view is None:
            return
        elif what == "edit" and view.kind == "file":
            self.write(self.author.edit(self.tree, view.id, content, view.version.id))
        elif what == "move" and name not in taken and parent not in {view.id, *below(self.tree, view.id)}:
            self.write(self.author.move(self.tree, view.id, parent, name)[1])
        elif what == "delete" and view.kind == "file":
            facts = self.author.delete(self.tree, view.id, view.version.id)
            if facts:
                self.write(facts)


def below(tree: Tree, node: NodeId) -> set[NodeId]:
    found = {child.id for child in tree.children(node)}
    return found | {deeper for child in found for deeper in below(tree, child)}


def all_views(tree: Tree, parent: NodeId = ROOT) -> list[NodeView]:
    found = tree.children(parent)
    return found + [deeper for view in found if view.kind == "dir" for deeper in all_views(tree, view.id)]
