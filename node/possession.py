"""Proof that a device has a version's bytes: before the only other copy leaves this disk, its word is not enough.

    ["prove?", folder id, number, nonce (32), [node id + version id]]    at most `MOST` of them; see `session`
    ["proof", folder id, number, [proof]]                                32 bytes each; empty: not here

A proof is BLAKE3 keyed with the nonce over b"shoal possession" | folder id | the asker's id | the answerer's id | node
id | version id | what is sampled of the content, in order: all of it up to `SAMPLES * SAMPLE` bytes, else `SAMPLES`
stretches of `SAMPLE` bytes. These are at numbers of 8 bytes, big-endian, modulo (size - `SAMPLE` + 1), of BLAKE3 keyed
with the nonce over b"shoal possession, where" | node id | version id, extended.

Who asks has the bytes, too, and compares. The ids keep an answer from being had of a third device. A device that has a
part passes by chance; so one that failed on a version is not believed on it again. What it does with the bytes
afterwards, no proof can say.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from hmac import compare_digest
from typing import Protocol

from blake3 import blake3

from shoal.crdt.model import DeviceId, FolderId
from shoal.node.holdings import Held

NONCE = 32
MOST = 100  # versions in one challenge
SAMPLES = 8
SAMPLE = 32 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """Who asks whom, and the nonce, `NONCE` bytes that nobody could foresee."""

    nonce: bytes
    folder: FolderId
    asker: DeviceId
    answerer: DeviceId


def samples(challenge: Challenge, held: Held, size: int) -> list[tuple[int, int]]:
    """Return offsets and lengths of what is to be read of a content of `size` bytes."""
    if size <= SAMPLES * SAMPLE:
        return [(0, size)] if size else []
    chance = blake3(b"shoal possession, where" + held[0] + held[1], key=challenge.nonce).digest(8 * SAMPLES)
    places = (int.from_bytes(chance[at : at + 8]) % (size - SAMPLE + 1) for at in range(0, len(chance), 8))
    return [(place, SAMPLE) for place in places]


def proof(challenge: Challenge, held: Held, pieces: Iterable[bytes]) -> bytes:
    """Return the proof; `pieces`: what was sampled."""
    ids = challenge.folder + challenge.asker + challenge.answerer + held[0] + held[1]
    hasher = blake3(b"shoal possession" + ids, key=challenge.nonce)
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


class Questions(Protocol):
    """What can be asked of another device."""

    async def ask(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        """Return which versions it says it has and keeps."""
        ...

    async def challenge(self, folder: FolderId, nonce: bytes, asked: Sequence[Held]) -> list[bytes]:
        """Return its proofs for versions, `MOST` at most."""
        ...


Prove = Callable[[Challenge, Sequence[Held]], Awaitable[list[bytes]]]


class Verifier:
    """Asks the others what they have, and believes only what they prove."""

    def __init__(self, device: DeviceId) -> None:
        self._device = device
        self._disproved: set[tuple[DeviceId, Held]] = set()

    async def ask(
        self, device: DeviceId, questions: Questions, folder: FolderId, asked: Sequence[Held], prove: Prove
    ) -> tuple[list[Held], list[Held]]:
        """Return which of these versions, all on this disk, a device proved to have and keep; and those of which it
        said so and failed. `prove`: what is right, by the bytes here."""
        said = await questions.ask(folder, asked)
        claimed = [h for h, yes in zip(asked, said, strict=True) if yes and (device, h) not in self._disproved]
        proven: list[Held] = []
        failed: list[Held] = []
        for at in range(0, len(claimed), MOST):
            part = claimed[at : at + MOST]
            challenge = Challenge(os.urandom(NONCE), folder, self._device, device)
            answers = await questions.challenge(folder, challenge.nonce, part)
            for held, answer, right in zip(part, answers, await prove(challenge, part), strict=True):
                if right and compare_digest(answer, right):
                    proven.append(held)
                elif right and answer:
                    failed.append(held)
        self._disproved.update((device, held) for held in failed)
        return proven, failed
