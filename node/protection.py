"""Having this node's secrets sealed, and unsealed again, while it runs; a crash at any point leaves a home that opens.

Sealed first is the file that opens them, then each secret; unsealed first is each secret, then that file goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from shoal.node import vault
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.store import StoreFull
from shoal.node.users import check_password
from shoal.node.vault import Vault, Way

if TYPE_CHECKING:
    from shoal.node.daemon import Node


class Protection:
    """The vault of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._one_at_a_time = trio.Lock()

    def state(self) -> dict[str, Any]:
        """Return how the secrets are sealed: "password", "keyring" or "none"."""
        return {"way": vault.way_of(self._node.home) or "none"}

    async def seal(self, way: Way, password: str | None) -> None:
        """Seal the secrets from now on. Raises UserError, StoreFull, OSError."""
        async with self._one_at_a_time:
            self._check_open()
            if way == "password":
                user = self._node.users.user
                check_password(password or "", user.username if user is not None else "")
            made = await trio.to_thread.run_sync(vault.make, self._node.home, password if way == "password" else None)
            try:
                self._write_with(made)
            except StoreFull:  # nothing was sealed yet
                vault.remove(self._node.home)
                raise
            self._node.events.add("sealed", f"this node's secrets are sealed, by {way}")

    async def unseal(self) -> None:
        """Seal them no more. Raises UserError, StoreFull, OSError."""
        async with self._one_at_a_time:
            self._write_with(Vault())
            vault.remove(self._node.home)
            self._node.events.add("unsealed", "this node's secrets are sealed no more")

    def _check_open(self) -> None:
        if vault.way_of(self._node.home) is not None:
            raise UserError(
                "sealed-already",
                "this node's secrets are sealed already",
                "to change how: shoal account protect --off, then again",
                EXIT_USAGE,
                409,
            )

    def _write_with(self, made: Vault) -> None:
        node = self._node
        node.account.write_with(made)
        node.home.write_seed(node.key.seed, made)
        node.back_up()
        node.forget_replaced_secrets()
