"""The tree's index on the node's store: records by node id, children by (parent, name), all behind one `Staging`.

Keys, each after the folder's 16 bytes, in column `index`:
    n + node                      -> the node's record
    c + parent + name + NUL + node -> empty; children of a parent, by own name
    x + node                      -> empty; nodes that a cycle displaced
    o + copy id                   -> owner's node id, for conflict copies
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shoal.crdt.model import FolderId, NodeId
from shoal.node.store import Staging
