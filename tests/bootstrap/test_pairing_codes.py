from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.bootstrap.pairing_codes import Code, new_code, parse_code


@given(st.integers(0, 999), st.integers(0, 10**10 - 1))
def test_a_code_is_read_back_from_what_is_shown(plate: int, secret: int) -> None:
    code = Code(f"{plate:03d}", f"{secret:010d}")
    assert parse_code(str(code)) == code


@pytest.mark.parametrize("typed", ["2714821390756", "271 48213 90756", " 271\u201348213-90756\t"])
def test_spaces_and_dashes_do_not_matter(typed: str) -> None:
    assert parse_code(typed) == Code("271", "4821390756")


@pytest.mark.parametrize("typed", ["", "271-48213", "271-48213-9075a", "271-48213-907567", "\u0662" * 13])
def test_anything_else_is_refused_with_an_example(typed: str) -> None:
    with pytest.raises(ValueError, match="like 271-48213-90756"):
        parse_code(typed)


def test_codes_differ() -> None:
    assert len({str(new_code()) for _ in range(100)}) == 100
