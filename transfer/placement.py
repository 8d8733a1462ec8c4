"""Which devices hold which packs: every device computes the same, and one that comes or goes moves only its share.

Devices are ranked for each pack by weighted rendezvous hashing: the score of one is -weight / ln(h), where h is a hash
of the pack and the device, so that one of twice the weight is first twice as often. Zones are dealt out in rounds: the
best device of each zone comes before the second best of any, and within a round the higher score is first. So a zone
gets one piece where there are as many zones as pieces, else no zone gets two pieces more than another that has room,
and pieces lie in as many zones as they can: `min_zones` needs no rule here, and only says when a pack is in danger.

Rejected: to go down the ranks with a limit of ceil(pieces / zones) a zone. When a zone comes or goes the limit changes,
and pieces move that nothing happened to. In rounds, the rank of a device depends on those of its own zone alone. So one
device that comes, goes or changes its weight moves at most one piece of a pack, to it or from it: never more than must.

Erasure codes: a piece is not like another, so a device that has one keeps its index, and the others take what is
missing (`assign`). One device, the first that lacks a lost piece, reads k pieces and rebuilds all that are lost; the
others take theirs from it (`leader`). So repair reads k pieces, and not k for every piece.

`mine` says what one device is to fetch, and what it may drop. What it knows of others (`claims`) may be old: it lets go
of a piece only when it knows that whoever is to hold it does. Pure. A score is a float: two machines may compute
another last bit of it, and disagree on a pack in 10**14; each then holds what the other deems surplus.

What this does not know is how much room is left. A zone of one small device gets a piece of every pack where zones are
few. A device that is full must say so, with weight 0, and then it is not chosen for what it holds either: it keeps that
until others hold it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from blake3 import blake3

Claims = Mapping[bytes, Collection[int]]
"""Of one pack: who says that it holds which pieces. Of copies the index is 0."""

MOST_PIECES = 256  # of an erasure code over bytes
_TOP, _UNIT = 12, 2.0**-53  # the 52 bits that are used of 64, and half of what the last is worth
_NOBODY: Claims = {}


@dataclass(frozen=True, slots=True)
class Holder:
    """A device that offers space. `weight`: about bytes offered x share of time online; not above 0: never chosen."""

    device: bytes
    zone: str
    weight: float


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of a folder's packs: `copies` of each, or, where k is above 0, k + m pieces, of which k do."""

    copies: int = 3
    k: int = 0
    m: int = 0
    min_zones: int = 1

    def __post_init__(self) -> None:
        if self.copies < 1:
            raise ValueError("a policy of no copies")
        if self.k < 0 or self.m < 0 or (self.m and not self.k):
            raise ValueError("an erasure code needs k above 0, and m not below it")
        if self.k + self.m > MOST_PIECES:
            raise ValueError(f"an erasure code of more than {MOST_PIECES} pieces")
        if not 1 <= self.min_zones <= self.pieces:
            raise ValueError("zones must be at least 1, and no more than there are pieces")

    @property
    def is_erasure(self) -> bool:
        """Whether packs are split, and not copied."""
        return self.k > 0

    @property
    def pieces(self) -> int:
        """How many devices hold a piece of a pack."""
        return self.k + self.m if self.is_erasure else self.copies

    @property
    def needed(self) -> int:
        """How many of the pieces give the pack."""
        return self.k if self.is_erasure else 1


@dataclass(frozen=True, slots=True)
class Ranked:
    """A device as a pack sees it."""

    score: float
    device: bytes
    zone: str


@dataclass(frozen=True, slots=True)
class Need:
    """A piece that a device is to hold, and lacks.

    `spare`: how many pieces may be lost before the pack is. `zones_short`: how many zones it lacks of `min_zones`.
    `lost`: the indexes that nobody holds and somebody is to; whoever leads rebuilds them all. `leader`: None where the
    piece is to be had as it is.
    """

    pack: bytes
    index: int
    spare: int
    zones_short: int = 0
    leader: bytes | None = None
    lost: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """A piece that a device holds."""

    pack: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What one device is to do. `needs`: most endangered first. `surplus`: what it may drop. `out_of_reach`: packs it
    is to hold a piece of, and of which too few pieces are known to be anywhere: only who comes back can mend them."""

    needs: tuple[Need, ...]
    surplus: tuple[Held, ...]
    out_of_reach: tuple[bytes, ...]


def score(pack: bytes, device: bytes, weight: float) -> float:
    """Return how well a device suits a pack. `weight` is above 0."""
    value = int.from_bytes(blake3(pack + device).digest(8)) >> _TOP
    return -weight / math.log((2 * value + 1) * _UNIT)


def rank(pack: bytes, holders: Iterable[Holder]) -> list[Ranked]:
    """Return those that may be chosen, best first."""
    found = [
        (score(pack, holder.device, holder.weight), holder.device, holder.zone)
        for holder in holders
        if holder.weight > 0
    ]
    found.sort(reverse=True)
    return [Ranked(*each) for each in found]


def spread(ranked: Iterable[Ranked], count: int, occupied: Sequence[str] = ()) -> tuple[bytes, ...]:
    """Return the best `count` of them, zones in rounds, in order of score. `ranked`: best first; it is read no further
    than needed. `occupied`: a zone for each copy that is there already."""
    if count <= 0:
        return ()
    in_zone: dict[str, int] = {}
    for zone in occupied:
        in_zone[zone] = in_zone.get(zone, 0) + 1
    rounds: list[list[tuple[int, bytes]]] = []
    for place, each in enumerate(ranked):
        which = in_zone.get(each.zone, 0)
        in_zone[each.zone] = which + 1
        while len(rounds) <= which:
            rounds.append([])
        rounds[which].append((place, each.device))
        if len(rounds[0]) == count:
            break
    chosen: list[tuple[int, bytes]] = []
    for found in rounds:
        chosen += found[: count - len(chosen)]
    chosen.sort()
    return tuple(device for _, device in chosen)


def choose(pack: bytes, holders: Iterable[Holder], count: int, occupied: Sequence[str] = ()) -> tuple[bytes, ...]:
    """Return the devices that are to hold a pack's pieces, best first: `count`, or all where there are fewer.

    `occupied`: a zone for each plain copy that exists. Pieces go elsewhere while there is elsewhere.
    """
    return spread(rank(pack, holders), count, occupied)


def assign(chosen: Sequence[bytes], claims: Claims, policy: Policy) -> dict[bytes, int]:
    """Return which piece each of the chosen is to hold: what it has, or else one that none of them has.

    Where two have the same the first keeps it. Who has several keeps the lowest that is left.
    """
    if not policy.is_erasure:
        return dict.fromkeys(chosen, 0)
    pieces, kept = policy.pieces, dict[bytes, int]()
    taken: set[int] = set()
    for device in chosen:
        index = min((each for each in claims.get(device, ()) if 0 <= each < pieces and each not in taken), default=None)
        if index is not None:
            kept[device] = index
            taken.add(index)
    missing = (index for index in range(pieces) if index not in taken)
    return {device: kept[device] if device in kept else next(missing) for device in chosen[:pieces]}


def leader(chosen: Sequence[bytes], lacking: Collection[bytes]) -> bytes | None:
    """Return who rebuilds all lost pieces for those who lack one: the first of them. Leave out who is not reachable."""
    return next((device for device in chosen if device in lacking), None)


def mine(
    device: bytes,
    packs: Iterable[bytes],
    holders: Sequence[Holder],
    policy: Policy,
    claims: Mapping[bytes, Claims],
    plain: Sequence[str] = (),
    away: Collection[bytes] = (),
) -> Plan:
    """Say what a device is to fetch and what it may drop.

    `holders`: who offers space, those among them that are away for less than the grace period; not who holds the folder
    plain. `claims`: by pack, of everyone who is believed, `device` as well. `plain`: a zone for each device that holds
    the whole folder; it counts as a copy, and to rebuild any piece. `away`: holders that are to lead no repair now.
    """
    able = [holder for holder in holders if holder.weight > 0]
    zones = {holder.device: holder.zone for holder in holders}
    count = policy.pieces if policy.is_erasure else max(0, policy.copies - len(plain))
    needs: list[Need] = []
    surplus: list[Held] = []
    out_of_reach: list[bytes] = []
    for pack in packs:
        known = claims.get(pack, _NOBODY)
        own = known.get(device, ())
        chosen = choose(pack, able, count, plain)
        if device not in chosen and not own:
            continue
        indexes = assign(chosen, known, policy)
        if own:
            surplus += [
                Held(pack, index) for index in sorted(own) if _is_surplus(device, index, indexes, count, known, policy)
            ]
        index = indexes.get(device)
        if index is None or index in own:
            continue
        living = _living(known, policy)
        spare = _spare(living, len(plain), policy)
        if spare < 0:
            out_of_reach.append(pack)
            continue
        leads: bytes | None = None
        lost: tuple[int, ...] = ()
        if policy.is_erasure and index not in living:
            lacking = {each: lack for each, lack in indexes.items() if lack not in living}
            lost = tuple(sorted(lacking.values()))
            leads = leader(chosen, [each for each in lacking if each == device or each not in away])
        short = _zones_short(known, zones, plain, policy)
        needs.append(Need(pack, index, spare, short, leads, lost))
    needs.sort(key=_urgency)
    return Plan(tuple(needs), tuple(surplus), tuple(out_of_reach))


def spare(claims: Claims, policy: Policy, plain: int = 0) -> int:
    """Return how many pieces of a pack may be lost before the pack is; below 0 when too few are known.

    `plain`: how many devices hold the whole folder.
    """
    return _spare(_living(claims, policy), plain, policy)


def _urgency(need: Need) -> tuple[int, int, bytes]:
    return need.spare, -need.zones_short, need.pack


def _living(claims: Claims, policy: Policy) -> Collection[int | bytes]:
    """Return the pieces that count: different indexes, or, of copies, devices."""
    if not policy.is_erasure:
        return [device for device, held in claims.items() if held]
    return {index for held in claims.values() for index in held if 0 <= index < policy.pieces}


def _spare(living: Collection[int | bytes], plain: int, policy: Policy) -> int:
    if not policy.is_erasure:
        return len(living) + plain - 1
    return len(living) - policy.k if not plain else max(0, len(living) - policy.k) + plain


def _zones_short(claims: Claims, zones: Mapping[bytes, str], plain: Sequence[str], policy: Policy) -> int:
    if policy.min_zones == 1:
        return 0
    found = {zones[device] for device, held in claims.items() if held and device in zones}
    return max(0, policy.min_zones - len(found.union(plain)))


def _is_surplus(
    device: bytes, index: int, indexes: Mapping[bytes, int], count: int, claims: Claims, policy: Policy
) -> bool:
    """Return whether all is well without this piece: who is to hold it, holds it. Of copies, any one stands for any
    other: where fewer are chosen than there should be, all that exist are needed."""
    if not policy.is_erasure:
        return device not in indexes and len(indexes) >= count and all(claims.get(each) for each in indexes)
    owner = next((each for each, of in indexes.items() if of == index), None)
    return owner is not None and owner != device and index in claims.get(owner, ())
