"""Names as disks take them: rules as properties."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.name_rules import FORBIDDEN, PLAIN, NameRules

APFS = NameRules(case="full", forms=True)
HFS = NameRules(case="full", forms=True, stores="NFD", ignores=True)
WINDOWS = NameRules(case="simple", forbids=True, trims=True, reserves=True, utf8=True)
KINDS = [PLAIN, APFS, HFS, WINDOWS, NameRules(case="ascii"), NameRules(case="simple", lowers=True)]

letters = st.sampled_from(
    [*"aAbBsS. :?", "\u00e9", "\u00c9", "e\u0301", "\u00df", "\u0130", "\u0131", "\u200d", "\x01"]
)
names = st.lists(letters, min_size=1, max_size=8).map("".join) | st.sampled_from(["con", "Aux.txt", "com1", "\udcff"])
kinds = st.sampled_from(KINDS)


@given(kinds, names)
def test_a_spelt_name_is_spelt_alike(rules: NameRules, name: str) -> None:
    spelt = rules.spell(name)
    assert rules.spell(spelt) == spelt
    assert spelt


@given(kinds, names)
def test_a_key_is_its_own_key(rules: NameRules, name: str) -> None:
    assert rules.key(rules.key(name)) == rules.key(name)


@given(st.sampled_from([APFS, HFS, NameRules(case="simple")]), names)
def test_spelling_makes_no_other_name_of_what_is_not_refused(rules: NameRules, name: str) -> None:
    assert rules.key(rules.spell(name)) == rules.key(name)


@given(names)
def test_an_ordinary_disk_takes_every_name_as_it_is(name: str) -> None:
    assert (PLAIN.key(name), PLAIN.spell(name), PLAIN.told(name)) == (name, name, name)
    assert PLAIN.plain
    assert not PLAIN.folds


@given(names)
def test_windows_is_given_nothing_that_it_refuses(name: str) -> None:
    spelt = WINDOWS.spell(name)
    assert not set(spelt) & {*FORBIDDEN, "\x01", "\udcff"}
    assert spelt[-1] not in ". "
    assert spelt.partition(".")[0].lower() not in {"con", "aux", "com1"}


@given(names)
def test_what_a_person_typed_comes_back_from_a_disk_that_takes_letters_apart(name: str) -> None:
    typed = unicodedata.normalize("NFC", name)
    assert HFS.told(HFS.spell(typed)) == typed


@pytest.mark.parametrize(
    ("rules", "one", "other", "same"),
    [
        (NameRules(case="ascii"), "a", "A", True),
        (NameRules(case="ascii"), "\u00e9", "\u00c9", False),
        (NameRules(case="simple"), "\u00e9", "\u00c9", True),
        (NameRules(case="simple"), "\u00df", "ss", False),
        (NameRules(case="full"), "\u00df", "ss", True),
        (NameRules(case="simple"), "\u00e9", "e\u0301", False),
        (NameRules(forms=True), "\u00e9", "e\u0301", True),
        (NameRules(forms=True), "a", "A", False),
        (NameRules(case="full", ignores=True), "a\u200db", "ab", True),
        (NameRules(case="full"), "a\u200db", "ab", False),
    ],
)
def test_which_names_are_one(rules: NameRules, one: str, other: str, same: bool) -> None:
    assert (rules.key(one) == rules.key(other)) is same


@pytest.mark.parametrize("rules", KINDS)
def test_rules_are_read_from_their_sign(rules: NameRules) -> None:
    assert NameRules.of_sign(rules.sign()) == rules
