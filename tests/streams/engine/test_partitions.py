"""Fetches are contiguous from the commit on (R23)."""

from types import SimpleNamespace
from typing import Any

import pytest

from streams.engine.ledger import PartitionLedger
from streams.engine.partitions import BOUND_STEP, Partition
from tests.streams.engine.test_ledger import NoReader


def records(*offsets: int) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in offsets]


@pytest.fixture
def partition() -> Partition:
    ledger = PartitionLedger(0, {"tier"}, NoReader())
    ledger.begin(0, 0)
    return Partition("tier", 0, 1, 100, ledger, 0)


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
