"""The ledger's bound, what it forgets, and whom it wakes."""

import pytest

from schemas.events import Source, TaskEvent
from streams.engine.contract import LedgerEntry
from streams.engine.ledger import LedgerMetadata, PartitionLedger, TailRecord


class NoReader:
    async def read(self, number: int, offset: int) -> TaskEvent:
        raise LookupError

    async def search(self, number: int, from_offset: int, identity: str) -> LedgerEntry | None:
        return None


def tail(offset: int, source: int, kind: str = "completed", remaining_s: float = 0.0) -> TailRecord:
    return TailRecord(offset, kind, Source("tier", 0, source), f"e{source}|1|0|1", remaining_s)


@pytest.fixture
def ledger() -> PartitionLedger:
    return PartitionLedger(0, {"tier", "tier.steps"}, NoReader())


async def test_ready_when_the_end_at_assignment_is_reached(ledger: PartitionLedger) -> None:
    ledger.begin(5, 8)
    assert not ledger.is_ready
    ledger.apply([tail(5, 1)], 7)
    assert not ledger.is_ready
    ledger.apply([], 8)
    assert ledger.is_ready


async def test_the_bound_is_the_least_entry_at_or_beyond_the_commit_but_never_beyond_the_position(
    ledger: PartitionLedger,
) -> None:
    ledger.begin(0, 0)
    ledger.apply([tail(10, 3), tail(11, 1), tail(12, 7)], 20)
    assert ledger.bound("tier", 0) == 10
    assert ledger.bound("tier", 4) == 12
    assert ledger.bound("tier", 8) == 20
    # A record of our own beyond what the tail has read: another worker's may lie in between.
    ledger.note(LedgerEntry("completed", 40, Source("tier", 0, 9), "e9|1|0|1"))
    assert ledger.bound("tier", 9) == 20


async def test_the_first_outcome_of_a_task_wins(ledger: PartitionLedger) -> None:
    ledger.apply([tail(10, 3, "retry"), tail(11, 3, "completed")], 12)
    outcome = ledger.outcome("e3|1|0|1")
    assert outcome is not None
    assert outcome.kind == "retry"


async def test_claims_are_no_outcomes_and_their_outcome_wakes_who_waits(ledger: PartitionLedger) -> None:
    woken: list[int] = []
    ledger.apply([tail(10, 3, "claimed", 5.0)], 11)
    assert ledger.outcome("e3|1|0|1") is None
    assert ledger.by_source(Source("tier", 0, 3))[0].parked_until > 0
    ledger.watch("e3|1|0|1", lambda: woken.append(1))
    ledger.apply([tail(11, 3)], 12)
    ledger.apply([tail(12, 3)], 13)
    assert woken == [1]


async def test_a_commit_prunes(ledger: PartitionLedger) -> None:
    ledger.apply([tail(10, 3), tail(11, 4)], 12)
    ledger.prune("tier", 4)
    assert ledger.outcome("e3|1|0|1") is None
    assert ledger.outcome("e4|1|0|1") is not None
    assert not ledger.by_source(Source("tier", 0, 3))


def test_metadata_of_others_is_no_metadata() -> None:
    assert LedgerMetadata.parse(LedgerMetadata(7, "c/t").encode()) == LedgerMetadata(7, "c/t")
    for text in (None, "", "{}", "e:17", '{"bound": "x", "epoch": ""}', "[1]"):
        assert LedgerMetadata.parse(text) is None
