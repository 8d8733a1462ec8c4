"""Facts and records as bytes: built by hand where there are many, and the same as a general encoder's."""

from dataclasses import replace

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from shoal.crdt.codec import bytestring, number
from shoal.crdt.facts import KINDS, content_fields, decode_fact, encode_fact
from shoal.crdt.model import (
    Content,
    DeviceId,
    DirContent,
    FactId,
    FileContent,
    Kind,
    LinkContent,
    Location,
    NodeId,
    Version,
)
from shoal.crdt.tree_index import NodeRecord, decode_record, encode_record

NODE = NodeId(b"n" * 16)
IDS = st.binary(min_size=12, max_size=12).map(FactId)
NUMBERS = st.integers(0, (1 << 62) - 1)
TIMES = st.integers(-(1 << 63) + 1, (1 << 63) - 1)
NAMES = st.text(min_size=1, max_size=40).filter(lambda name: name not in (".", "..") and not {"/", "\0"} & {*name})
FILES = st.builds(
    lambda lengths, mode, time, attributes: FileContent(
        sum(lengths), mode, time, b"".join(bytes(32) + length.to_bytes(4) for length in lengths), attributes
    ),
    st.lists(st.integers(1, 1 << 22), max_size=9),
    st.integers(0, 0o777),
    TIMES,
    st.sampled_from([(), ((b"user.a", b"value"),)]),
)
CONTENTS: st.SearchStrategy[Content | None] = st.one_of(
    st.none(), FILES, st.builds(LinkContent, NAMES, TIMES), st.builds(DirContent, st.integers(0, 0o777))
)
COMMON = (IDS, st.lists(IDS, max_size=3).map(tuple), NUMBERS, st.just(DeviceId(b"d" * 32)), NUMBERS)
VERSIONS = st.builds(Version, *COMMON, CONTENTS)
LOCATIONS = st.builds(Location, *COMMON, st.binary(min_size=16, max_size=16).map(NodeId), NAMES, st.sampled_from(KINDS))


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_a_number_by_hand_is_the_encoders(value: int) -> None:
    assert number(value) == cbor2.dumps(value)


@given(st.integers(0, 70_000))
def test_a_byte_string_by_hand_is_the_encoders(length: int) -> None:
    assert bytestring(bytes(length)) == cbor2.dumps(bytes(length))


@given(VERSIONS)
def test_a_versions_bytes_are_those_of_its_fields(fact: Version) -> None:
    fields = [0, fact.id, list(fact.replaces), fact.lamport, fact.device, fact.time_ms, content_fields(fact.content)]
    assert encode_fact(fact) == cbor2.dumps(fields)
    assert decode_fact(encode_fact(fact)) == fact


@given(LOCATIONS)
def test_a_locations_bytes_are_those_of_its_fields(fact: Location) -> None:
    fields = [1, fact.id, list(fact.replaces), fact.lamport, fact.device, fact.time_ms]
    fields += [fact.parent, fact.name.encode(), KINDS.index(fact.kind)]
    assert encode_fact(fact) == cbor2.dumps(fields)
    assert decode_fact(encode_fact(fact)) == fact


def record_of(place: Location, head: Version) -> NodeRecord:
    return NodeRecord(NODE, (place,), (head,), frozenset(), place.parent, place.name, place.kind, True, place.name)


@given(
    LOCATIONS,
    VERSIONS,
    st.fixed_dictionaries(
        {},
        optional={
            "heads": st.lists(VERSIONS, max_size=2).map(tuple),
            "locations": st.lists(LOCATIONS, max_size=2).map(tuple),
            "unseen": st.frozensets(IDS, min_size=1, max_size=2),
            "parent": st.none() | st.just(NodeId(b"p" * 16)),
            "name": NAMES,
            "kind": st.sampled_from(KINDS),
            "live": st.booleans(),
            "shown": NAMES,
        },
    ),
)
def test_a_record_is_read_as_it_was_written(place: Location, head: Version, other: dict[str, object]) -> None:
    record = replace(record_of(place, head), **other)  # type: ignore[arg-type]
    assert decode_record(NODE, encode_record(record)) == record


@given(LOCATIONS, VERSIONS)
def test_a_record_that_an_older_version_wrote_is_read(place: Location, head: Version) -> None:
    kind: Kind = place.kind
    facts = [[encode_fact(place)], [encode_fact(head)]]
    old = cbor2.dumps([*facts, [], place.parent, place.name.encode(), kind == "dir", True, place.name.encode()])
    assert decode_record(NODE, old) == record_of(place, head)
    assert len(encode_record(record_of(place, head))) < len(old)
