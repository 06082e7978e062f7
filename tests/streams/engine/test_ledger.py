"""The ledger's bound, what it forgets, and whom it wakes."""

import pytest

from schemas.events import Source, TaskEvent
from streams.engine.contract import LedgerEntry
from streams.engine.ledger import LedgerMetadata, PartitionLedger, TailRecord
from streams.engine.outcomes import UNTOLD


class NoReader:
    async def read(self, number: int, offset: int) -> TaskEvent:
        raise LookupError

    async def search(self, number: int, from_offset: int, identity: str, dispatch_seq: int) -> LedgerEntry | None:
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


async def test_a_record_is_known_by_its_source_or_by_its_tasks_outcome(ledger: PartitionLedger) -> None:
    ledger.apply([tail(10, 3), tail(11, 4, "claimed", 5.0)], 12)
    assert ledger.knows(Source("tier", 0, 3), "e3|1|0|1")
    assert ledger.knows(Source("tier", 0, 4), "e4|1|0|1")
    assert ledger.knows(Source("tier", 0, 9), "e3|1|0|1")
    assert not ledger.knows(Source("tier", 0, 9), "e4|1|0|1")
    assert not ledger.knows(Source("tier.steps", 0, 3), "e9|1|0|1")


async def test_only_what_is_over_by_its_first_outcome_has_ended(ledger: PartitionLedger) -> None:
    """R1: what has a sequel, and what went on as another dispatch, is looked at."""
    going_on = TailRecord(14, "deferred", Source("tier", 0, 5), "e5|1|0|1", 0.0, dispatch_seq=2)
    again = TailRecord(16, "completed", Source("tier", 0, 8), "e2|1|0|1", 0.0)
    ledger.apply(
        [tail(10, 1), tail(11, 2, "retry"), tail(12, 3, "claimed", 5.0), going_on, tail(15, 5), again, tail(17, 9)], 18
    )
    ended = [offset for offset in range(12) if ledger.has_ended(Source("tier", 0, offset))]
    assert ended == [1, 9]


async def test_what_comes_in_later_moves_no_longer_until_where_records_are_known(ledger: PartitionLedger) -> None:
    ledger.apply([tail(10, 3), tail(11, 6)], 12)
    assert (ledger.read_until("tier"), ledger.read_until("tier.steps")) == (7, 0)
    ledger.note(LedgerEntry("completed", 40, Source("tier", 0, 9), "e9|1|0|1"))
    assert ledger.read_until("tier") == 7


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


async def test_what_the_brokers_had_already_is_left_to_the_tail(ledger: PartitionLedger) -> None:
    """An outcome that was sent again after a leader's death is in the log, and nobody says where (R2)."""
    ledger.begin(10, 10)
    source, identity = Source("tier", 0, 3), "e3|1|0|1"
    ledger.apply([tail(10, 3, "intent")], 12)
    ledger.note(LedgerEntry("completed", UNTOLD, source, identity))
    assert ledger.outcome(identity) is None
    assert ledger.bound("tier", 4) == 12
    ledger.apply([tail(12, 3)], 13)
    assert ledger.outcome(identity) == LedgerEntry("completed", 12, source, identity)
