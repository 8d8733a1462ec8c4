"""Who says that it has a version proves it by the bytes, for whoever asks and nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt.model import DeviceId, FactId, FolderId, NodeId
from shoal.node.holdings import Held
from shoal.node.possession import MOST, SAMPLE, SAMPLES, Challenge, Verifier, proof, samples

ME, LIAR, HONEST = (DeviceId(bytes([number]) * 32) for number in (1, 2, 3))
FOLDER = FolderId(b"f" * 16)
CHALLENGE = Challenge(b"n" * 32, FOLDER, ME, HONEST)


def version(number: int) -> Held:
    return NodeId(number.to_bytes(16)), FactId(number.to_bytes(12))


def proven(challenge: Challenge, held: Held, data: bytes) -> bytes:
    places = samples(challenge, held, len(data))
    return proof(challenge, held, [data[offset : offset + length] for offset, length in places])


@given(st.integers(0, 1 << 45), st.binary(min_size=32, max_size=32))
def test_samples_lie_in_the_content_and_are_the_whole_of_a_small_one(size: int, nonce: bytes) -> None:
    places = samples(replace(CHALLENGE, nonce=nonce), version(1), size)
    assert all(offset >= 0 and offset + length <= size for offset, length in places)
    assert sum(length for _, length in places) == min(size, SAMPLES * SAMPLE)


def test_other_bytes_and_other_ids_make_other_proofs() -> None:
    data = bytes(1000)
    proofs = [
        proven(CHALLENGE, version(1), data),
        proven(CHALLENGE, version(1), data[:-1] + b"x"),
        proven(CHALLENGE, version(2), data),
        proven(replace(CHALLENGE, nonce=b"m" * 32), version(1), data),
        proven(replace(CHALLENGE, asker=LIAR), version(1), data),
        proven(replace(CHALLENGE, answerer=LIAR), version(1), data),
        proven(replace(CHALLENGE, folder=FolderId(b"g" * 16)), version(1), data),
    ]
    assert len(set(proofs)) == len(proofs)


class Answering:
    """A device that says it has everything, and proves it with what `data` gives."""

    def __init__(self, device: DeviceId, data: dict[Held, bytes], asker: DeviceId = ME) -> None:
        self.device = device
        self.data = data
        self.asker = asker
        self.challenged: list[int] = []

    async def ask(self, folder: FolderId, asked: Sequence[Held]) -> list[bool]:
        return [True] * len(asked)

    async def challenge(self, folder: FolderId, nonce: bytes, asked: Sequence[Held]) -> list[bytes]:
        self.challenged.append(len(asked))
        challenge = Challenge(nonce, folder, self.asker, self.device)
        return [proven(challenge, held, self.data[held]) if held in self.data else b"" for held in asked]


async def right(data: dict[Held, bytes], challenge: Challenge, asked: Sequence[Held]) -> list[bytes]:
    return [proven(challenge, held, data[held]) if held in data else b"" for held in asked]


async def test_who_has_the_bytes_is_believed_in_groups() -> None:
    data = {version(number): bytes([number]) * 10 for number in range(MOST + 50)}
    honest = Answering(HONEST, data)
    found, failed = await Verifier(ME).ask(HONEST, honest, FOLDER, list(data), partial(right, data))
    assert found == list(data)
    assert not failed
    assert honest.challenged == [MOST, 50]


async def test_who_has_other_bytes_is_not_believed_and_not_asked_again() -> None:
    data = {version(1): b"right", version(2): b"too"}
    liar, verifier = Answering(LIAR, {version(1): b"wrong", version(2): b"too"}), Verifier(ME)
    assert await verifier.ask(LIAR, liar, FOLDER, list(data), partial(right, data)) == ([version(2)], [version(1)])
    liar.data = data
    assert await verifier.ask(LIAR, liar, FOLDER, [version(1)], partial(right, data)) == ([], [])


async def test_what_a_third_device_proves_to_the_liar_is_no_proof_of_its_own() -> None:
    data = {version(1): b"right"}
    passes_on = Answering(HONEST, data, asker=LIAR)
    found, _ = await Verifier(ME).ask(LIAR, passes_on, FOLDER, list(data), partial(right, data))
    assert not found


async def test_what_cannot_be_read_here_is_proven_by_nobody() -> None:
    liar = Answering(LIAR, {version(1): b"anything"})
    assert await Verifier(ME).ask(LIAR, liar, FOLDER, [version(1)], partial(right, {})) == ([], [])
