"""The committable offset is always the first unfinished one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.acker import Commit, PartitionAcker


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=60).flatmap(
        lambda gaps: st.tuples(st.just(gaps), st.permutations(range(len(gaps))))
    )
)
def test_commits_the_first_unfinished_offset(case: tuple[list[int], list[int]]) -> None:
    gaps, order = case
    offsets = [10 + sum(gaps[: index + 1]) for index in range(len(gaps))]
    acker = PartitionAcker(10)
    for offset in offsets:
        acker.start(offset)
    open_offsets = set(offsets)
    for index in order:
        acker.finish(offsets[index])
        open_offsets.remove(offsets[index])
        commit = acker.commit()
        if open_offsets:
            assert (commit.offset if commit else acker.committed) <= min(open_offsets)
            finished_before = [each for each in offsets if each < min(open_offsets)]
            assert acker.low == (finished_before[-1] + 1 if finished_before else 10)
        else:
            assert commit == Commit(offsets[-1] + 1)
        if commit:
            acker.confirm(commit.offset)
            assert acker.commit() is None
    assert acker.unfinished == 0


def test_an_offset_cannot_be_started_twice() -> None:
    acker = PartitionAcker(0)
    acker.start(3)
    with pytest.raises(ValueError, match="started before"):
        acker.start(3)


def test_finishing_twice_changes_nothing() -> None:
    acker = PartitionAcker(0)
    acker.start_all([0, 1, 2])
    acker.finish(0)
    acker.finish(0)
    assert acker.commit() == Commit(1)
    acker.finish(0)
    assert acker.unfinished == 2
