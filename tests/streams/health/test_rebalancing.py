"""Which commands a rebalance sends for what waits (R16)."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from streams.health.rebalancing import Waiting, moves_of
from topics.balance import SLICES, Shift, slice_of

SOURCE, NEAR, FAR = "webhook-beanstalk", "webhook-db", "webhook-redis"


def _waiting(partition: int, keys: list[bytes], *targets: str) -> Waiting:
    found = Waiting(partition)
    for offset, key in enumerate(keys):
        found.count(100 + offset, key, frozenset(targets))
    return found


@given(
    st.lists(st.lists(st.integers(0, 200), max_size=300), min_size=1, max_size=4),
    st.integers(1, 400),
    st.integers(1, 400),
)
def test_no_command_reaches_more_than_is_wanted_and_none_two_reach_the_same(
    partitions: list[list[int]], near: int, far: int
) -> None:
    keys = [[b"key-%d" % each for each in found] for found in partitions]
    waiting = [_waiting(number, found, NEAR, FAR) for number, found in enumerate(keys)]
    planned = moves_of(SOURCE, [Shift(SOURCE, NEAR, near), Shift(SOURCE, FAR, far)], waiting)
    given_to, taken = Counter[str](), set[tuple[int, int]]()
    for each in planned:
        move = each.move
        reached = [key for key in keys[move.partition] if move.first_slice <= slice_of(key) < move.end_slice]
        assert each.records == len(reached) > 0
        assert move.up_to == 100 + len(keys[move.partition])
        given_to[move.target] += len(reached)
        slices = {(move.partition, number) for number in range(move.first_slice, move.end_slice)}
        assert not slices & taken
        taken |= slices
    assert given_to[NEAR] <= near
    assert given_to[FAR] <= far


def test_about_as_much_is_moved_as_is_wanted_of_every_partition() -> None:
    waiting = [_waiting(number, [b"%d-%d" % (number, each) for each in range(4000)], NEAR) for number in range(3)]
    planned = moves_of(SOURCE, [Shift(SOURCE, NEAR, 6000)], waiting)
    assert {each.move.partition for each in planned} == {0, 1, 2}
    assert sum(each.records for each in planned) > 5700


def test_a_key_goes_whole_or_not_at_all() -> None:
    busy = _waiting(0, [b"busy"] * 50 + [b"other"] * 3, NEAR)
    [planned] = moves_of(SOURCE, [Shift(SOURCE, NEAR, 10)], [busy])
    assert planned.records == 3
    assert not planned.move.first_slice <= slice_of(b"busy") < planned.move.end_slice
    assert moves_of(SOURCE, [Shift(SOURCE, NEAR, 2)], [busy]) == []


def test_what_may_not_go_there_is_not_counted() -> None:
    mixed = _waiting(0, [b"a"] * 5, FAR)
    assert moves_of(SOURCE, [Shift(SOURCE, NEAR, 10)], [mixed]) == []
    [planned] = moves_of(SOURCE, [Shift(SOURCE, FAR, SLICES)], [mixed])
    assert planned.records == 5
