"""Node ids that two devices derive alike without talking to each other."""

from __future__ import annotations

import blake3

from shoal.crdt.model import FactId, Kind, NodeId


def derived_node_id(parent: NodeId, name: str, kind: Kind) -> NodeId:
    """Return the first id of a node made at this place: two devices that add the same path agree on it."""
    text = name.encode("utf-8", "surrogateescape")
    return NodeId(blake3.blake3(b"shoal node\0" + parent + kind.encode() + b"\0" + text).digest(16))


def copy_id(node: NodeId, head: FactId) -> NodeId:
    """Return the id under which the losing version `head` of `node` is shown as a conflict copy."""
    return NodeId(blake3.blake3(b"shoal copy\0" + node + head).digest(16))
