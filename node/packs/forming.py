"""What a pack is made of, by a folder's policy."""

from __future__ import annotations

import trio

from shoal.node.packs.sheet import FolderPolicy, Form
from shoal.transfer import erasure, merkle
from shoal.transfer.placement import Policy

MOST_CHUNKS = 8192  # in a pack


async def split(size: int, root: bytes, data: bytes | bytearray, said: FolderPolicy) -> Form:
    """Return the form of a pack by a policy: what its pieces are."""
    policy = said.policy
    if not policy.is_erasure:
        return Form(size, root, time_ms=said.time_ms)
    coding = erasure.Coding(policy.k, policy.m)

    def roots() -> tuple[bytes, ...]:
        return tuple(merkle.root_of(piece) for piece in erasure.encode(data, coding))

    return Form(size, root, policy.k, policy.m, await trio.to_thread.run_sync(roots), said.time_ms)


def policy_of(form: Form, said: FolderPolicy) -> Policy:
    """Return how a pack of a form is to be held: as the folder's policy says, or, where it is not split as that says,
    so that it can lose as many holders."""
    policy = said.policy
    if (form.k, form.m) == (policy.k, policy.m):
        return policy
    if form.k:
        return Policy(k=form.k, m=form.m, min_zones=min(policy.min_zones, form.pieces))
    copies = policy.m + 1
    return Policy(copies=copies, min_zones=min(policy.min_zones, copies))
