"""The bulk channel's messages, keys and framing, against an attacker on the way who may do anything with the bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.transfer.aead import Cipher
from shoal.transfer.bulk import (
    HEADER,
    MAGIC,
    MAX_LANES,
    TOKEN_SIZE,
    Ask,
    BadBulk,
    DialMe,
    Grant,
    LaidOut,
    LaneKeys,
    Offer,
    Refusal,
    Sealer,
    Unsealer,
    check_empty_box,
    decode_offer,
    empty_box,
    encode_offer,
    lane_keys,
    prelude,
    prelude_size,
    token_of,
)
from shoal.transfer.messages import Chunks, parts_of

LIMIT = 2000
tokens = st.lists(st.binary(min_size=TOKEN_SIZE, max_size=TOKEN_SIZE), min_size=1, max_size=MAX_LANES, unique=True)
secrets = st.binary(min_size=32, max_size=32)
ports = st.integers(0, 65535)
offers = st.one_of(
    st.builds(Ask, st.integers(1, MAX_LANES), st.lists(st.integers(0, 255), min_size=1, max_size=32).map(tuple)),
    st.builds(Grant, st.sampled_from(Cipher), ports, secrets, tokens.map(tuple)),
    st.builds(DialMe, ports),
    st.just(Refusal()),
)
frame_lists = st.lists(st.binary(min_size=1, max_size=LIMIT), max_size=8)


def ends(cipher: Cipher = Cipher.AEGIS_256) -> tuple[LaneKeys, LaneKeys]:
    """Return the keys of one lane, as giver and taker have them."""
    grant = Grant(cipher, 1, b"s" * 32, (b"t" * TOKEN_SIZE,))
    return lane_keys(grant, "giver")[b"t" * TOKEN_SIZE], lane_keys(grant, "taker")[b"t" * TOKEN_SIZE]


def take(size: int) -> memoryview:
    return memoryview(bytearray(size))


def wire_of(sealer: Sealer, frames: list[bytes]) -> list[bytes]:
    return [bytes(sealer.seal((frame,), sealer.draw_number(), take)) for frame in frames]


def read(unsealer: Unsealer, wire: bytes, cuts: list[int] | None = None) -> list[bytes | None]:
    """Return what comes of the bytes, given in pieces of the sizes `cuts`, over and over."""
    got: list[bytes | None] = []
    at = turn = 0
    while at < len(wire):
        space = unsealer.space()
        size = min(len(space), len(wire) - at, cuts[turn % len(cuts)] if cuts else len(wire))
        space[:size] = wire[at : at + size]
        at, turn = at + size, turn + 1
        box = unsealer.fill(size)
        if box is not None:
            frame = unsealer.open(box)
            got.append(bytes(frame) if frame is not None else None)
    return got


@given(offers)
def test_messages_come_out_as_they_went_in(offer: Offer) -> None:
    assert decode_offer(encode_offer(offer)) == offer


@given(st.one_of(st.binary(max_size=300), offers.map(encode_offer)), st.data())
def test_garbage_is_no_message_or_one_that_means_just_these_bytes(data: bytes, chance: st.DataObject) -> None:
    if data and chance.draw(st.booleans()):
        at = chance.draw(st.integers(0, len(data) - 1))
        data = data[:at] + chance.draw(st.binary(max_size=3)) + data[at + 1 :]
    try:
        offer = decode_offer(data)
    except BadBulk:
        return
    assert encode_offer(offer) == data


@given(st.sampled_from(Cipher), frame_lists, st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_frames_come_out_as_they_went_in_however_the_bytes_are_cut(
    cipher: Cipher, frames: list[bytes], cuts: list[int]
) -> None:
    giver, taker = ends(cipher)
    wire = b"".join(wire_of(Sealer(giver.sending), [*frames, b""]))
    assert read(Unsealer(taker.receiving, LIMIT, take), wire, cuts) == [*frames, None]


@given(frame_lists.filter(lambda frames: len(frames) > 1), st.data())
def test_boxes_that_are_repeated_left_out_or_moved_do_not_open(frames: list[bytes], chance: st.DataObject) -> None:
    giver, taker = ends()
    boxes = wire_of(Sealer(giver.sending), frames)
    places = chance.draw(st.lists(st.integers(0, len(boxes) - 1), min_size=1, max_size=10))
    if places == list(range(len(places))):
        return
    good = next(n for n, place in enumerate([*places, -1]) if place != n)
    unsealer = Unsealer(taker.receiving, LIMIT, take)
    assert read(unsealer, b"".join(boxes[n] for n in range(good))) == frames[:good]
    with pytest.raises(BadBulk):
        read(unsealer, boxes[places[good]])


@given(frame_lists, st.data())
def test_changed_bytes_give_nothing_but_what_was_sent_before_them(frames: list[bytes], chance: st.DataObject) -> None:
    giver, taker = ends()
    wire = bytearray(b"".join(wire_of(Sealer(giver.sending), [*frames, b""])))
    at = chance.draw(st.integers(0, len(wire) - 1))
    wire[at] ^= chance.draw(st.integers(1, 255))
    unsealer = Unsealer(taker.receiving, LIMIT, take)
    got: list[bytes | None] = []
    try:
        for byte in wire:
            got += read(unsealer, bytes([byte]))
    except BadBulk:
        pass
    assert got == frames[: len(got)], "and the end was not among it"


@given(st.binary(max_size=6 * LIMIT))
def test_garbage_is_refused_and_takes_no_memory_that_it_does_not_fill(data: bytes) -> None:
    asked: list[int] = []

    def noted(size: int) -> memoryview:
        asked.append(size)
        return take(size)

    unsealer = Unsealer(ends()[1].receiving, LIMIT, noted)
    with contextlib.suppress(BadBulk):
        assert read(unsealer, data) == []
    assert max(asked, default=0) <= LIMIT + 32


def test_a_box_over_the_limit_is_refused_by_its_header() -> None:
    giver, taker = ends()
    wire = bytes(Sealer(giver.sending).seal((bytes(LIMIT + 1),), 1, take))
    with pytest.raises(BadBulk, match="a box of"):
        read(Unsealer(taker.receiving, LIMIT, take), wire[:HEADER])


@given(st.sampled_from(Cipher), st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6))
def test_chunks_that_lie_in_their_places_are_sealed_there_to_the_same_box(cipher: Cipher, chunks: list[bytes]) -> None:
    giver, _ = ends(cipher)
    laid_out = LaidOut([len(chunk) for chunk in chunks], take)
    for view, chunk in zip(laid_out, chunks, strict=True):
        assert view is not None
        view[:] = chunk
    places = [(n, view) for n, view in enumerate(laid_out) if view is not None]
    copied = bytes(Sealer(giver.sending).seal(parts_of(Chunks(7, places)), 1, take))
    assert bytes(Sealer(giver.sending).seal(parts_of(Chunks(7, places)), 1, take, laid_out.room)) == copied


def test_sending_a_frame_over_the_limit_is_our_own_fault() -> None:
    with pytest.raises(ValueError, match="over the limit"):
        Sealer(ends()[0].sending).seal((bytes(6 << 20),), 1, take)


def test_what_one_side_sends_does_not_open_as_what_the_other_sends() -> None:
    giver, taker = ends()
    reflected = b"".join(wire_of(Sealer(taker.sending), [b"a question"]))
    with pytest.raises(BadBulk):
        read(Unsealer(taker.receiving, LIMIT, take), reflected)
    assert read(Unsealer(giver.receiving, LIMIT, take), reflected) == [b"a question"]


@given(secrets, tokens.filter(lambda each: len(each) > 1))
def test_every_lane_direction_and_way_of_dialling_has_a_key_of_its_own(secret: bytes, each: list[bytes]) -> None:
    grant = Grant(Cipher.AEGIS_256, 1, secret, tuple(each))
    made = [*lane_keys(grant, "giver").values(), *lane_keys(grant, "giver", reverse=True).values()]
    keys = {bytes(key._key) for lane in made for key in (lane.sending, lane.receiving)}
    assert len(keys) == 4 * len(each)


@pytest.mark.parametrize("cipher", Cipher)
def test_who_dials_proves_the_key_and_who_listens_does(cipher: Cipher) -> None:
    giver, taker = ends(cipher)
    token = b"t" * TOKEN_SIZE
    said = prelude(taker, token)
    assert len(said) == prelude_size(cipher)
    start = len(MAGIC) + TOKEN_SIZE
    assert token_of(said[:start]) == token
    check_empty_box(giver, said[start:])
    check_empty_box(taker, empty_box(giver))
    with pytest.raises(BadBulk):
        check_empty_box(taker, said[start:])  # its own proof, sent back


@given(st.binary(max_size=40))
def test_a_stranger_that_says_anything_else_has_no_token(start: bytes) -> None:
    if not start.startswith(MAGIC):
        with pytest.raises(BadBulk):
            token_of(start)
    with pytest.raises(BadBulk):
        check_empty_box(ends()[0], start[:32])
