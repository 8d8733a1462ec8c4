"""What names a disk can hold, and which of them it takes for one name: pure rules, as found by `folder.disk_kind`.

A disk may not tell `a` from `A`, nor the two forms of an accented letter (one sign, or a letter and a mark); it may
store another form than it was given; and there are names that it refuses. `key` is equal for names that the disk takes
for one, `spell` is the name that it lists for a file made under a name.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, fields
from typing import Literal

import cbor2

VERSION = 1  # of what the rules below mean: rows that were written by others are written anew

Case = Literal["told", "ascii", "simple", "full"]
"""told: `a` and `A` are two names. ascii: one. simple: also beyond ASCII. full: also where letters become several, as
the German sharp s."""

FORBIDDEN = '<>:"|?*\\'
_WIDE = 0xFEE0  # from a sign of ASCII to its wide form, which looks like it
_LOOKALIKES = {ord(sign): ord(sign) + _WIDE for sign in FORBIDDEN}
_TRAILING = {ord("."): ord(".") + _WIDE, ord(" "): 0x2420}
_CONTROLS = {number: 0x2400 + number for number in range(1, 32)} | {127: 0x2421}
_RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(?=\.|$)", re.IGNORECASE)
_IGNORABLE = re.compile("[\u00ad\u034f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_ASCII_LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


@dataclass(frozen=True, slots=True)
class NameRules:
    """One kind of disk. `case`: see `Case`; `forms`: normal forms are one name; `stores`: the normal form that it
    stores whatever it is given; `lowers`: it lists all in lower case; `ignores`: signs that are not seen make no other
    name. What it refuses: `forbids` some of `FORBIDDEN` and control characters, `trims` dots and spaces at the end,
    `reserves` CON and the like, `utf8` wants nothing else."""

    case: Case = "told"
    forms: bool = False
    stores: Literal["", "NFC", "NFD"] = ""
    ignores: bool = False
    forbids: bool = False
    trims: bool = False
    reserves: bool = False
    utf8: bool = False
    lowers: bool = False

    @property
    def folds(self) -> bool:
        """Whether names that differ may be one to the disk."""
        return self.case != "told" or self.forms or self.ignores or self.stores != ""

    @property
    def plain(self) -> bool:
        """Whether the disk holds all names as they are."""
        return self == PLAIN

    def key(self, name: str) -> str:
        """Return what is equal for names that are one to the disk."""
        if name.isascii():
            return name if self.case == "told" else name.lower()
        if self.ignores:
            name = _IGNORABLE.sub("", name)
        if self.forms:
            name = unicodedata.normalize("NFD", name)
        name = _folded(name, self.case)
        return unicodedata.normalize("NFD", name) if self.forms else name

    def spell(self, name: str) -> str:
        """Return the name as the disk holds it: another one where it would refuse this one."""
        if self.utf8:
            name = _NOT_UTF8.sub(lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)
        if self.forbids:
            name = name.translate(_LOOKALIKES).translate(_CONTROLS)
        if self.trims and name[-1:] in (".", " "):
            bare = name.rstrip(". ")
            name = bare + name[len(bare) :].translate(_TRAILING)
        if self.reserves and (found := _RESERVED.match(name)):
            name = f"{found[0]}_{name[found.end() :]}"
        if self.lowers:
            name = "".join(map(_simple, name))
        return unicodedata.normalize(self.stores, name) if self.stores else name

    def told(self, name: str) -> str:
        """Return the name that a person meant who made a file that the disk lists as this: keyboards give NFC."""
        return unicodedata.normalize("NFC", name) if self.stores == "NFD" else name

    def sign(self) -> bytes:
        """Return what is equal for equal rules, also in later versions of this program: not what it was, if they mean
        something else by now."""
        values = [getattr(self, field.name) for field in fields(self)]
        return cbor2.dumps([VERSION, unicodedata.unidata_version, *values])

    @classmethod
    def of_sign(cls, sign: bytes) -> NameRules:
        """Return the rules that a sign is of."""
        _, _, *values = cbor2.loads(sign)
        return cls(*values[: len(fields(cls))])


PLAIN = NameRules()


def same(name: str) -> str:
    """Return the name: the key of a disk that tells all names apart."""
    return name


def _folded(name: str, case: Case) -> str:
    match case:
        case "told":
            return name
        case "ascii":
            return name.translate(_ASCII_LOWER)
        case "simple":
            return "".join(map(_simple, name))
        case "full":
            return name.upper().casefold()


def _simple(letter: str) -> str:
    """Return the letter in lower case, as far as that is one letter."""
    upper = letter.upper()
    lower = (upper if len(upper) == 1 else letter).lower()
    return lower if len(lower) == 1 else letter
