"""Links for pairing: what is put in comes out, and nonsense is refused in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.node.errors import UserError
from shoal.node.pairing_link import ADDRESSES, is_link, make_link, read_link

CODE = "271-48213-90756"


@given(
    st.lists(st.text(min_size=1, max_size=60).map(lambda text: f"/dns/{text}/tcp/1"), max_size=ADDRESSES, unique=True)
)
def test_code_and_addresses_come_back(addresses: list[str]) -> None:
    link = make_link(CODE, addresses)
    assert is_link(link)
    assert read_link(link) == (CODE, addresses)
    assert link.isascii()


def test_addresses_of_the_machine_itself_give_way() -> None:
    far = [f"/ip4/192.168.1.{number}/tcp/1" for number in range(ADDRESSES)]
    assert read_link(make_link(CODE, ["/ip4/127.0.0.1/tcp/1", *far]))[1] == far


def test_a_way_through_a_relay_has_its_place() -> None:
    far = [f"/ip4/192.168.1.{number}/tcp/1" for number in range(ADDRESSES)]
    circuit = "/ip4/5.6.7.8/tcp/1/p2p/12D3relay/p2p-circuit/p2p/12D3own"
    assert read_link(make_link(CODE, [*far, circuit]))[1] == [far[0], circuit, *far[1 : ADDRESSES - 1]]


@pytest.mark.parametrize(
    "text", ["shoal:", "shoal://", "shoal://share/x", "shoal://pair", "shoal://pair/", "shoal://[x"]
)
def test_what_is_no_link_for_pairing_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no link for pairing"):
        read_link(text)


def test_a_code_is_no_link() -> None:
    assert not is_link(CODE)
