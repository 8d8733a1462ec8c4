"""A key on paper: 24 words from which an account comes to a new device that no device of it was there to pair.

The words are BIP 39's for 32 bytes, which are the seed of a device key that is of the account like a device. Whoever
has them adds a device in its name, over `/shoal/recover/1`, to any device of the account that can be reached, or, where
none is left, by what a seed of the account keeps. A seed cannot read that, and has no secrets to give: those of the
account are sealed to the key on paper in its key statements, as to a device.

    asks    CBOR [paper's device id]
    nonce   CBOR [32 bytes]                            or CBOR [] where that is no paper key of the account
    proof   CBOR [signature by the paper key over b"shoal recovery" + nonce + id of who asks + id of who answers]
    invitation, as in pairing; of a seed    CBOR [account, statements on devices, what it keeps of those on folders]
    added   CBOR [statement by the paper key that the new device is of the account]
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from shoal.bootstrap.host import Unreachable
from shoal.bootstrap.peerid import device_from_text
from shoal.crdt import codec
from shoal.crdt.keys import DeviceKey, Unsealable, verify_signature
from shoal.crdt.model import DeviceId
from shoal.crdt.roster import NoGenesis, Roster, add_device
from shoal.crdt.statements import open_box
from shoal.node.account import Invitation
from shoal.node.errors import EXIT_USAGE, UserError
from shoal.node.links import read_card
from shoal.transfer.stream import ByteStream, FrameStream, FrameTooLarge, StreamClosed

if TYPE_CHECKING:
    from shoal.node.daemon import Node

PROTOCOL = "/shoal/recover/1"
CONTEXT = b"shoal recovery"
MAX_FRAME = 16 * 1024 * 1024
SMALL = 1024
NONCE = 32
STEP_SECONDS = 15.0
HEARD_WITHIN = 5.0


class NotRecovered(Exception):
    """The device that was asked gave no account; the message says why."""


def new_words() -> tuple[str, DeviceKey]:
    """Return new words, and the key that they stand for."""
    from mnemonic import Mnemonic

    seed = os.urandom(32)
    return Mnemonic("english").to_mnemonic(seed), DeviceKey(seed)


def key_of(words: str) -> DeviceKey:
    """Return the key that words stand for. Raises UserError, which tells of a word that is none."""
    from mnemonic import Mnemonic

    language = Mnemonic("english")
    said = words.lower().replace(",", " ").split()
    wrong = [word for word in said if word not in language.wordlist]
    if wrong or len(said) != 24:
        reason = f"{wrong[0]!r} is none of the words" if wrong else f"a paper key has 24 words, not {len(said)}"
        raise UserError("bad-paper-key", reason, "check what is on the paper", EXIT_USAGE, 400)
    if not language.check(" ".join(said)):
        raise UserError(
            "bad-paper-key",
            "these words are not a paper key: one of them is another, or two changed places",
            "check what is on the paper",
            EXIT_USAGE,
            400,
        )
    return DeviceKey(bytes(language.to_entropy(said)))


class Recovery:
    """Both sides of it for one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def new_paper_key(self) -> str:
        """Make a key on paper; return its words, which are kept nowhere. Raises UserError."""
        words, key = new_words()
        self._node.account.add_paper(key, time.strftime("paper key of %Y-%m-%d"))
        return words

    async def recover(self, words: str, addresses: Sequence[str], seed: str | None = None) -> str:
        """Make this device one of the account of a paper key; return the name of the device that gave it. `seed`: the
        card of a seed of the account. Raises UserError."""
        paper = key_of(words)
        if seed is not None:
            addresses = [*addresses, *read_card(seed).addresses]
        self._node.account.check_alone()
        self._node.sharing.check_alone()
        candidates = self._given(addresses) or await self._heard()
        if not candidates:
            raise UserError(
                "device-not-found",
                "no device of yours was found on this network",
                "give the address of one that runs: shoal recover --address ADDRESS",
            )
        reasons = []
        for device, known in candidates.items():
            try:
                invitation = await self._ask(device, known, paper)
            except (NotRecovered, Unreachable, StreamClosed) as error:
                reasons.append(str(error))
                continue
            await self._node.become_part_of(invitation)
            for address in known:
                self._node.reached(device, address)
            other = self._node.account.devices().get(device, "a seed" if seed is not None else "the other device")
            if seed is not None:
                await self._add(seed)
            self._node.events.add("recovered", f"the account came from {other}, by its paper key")
            return other
        raise UserError("not-recovered", f"the account could not be recovered: {reasons[0]}", "")

    async def _add(self, seed: str) -> None:
        """Use the seed that gave the account from now on; if that fails it can be done by hand."""
        try:
            await self._node.seeds.add(seed, None)
        except UserError as error:
            self._node.events.add("seed-not-added", f"{error.message}: try again with shoal seed add CARD")

    def _given(self, addresses: Sequence[str]) -> dict[DeviceId, list[str]]:
        given: dict[DeviceId, list[str]] = {}
        for address in addresses:
            try:
                given.setdefault(device_from_text(address.rpartition("/p2p/")[2]), []).append(address)
            except ValueError as error:
                raise UserError(
                    "bad-address",
                    f"the address {address!r} does not end with /p2p/ and a device's peer id",
                    "shoal status --json on the other device has them",
                    EXIT_USAGE,
                    400,
                ) from error
        return given

    async def _heard(self) -> dict[DeviceId, list[str]]:
        mdns = self._node.nearby.mdns
        if mdns is None:
            return {}
        await trio.sleep(0 if mdns.found else HEARD_WITHIN)
        return {found.device: list(found.addresses) for found in mdns.found.values()}

    async def _ask(self, device: DeviceId, addresses: Sequence[str], paper: DeviceKey) -> Invitation:
        host, own = self._node.host, self._node.key.id
        if device not in host.connected():
            await host.connect(device, addresses)
        stream = await host.open(device, PROTOCOL)
        frames = FrameStream(stream, MAX_FRAME)
        try:
            with trio.fail_after(STEP_SECONDS):
                await frames.send(codec.encode([paper.id]))
                nonce = codec.as_list(codec.decode(await _receive(frames), SMALL), most=1)
                if not nonce:
                    raise NotRecovered("no account that was reached has that paper key, or it was revoked")
                whole = CONTEXT + codec.as_bytes(nonce[0], NONCE) + own + device
                await frames.send(codec.encode([paper.sign(whole)]))
                invitation = _invitation_of(await _receive(frames), paper)
                roster = Roster.from_statements(invitation.roster, invitation.account)
                if paper.id not in roster.devices or not roster.devices[paper.id].is_paper:
                    raise NotRecovered("what was given is no account of that paper key")
                name = self._node.account.name
                added = add_device(roster, own, name, paper, time.time_ns() // 1_000_000)
                await frames.send(codec.encode([added]))
                await _receive(frames)  # it has it
        except (FrameTooLarge, NoGenesis, ValueError) as error:
            raise NotRecovered("the other device sent what makes no sense") from error
        except trio.TooSlowError as error:
            raise NotRecovered("the other device did not answer in time") from error
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await stream.reset()
        return Invitation(invitation.account, invitation.secrets, (*invitation.roster, added), invitation.catalog)

    def _kept_for(self, paper: DeviceId, asker: DeviceId) -> list[Any] | None:
        """Return what this seed keeps of the account whose key on paper that is; None where it serves none such."""
        node = self._node
        for account in node.service.accounts() if node.service is not None else ():
            roster = node.sharing.shares.roster_of(account)
            record = roster.devices.get(paper) if roster is not None else None
            if roster is not None and record is not None and record.is_paper and not roster.is_known(asker):
                return [account, list(roster.statements), node.mail.kept_for(account)]
        return None

    async def serve(self, stream: ByteStream) -> None:
        """Answer one device that has a paper key."""
        frames = FrameStream(stream, SMALL)
        asker, own = DeviceId(stream.peer), self._node.key.id
        try:
            with trio.fail_after(2 * STEP_SECONDS):
                paper = DeviceId(codec.as_bytes(*codec.as_list(codec.decode(await _receive(frames), SMALL), length=1)))
                kept = self._kept_for(paper, asker)
                own_paper = self._node.account.is_paper_key(paper) and not self._node.account.is_known(asker)
                if not own_paper and kept is None:
                    await frames.send(codec.encode([]))
                    await frames.aclose()
                    return
                nonce = os.urandom(NONCE)
                await frames.send(codec.encode([nonce]))
                proof = codec.as_list(codec.decode(await _receive(frames), SMALL), length=1)
                if not verify_signature(paper, CONTEXT + nonce + asker + own, codec.as_bytes(proof[0])):
                    self._node.events.add("stranger-refused", "a device said that it has a paper key, and has not")
                    return
                frames.max_frame = MAX_FRAME
                await frames.send(self._node.account.invitation().encode() if own_paper else codec.encode(kept))
                added = codec.as_list(codec.decode(await _receive(frames), MAX_FRAME), length=1)
                if own_paper:
                    self._node.account.merge([codec.as_bytes(added[0])], [])
                    self._node.account.tend()
                await frames.send(codec.encode([]))
                await frames.aclose()
                await stream.receive_some(1)
        except (StreamClosed, FrameTooLarge, codec.Malformed, trio.TooSlowError):
            pass
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await stream.reset()


def _invitation_of(data: bytes, paper: DeviceKey) -> Invitation:
    """Read what a device gave, or a seed. Raises ValueError, NotRecovered."""
    try:
        return Invitation.decode(data)
    except ValueError:
        account, roster, catalog = codec.as_list(codec.decode(data, MAX_FRAME), length=3)
    statements = tuple(codec.as_bytes(said) for said in codec.as_list(roster))
    secrets = {}
    for said in Roster.from_statements(statements, codec.as_bytes(account, 32)).key_statements():
        with contextlib.suppress(Unsealable):
            secrets[said.hash] = open_box(paper, said)
    if not secrets:
        raise NotRecovered(
            "the seed keeps no secret of the account for that paper key: it is from before there were any"
        )
    return Invitation(account, secrets, statements, tuple(codec.as_bytes(said) for said in codec.as_list(catalog)))


async def _receive(frames: FrameStream) -> bytes:
    frame = await frames.receive()
    if frame is None:
        raise StreamClosed("the other device ended the stream")
    return frame
