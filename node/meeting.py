"""How devices of two accounts get to know each other and what they share: `/shoal/share/1`, a question and its answer.

    question  CBOR [asked account, account, bundles, people, addresses, redeems]
    answer    CBOR [account, bundles, people, addresses, refusal]
    bundle    [folder id, founder, statements];   person as `shares.Person`, who speaks among them
    redeems   [invite's public key, signature] or []
    signature Ed25519 by the invite's private key over b"shoal redeem" + account and device that ask + device asked
    refusal   a text for people, empty where there is none

Only who knows the id of the account that it asks gets an answer: from a card, a link, or a folder that both share. It
proves nothing of itself by asking; what it says of folders is signed, and the connection shows which device it is. A
device that another account revoked is not answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from shoal.bootstrap.peerid import peer_id_text
from shoal.crdt import codec
from shoal.crdt.folder_statements import ACCOUNT
from shoal.crdt.keys import DeviceKey, verify_signature
from shoal.crdt.model import DeviceId
from shoal.node.errors import UserError
from shoal.node.shares import Bundle, Person, clean_name, decode_bundles
from shoal.node.store import StoreFull
from shoal.transfer.stream import ByteStream, FrameStream, FrameTooLarge, StreamClosed

if TYPE_CHECKING:
    from shoal.node.daemon import Node

PROTOCOL = "/shoal/share/1"
CONTEXT = b"shoal redeem"
MAX_FRAME = 8 * 1024 * 1024
MAX_DEPTH = 6
MAX_TEXT = 256
MOST_BYTES = 3 * 1024 * 1024  # of statements on folders
MOST_SAID = 5000  # statements
MOST_PEOPLE = 1000
STEP_SECONDS = 15.0
MOST_NAMED = 10_000


class NotMet(Exception):
    """The other device did not answer, or not as it should; the message says why."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What one side says of itself."""

    account: bytes
    bundles: list[Bundle]
    people: dict[bytes, Person]
    addresses: list[str]

    @classmethod
    def decode(cls, fields: Sequence[Any]) -> _Told:
        """Raises codec.Malformed."""
        account, bundles, people, addresses = fields
        persons = [Person.decode(each) for each in codec.as_list(people, most=MOST_PEOPLE)]
        return cls(
            codec.as_bytes(account, ACCOUNT),
            decode_bundles(bundles, MOST_SAID),
            {person.id: person for person in persons},
            [codec.as_text(each, 512) for each in codec.as_list(addresses, most=64)],
        )


class Meeting:
    """Both sides of it for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.named: dict[DeviceId, bytes] = {}  # of which account each device says itself that it is

    async def ask(self, device: DeviceId, account: bytes, invite: DeviceKey | None = None) -> None:
        """Tell a connected device, of `account`, what this account shares with it, and take what it tells. `invite`:
        the key of a link to redeem. Raises NotMet."""
        node = self._node
        redeems: list[bytes] = []
        if invite is not None:
            redeems = [invite.id, invite.sign(CONTEXT + node.account.id + node.key.id + device)]
        try:
            stream = await node.host.open(device, PROTOCOL)
            frames = FrameStream(stream, MAX_FRAME)
            try:
                with trio.fail_after(STEP_SECONDS):
                    await frames.send(codec.encode([account, *self._tells(account, device), redeems]))
                    answer = await frames.receive()
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                    await stream.reset()
            if answer is None:
                raise NotMet("it does not answer")
            *fields, refusal = codec.as_list(codec.decode(answer, MAX_FRAME, MAX_DEPTH), length=5)
            told, why = _Told.decode(fields), codec.as_text(refusal, MAX_TEXT)
        except (StreamClosed, trio.TooSlowError) as error:
            raise NotMet("it does not answer") from error
        except (FrameTooLarge, codec.Malformed, ValueError) as error:
            raise NotMet("it answers with what makes no sense") from error
        if why:
            raise NotMet(clean_name(why))
        if told.account != account or not self._is_of(device, told):
            raise NotMet("it is of another account")
        try:
            self._take(device, told)
        except StoreFull as error:
            raise NotMet("the disk that holds Shoal's home is full") from error

    async def serve(self, stream: ByteStream) -> None:
        """Answer a device."""
        frames = FrameStream(stream, MAX_FRAME)
        device = DeviceId(stream.peer)
        try:
            with trio.fail_after(STEP_SECONDS):
                frame = await frames.receive()
                if frame is not None:
                    answer = self._answer(device, frame)
                    if answer is not None:
                        await frames.send(codec.encode(answer))
                        await frames.aclose()
                        await stream.receive_some(1)
        except (StreamClosed, FrameTooLarge, codec.Malformed, trio.TooSlowError, StoreFull):
            pass
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await stream.reset()

    def _answer(self, device: DeviceId, frame: bytes) -> list[Any] | None:
        asked, *fields, redeems = codec.as_list(codec.decode(frame, MAX_FRAME, MAX_DEPTH), length=6)
        told = _Told.decode(fields)
        if asked != self._node.account.id or self._node.account.is_revoked or not self._is_of(device, told):
            return None
        self.named.pop(device, None)
        self.named[device] = told.account
        if len(self.named) > MOST_NAMED:
            del self.named[next(iter(self.named))]
        refusal = ""
        if redeems:
            public, signature = codec.as_list(redeems, length=2)
            whole = CONTEXT + told.account + device + self._node.key.id
            if not verify_signature(codec.as_bytes(public, 32), whole, codec.as_bytes(signature, 64)):
                return None
            try:
                refusal = self._node.sharing.redeem(codec.as_bytes(public, 32), told.people[told.account])
            except UserError as error:
                refusal = error.message
        self._take(device, told)
        return [*self._tells(told.account, device), refusal]

    # -- inside ------------------------------------------------------------------------------------------------------

    def _tells(self, account: bytes, device: DeviceId) -> list[Any]:
        """Return what a device is told that says to be of an account: of folders only once it is known to be of it, and
        no more than fits; the rest is told in conversation."""
        node, shares = self._node, self._node.sharing.shares
        bundles: list[Bundle] = []
        size = 0
        for bundle in shares.bundles_for(account) if account in shares.accounts_of(device) else ():
            size += sum(map(len, bundle[2]))
            if size > MOST_BYTES:
                break
            bundles.append(bundle)
        people = shares.people_for(account, bundles, node.sharing.own_name)
        return [
            node.account.id,
            [[folder, founder, list(said)] for folder, founder, said in bundles],
            [person.encode() for person in people],
            node.host.addresses(),
        ]

    def _is_of(self, device: DeviceId, told: _Told) -> bool:
        """Return whether a device is of the account that it says, by all that is known of that."""
        speaker = told.people.get(told.account)
        return speaker is not None and self._node.sharing.shares.is_of(device, told.account, speaker)

    def _take(self, device: DeviceId, told: _Told) -> None:
        self._node.sharing.take(device, told.bundles, told.people)
        if self._node.sharing.shares.accounts_of(device):
            own = f"/p2p/{peer_id_text(device)}"
            self._node.on_hello(device, [address for address in told.addresses if address.endswith(own)])
