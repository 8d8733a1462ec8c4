"""What the folder engine asks of the document: a person's changes, seen on this device's disk."""

from __future__ import annotations

from dataclasses import dataclass

from shoal.crdt.model import Content, FactId, Kind, NodeId


@dataclass(frozen=True, slots=True)
class Create:
    """A node appeared. `parent`: its id, or the place in this batch of the `Create` that makes the parent."""

    parent: NodeId | int
    name: str
    kind: Kind
    content: Content


@dataclass(frozen=True, slots=True)
class Edit:
    """The content changed. `base`: the version that was on disk before; None when none is known to have been. `apart`:
    versions of the file that are on disk under other names, of which it says nothing, be they like `base`."""

    node: NodeId
    content: Content
    base: FactId | None
    apart: tuple[FactId, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """The node has another parent, name, or both. `parent` as in `Create`."""

    node: NodeId
    parent: NodeId | int
    name: str


@dataclass(frozen=True, slots=True)
class Delete:
    """The node is gone from the disk. `base`: the version that was on disk; `seen`: the locations that it was seen at,
    see `folder.deletion`. Without any the deletion holds against every move. `apart`: as in `Edit`."""

    node: NodeId
    base: FactId | None
    seen: tuple[FactId, ...] = ()
    apart: tuple[FactId, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolve:
    """One content in place of competing versions, `replaces`; None drops these, and leaves what else stands. Whoever
    asks for a content holds its bytes. `chosen`: by a person."""

    node: NodeId
    replaces: tuple[FactId, ...]
    content: Content | None
    chosen: bool


DocChange = Create | Edit | Move | Delete | Resolve


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a change: the node it is about from now on, and the version that stands for it, if it made one."""

    node: NodeId
    version: FactId | None
