"""Pairing: two devices prove to each other that a person typed one's code into the other, then exchange secrets.

Protocol `/shoal/pair/1`, frames of CBOR over a Noise stream, so both device ids are proven already. J: the device that
joins, O: the one that offered the code. SPAKE2 (RFC 9382's ancestor, Ed25519 group) with the ids of both devices.

    J -> O  [plate, SPAKE2 message A]
    O -> J  [SPAKE2 message B]            or ["refused", reason]
    J -> O  [confirmation of J, sealed name of J]
    O -> J  [confirmation of O, sealed invitation]   or ["refused", reason]

A confirmation is BLAKE3 of its side's letter, keyed with the session key. The offer is spent by the first try that gets
a message B, whether it was right or wrong: so each guess costs the person a code, and a wrong one is told to both.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import blake3
import trio

from shoal.bootstrap.pairing_codes import SECONDS, Code, new_code
from shoal.crdt import codec
from shoal.crdt.keys import Unsealable, open_sealed, seal
from shoal.crdt.model import DeviceId
from shoal.transfer.stream import ByteStream, FrameStream, FrameTooLarge, StreamClosed

PROTOCOL = "/shoal/pair/1"
CONTEXT = b"shoal pairing"
FIRST_FRAME = 4096  # bytes of a message by one who has not shown yet that it knows the code
MAX_FRAME = 4 * 1024 * 1024
STEP_SECONDS = 20.0


class NotInvited(Exception):
    """The device that knows the code cannot be added all the same; the message says why."""


class PairingFailed(Exception):
    """The devices were not paired; the text says why, for a person."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An open code. `expires`: of the clock that the `Offers` were made with, seconds."""

    code: Code
    expires: float


class Offers:
    """The offering side. At most one code is open at a time; a new offer replaces the one before.

    `invite(device, name)` returns what the joining device is given. `on_result(device, text, joined)` tells the person.
    """

    def __init__(
        self,
        device: DeviceId,
        clock: Callable[[], float],
        invite: Callable[[DeviceId, str], bytes],
        on_result: Callable[[DeviceId, str, bool], None],
    ) -> None:
        self._device = device
        self._clock = clock
        self._invite = invite
        self._on_result = on_result
        self._offer: Offer | None = None

    def open(self) -> Offer:
        """Make a code that is valid once, for ten minutes."""
        self._offer = Offer(new_code(), self._clock() + SECONDS)
        return self._offer

    def current(self) -> Offer | None:
        """Return the open offer, or None when there is none or its time is over."""
        if self._offer is not None and self._clock() >= self._offer.expires:
            self._offer = None
        return self._offer

    async def serve(self, stream: ByteStream) -> None:
        """Answer one device that wants to join."""
        frames = FrameStream(stream, FIRST_FRAME)
        peer = DeviceId(stream.peer)
        try:
            with trio.fail_after(STEP_SECONDS):
                await self._serve(frames, peer)
        except (StreamClosed, FrameTooLarge, trio.TooSlowError, PairingFailed, ValueError, TypeError) as error:
            if isinstance(error, PairingFailed):
                self._on_result(peer, str(error), False)
            await stream.reset()

    async def _serve(self, frames: FrameStream, peer: DeviceId) -> None:
        plate, message = await _receive(frames, 2)
        offer = self.current()
        if offer is None or plate != offer.code.plate:
            await _refuse(frames, "no pairing code is open on that device, or it was used or has expired")
            return
        self._offer = None  # spent, whatever comes of it
        spake = _spake("B", offer.code, peer, self._device)
        reply = spake.start()
        try:
            key: bytes = spake.finish(codec.as_bytes(message))
        except Exception as error:
            raise PairingFailed("a device tried to pair with a malformed message; the code is spent") from error
        await _send(frames, [reply])
        confirmation, sealed = await _receive(frames, 2)
        if not hmac.compare_digest(codec.as_bytes(confirmation), _confirm(key, b"J")):
            await _refuse(frames, "the code was wrong; it is spent now: ask for a new one on the other device")
            raise PairingFailed("a device tried to pair with a wrong code; the code is spent, make a new one")
        name = open_sealed(key, codec.as_bytes(sealed), CONTEXT).decode("utf-8", "replace")[:64]
        try:
            invitation = self._invite(peer, name)
        except NotInvited as error:
            await _refuse(frames, str(error))
            raise PairingFailed(f"{name} could not be added: {error}") from error
        frames.max_frame = MAX_FRAME
        await _send(frames, [_confirm(key, b"O"), seal(key, invitation, CONTEXT)])
        await frames.stream.receive_some(1)  # the other side closes when it has everything
        self._on_result(peer, name, True)


async def join(stream: ByteStream, device: DeviceId, code: Code, name: str) -> bytes:
    """Join the device at the other end of `stream`; return the invitation it gave. Raises PairingFailed."""
    frames = FrameStream(stream, FIRST_FRAME)
    try:
        with trio.fail_after(STEP_SECONDS):
            spake = _spake("A", code, device, DeviceId(stream.peer))
            await _send(frames, [code.plate, spake.start()])
            (message,) = await _receive(frames, 1)
            try:
                key: bytes = spake.finish(codec.as_bytes(message))
            except Exception as error:
                raise PairingFailed("the other device sent a malformed message") from error
            await _send(frames, [_confirm(key, b"J"), seal(key, name.encode(), CONTEXT)])
            frames.max_frame = MAX_FRAME
            confirmation, sealed = await _receive(frames, 2)
            if not hmac.compare_digest(codec.as_bytes(confirmation), _confirm(key, b"O")):
                raise PairingFailed("the other device does not know the code")
            invitation = open_sealed(key, codec.as_bytes(sealed), CONTEXT)
            await stream.aclose()
            return invitation
    except (StreamClosed, FrameTooLarge, Unsealable, ValueError, TypeError) as error:
        raise PairingFailed("the other device ended the pairing") from error
    except trio.TooSlowError as error:
        raise PairingFailed("the other device did not answer in time") from error


def _spake(side: str, code: Code, joiner: DeviceId, offerer: DeviceId) -> Any:
    import spake2  # here, because it costs 20 ms and pairing is rare

    make = spake2.SPAKE2_A if side == "A" else spake2.SPAKE2_B
    return make(code.secret.encode(), idA=bytes(joiner), idB=bytes(offerer))


def _confirm(key: bytes, side: bytes) -> bytes:
    return blake3.blake3(CONTEXT + side, key=key).digest()


async def _send(frames: FrameStream, fields: list[Any]) -> None:
    await frames.send(codec.encode(fields))


async def _refuse(frames: FrameStream, reason: str) -> None:
    await _send(frames, ["refused", reason])
    await frames.stream.aclose()


async def _receive(frames: FrameStream, count: int) -> list[Any]:
    frame = await frames.receive()
    if frame is None:
        raise StreamClosed("the stream ended")
    fields = codec.decode(frame, MAX_FRAME, max_depth=1)
    if isinstance(fields, list) and len(fields) == 2 and fields[0] == "refused":
        raise PairingFailed(str(fields[1])[:200])
    if not isinstance(fields, list) or len(fields) != count:
        raise ValueError("a message of the wrong form")
    return fields
