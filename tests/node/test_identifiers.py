"""Random identifiers."""

from shoal.node.identifiers import BLOCK, RandomBytes


def test_none_comes_again_and_each_has_its_size() -> None:
    source = RandomBytes()
    found = [source(12 if number % 3 else 16) for number in range(BLOCK)]
    assert [len(each) for each in found] == [12 if number % 3 else 16 for number in range(BLOCK)]
    assert len({each[:12] for each in found}) == len(found)


def test_two_sources_give_different_ones() -> None:
    assert RandomBytes()(16) != RandomBytes()(16)


def test_a_whole_block_can_be_had_after_a_few_bytes() -> None:
    source = RandomBytes()
    assert len(source(1)) == 1
    assert len(source(BLOCK)) == BLOCK
