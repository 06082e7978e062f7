"""Fetches are contiguous from the commit on (R23)."""

from types import SimpleNamespace
from typing import Any

import pytest

from streams.engine.ledger import LedgerMetadata, PartitionLedger
from streams.engine.partitions import BOUND_STEP, CommitOffset, Partition
from tests.streams.engine.test_ledger import NoReader


def records(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in offsets]


@pytest.fixture
def partition() -> Partition:
    ledger = PartitionLedger(0, {"tier"}, NoReader())
    ledger.begin(0, 0)
    return Partition("tier", 0, 1, 100, ledger, LedgerMetadata(0, "epoch"))


async def test_a_gap_is_sought_back_once_and_then_believed(partition: Partition) -> None:
    assert partition.accept(records(105, 106)) is None
    assert partition.next_offset == 100
    assert partition.accept(records(105, 106)) is not None
    assert partition.next_offset == 107


async def test_what_was_fetched_before_is_dropped(partition: Partition) -> None:
    partition.accept(records(100, 101, 102))
    again = partition.accept(records(101, 102, 103))
    assert again is not None
    assert [each.offset for each in again] == [103]


async def test_an_idle_partition_commits_again_when_its_bound_has_moved_far(partition: Partition) -> None:
    assert partition.commit("epoch") is None
    partition.ledger.apply([], BOUND_STEP)
    commit = partition.commit("epoch")
    assert commit is not None
    assert (int(commit), commit.bound) == (100, BOUND_STEP)
    partition.confirm(commit)
    assert partition.commit("epoch") is None


def counted(commit: CommitOffset | None) -> int | None:
    """How many assignments a commit says, ``None`` where there is none."""
    metadata = LedgerMetadata.parse(commit.metadata) if commit is not None else None
    return metadata.assignments if metadata is not None else None


async def test_an_assignment_is_counted_until_something_is_finished(partition: Partition) -> None:
    partition.count_assignment(1)
    mark = partition.mark("epoch")
    assert (int(mark), counted(mark), partition.is_careful) == (100, 2, False)
    partition.confirm(mark)
    partition.acker.start_all([100, 101])
    assert partition.commit("epoch") is None
    partition.finish(101)
    assert partition.commit("epoch") is None
    partition.finish(100)
    commit = partition.commit("epoch")
    assert counted(commit) == 0
    assert commit is not None
    partition.confirm(commit)
    assert partition.commit("epoch") is None


async def test_the_third_assignment_without_progress_is_careful_until_its_records_are_done(
    partition: Partition,
) -> None:
    partition.count_assignment(2)
    partition.confirm(partition.mark("epoch"))
    partition.settle_down()
    assert partition.is_careful
    partition.acker.start_all([100, 101])
    partition.finish(100)
    commit = partition.commit("epoch")
    assert commit is not None
    partition.confirm(commit)
    partition.settle_down()
    assert partition.is_careful
    partition.finish(101)
    partition.settle_down()
    assert not partition.is_careful


async def test_a_hand_over_is_no_crash(partition: Partition) -> None:
    partition.count_assignment(1)
    partition.confirm(partition.mark("epoch"))
    partition.acker.start_all([100])
    partition.closed = True
    assert counted(partition.commit("epoch")) == 1


async def test_a_hand_over_before_the_ledger_is_read_is_no_crash_and_keeps_its_bound() -> None:
    unread = Partition("tier", 0, 1, 100, PartitionLedger(0, {"tier"}, NoReader()), LedgerMetadata(77, "epoch"))
    unread.count_assignment(1)
    unread.confirm(unread.mark("epoch"))
    assert unread.commit("epoch") is None
    unread.closed = True
    commit = unread.commit("epoch")
    assert commit is not None
    assert (int(commit), LedgerMetadata.parse(commit.metadata)) == (100, LedgerMetadata(77, "epoch", 1))
