"""Pairing as the node does it: a code that is open here, and joining the account of the device that shows one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from shoal.bootstrap.host import Unreachable
from shoal.bootstrap.pairing import PROTOCOL, NotInvited, Offer, Offers, PairingFailed, join
from shoal.bootstrap.pairing_codes import Code, parse_code
from shoal.bootstrap.peerid import device_from_text
from shoal.crdt.model import DeviceId
from shoal.node.account import Invitation
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.transfer.stream import StreamClosed

if TYPE_CHECKING:
    from shoal.node.daemon import Node

HEARD_WITHIN = 5.0  # seconds in which a device that shows a code is heard of on the local network


class Pairing:
    """The two sides of pairing for one node. `offers` serves those who join."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.offers = Offers(node.key.id, time.monotonic, self._invite, self._on_result)

    async def offer(self) -> Offer:
        """Open a one-time code. Raises UserError."""
        self._node.account.check_member()
        made = self.offers.open()
        if self._node.nearby.mdns is not None:
            self._node.start(self._node.nearby.mdns.set_plate, made.code.plate)
        self._node.events.add("pairing-offered", "a pairing code is open for ten minutes")
        return made

    async def join(self, text: str, addresses: Sequence[str]) -> str:
        """Join the account of the device that shows the code; return that device's name. Raises UserError."""
        try:
            code = parse_code(text)
            for address in addresses:
                if "/p2p/" not in address:
                    raise ValueError(f"the address {address!r} lacks /p2p/ and the device's peer id at its end")
            hints = [(device_from_text(a.rpartition("/p2p/")[2]), a) for a in addresses]
        except ValueError as error:
            raise UserError("bad-pairing", str(error), "check what the other device shows", EXIT_USAGE, 400) from error
        self._node.account.check_alone()
        self._node.sharing.check_alone()
        hints = hints or await self._heard(code)
        if not hints:
            raise UserError(
                "device-not-found",
                "no device on this network shows that code",
                "give the address that the other device shows: shoal pair CODE --address ADDRESS",
            )
        device = hints[0][0]
        invitation = await self._ask(device, [address for _, address in hints], code)
        await self._node.become_part_of(invitation)
        for _, address in reversed(hints):
            self._node.reached(device, address)
        other = self._node.account.devices().get(device, "the other device")
        self._node.events.add("paired", f"paired with {other}")
        return other

    async def _ask(self, device: DeviceId, addresses: Sequence[str], code: Code) -> Invitation:
        host, account = self._node.host, self._node.account
        try:
            if device not in host.connected():
                await host.connect(device, addresses)
            stream = await host.open(device, PROTOCOL)
            name = account.name
            return Invitation.decode(await join(stream, self._node.key.id, code, name))
        except (Unreachable, StreamClosed) as error:
            raise UserError(
                "device-unreachable",
                f"the other device cannot be reached: {error}",
                "check its address and that it runs",
            ) from error
        except (PairingFailed, ValueError) as error:
            self._node.events.add("pairing-failed", str(error))
            raise UserError(
                "pairing-failed", str(error), "run shoal pair on the other device for a new code"
            ) from error

    async def _heard(self, code: Code) -> list[tuple[DeviceId, str]]:
        mdns = self._node.nearby.mdns
        if mdns is None:
            return []
        with trio.move_on_after(HEARD_WITHIN):
            while not (matching := [one for one in mdns.found.values() if one.plate == code.plate]):
                await mdns.heard.wait()
            return [(matching[0].device, address) for address in matching[0].addresses]
        return []

    def _invite(self, device: DeviceId, name: str) -> bytes:
        try:
            return self._node.account.invitation_for(device, name).encode()
        except UserError as error:
            raise NotInvited(error.message) from error

    def _on_result(self, device: DeviceId, text: str, joined: bool) -> None:
        if joined:
            self._node.events.add("paired", f"paired with {text}")
            self._node.membership.trust()
        else:
            self._node.events.add("pairing-failed", text)
        if self._node.nearby.mdns is not None:
            self._node.start(self._node.nearby.mdns.set_plate, "")
