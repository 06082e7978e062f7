"""From where the ledgers of an assignment are read: on from the last one's where that knew everything (R2)."""

from collections.abc import Mapping
from typing import Any

import pytest
from faust.types.tuples import TP

from schemas.events import Source
from streams.engine.assignment import Assignment, Position
from streams.engine.ledger import LedgerMetadata, PartitionLedger, TailRecord

TIER, STEPS = TP("tier", 0), TP("tier.steps", 0)


class Tail:
    """Keeps what it is told to read."""

    epoch = "epoch"

    def __init__(self) -> None:
        self.told: dict[int, tuple[PartitionLedger, LedgerMetadata | None]] = {}

    def assign(self, ledgers: Mapping[int, tuple[PartitionLedger, LedgerMetadata | None]]) -> None:
        self.told = dict(ledgers)


@pytest.fixture
def tail() -> Tail:
    return Tail()


@pytest.fixture
def assignment(tail: Tail) -> Assignment:
    unused: Any = None
    reading: Any = tail
    return Assignment(unused, reading, frozenset({TIER.topic, STEPS.topic}))


def committed(tier: int, bound: int = 3, **others: int) -> dict[TP, Position]:
    """Commits of the tier and its steps, and of other topics."""
    metadata = LedgerMetadata(bound, Tail.epoch).encode()
    offsets = {TIER: tier, STEPS: 0, **{TP(topic, 0): offset for topic, offset in others.items()}}
    return {tp: Position(offset, metadata) for tp, offset in offsets.items()}


def read_ledger(tail: Tail) -> PartitionLedger:
    """The ledger, read to its end, with one outcome in it."""
    ledger, _ = tail.told[0]
    ledger.begin(3, 40)
    ledger.apply([TailRecord(10, "completed", Source("tier", 0, 7), "e7|1|0|1", 0.0)], 40)
    assert ledger.is_ready
    return ledger


def test_a_partition_that_stays_has_its_ledger_read_on_and_waits_for_what_was_written_meanwhile(
    assignment: Assignment, tail: Tail
) -> None:
    assignment.take(committed(5), 1)
    ledger = read_ledger(tail)
    assignment.forget()
    assert tail.told == {}
    assignment.take(committed(6), 2)
    assert tail.told == {0: (ledger, LedgerMetadata(40, Tail.epoch))}
    assert {each.ledger for each in assignment.partitions} == {ledger}
    ready = [ledger.is_ready]
    ledger.begin(40, 41)
    ready.append(ledger.is_ready)
    ledger.apply([], 41)
    assert [*ready, ledger.is_ready] == [False, False, True]
    assert ledger.has_ended(Source("tier", 0, 7))


def test_where_a_commit_went_back_behind_what_was_forgotten_all_is_read_anew(
    assignment: Assignment, tail: Tail
) -> None:
    """Somebody has set the group's offsets: outcomes of the records that come again may be gone from the ledger."""
    assignment.take(committed(5), 1)
    ledger = read_ledger(tail)
    ledger.prune("tier", 8)
    assignment.forget()
    assignment.take(committed(7), 2)
    again, metadata = tail.told[0]
    assert again is not ledger
    assert metadata == LedgerMetadata(3, Tail.epoch)


def test_a_ledger_that_was_not_read_to_its_end_is_not_kept(assignment: Assignment, tail: Tail) -> None:
    assignment.take(committed(5), 1)
    ledger, _ = tail.told[0]
    assignment.forget()
    assignment.take(committed(5), 2)
    assert tail.told[0][0] is not ledger


def test_a_ledger_that_was_read_for_fewer_topics_is_not_kept(assignment: Assignment, tail: Tail) -> None:
    assignment.take({TIER: committed(5)[TIER]}, 1)
    ledger = read_ledger(tail)
    assignment.forget()
    assignment.take(committed(5), 2)
    assert tail.told[0][0] is not ledger
    assert tail.told[0][1] == LedgerMetadata(3, Tail.epoch)


def test_a_partition_that_was_elsewhere_in_between_is_read_anew(assignment: Assignment, tail: Tail) -> None:
    assignment.take(committed(5), 1)
    ledger = read_ledger(tail)
    assignment.forget()
    assignment.take({TP("tier", 1): Position(0, None)}, 2)
    assignment.forget()
    assignment.take(committed(6), 3)
    assert tail.told[0][0] is not ledger
