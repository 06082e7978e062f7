"""Strict lanes: one event at a time, in the order of acceptance, whatever is projected first."""

from dataclasses import replace
from itertools import permutations

import pytest
from sqlalchemy import Engine, update

from projections.derived import mend_waits
from projections.fold import fold
from projections.records import Dispatched, Fact, LogRecord, Scheduled
from projections.tables import WEBHOOK_SCHEDULE
from projections.writer import write
from schemas.events import TaskEvent
from tests.projections.stored import stored_rows
from tests.projections.test_fold import ACCEPTED, outcome, wait

LANE = "7|Order|12"


def turn(event_id: str, place: int, run: int = 1, kind: str = "strict") -> Scheduled:
    """An event's entry into the lane, as its ``place``-th record."""
    made = wait(1, event_id=event_id, schedule_id=f"{event_id}|{run}|0|1|1", run=run, kind=kind, lane=LANE)
    return replace(made, offset=place)


def told(kind: str, event_id: str, **values: object) -> TaskEvent:
    """Something that happened to an event."""
    return replace(outcome(kind, **values), event_id=event_id)


def let_go(facts: list[Fact]) -> list[str]:
    """Events that the lane does not hold back and that have not ended."""
    rows = fold(facts).schedule.values()
    return [row.event_id or "" for row in rows if row.held_by is None and row.closed_at is None]


THREE: list[Fact] = [turn("a", 1), turn("b", 2), turn("c", 3)]


def test_the_first_one_goes_and_keeps_the_lane_until_its_event_has_ended() -> None:
    assert let_go(THREE) == ["a"]
    assert let_go([*THREE, told("retry", "a")]) == ["a"]
    assert let_go([*THREE, told("failed", "a", attempt=3)]) == ["a"]
    assert let_go([*THREE, told("completed", "a")]) == ["b"]
    assert let_go([*THREE, told("failed_permanently", "a", attempt=8), told("completed", "b")]) == ["c"]


@pytest.mark.parametrize("order", list(permutations(range(5))))
def test_the_order_of_projection_makes_no_difference(order: tuple[int, ...]) -> None:
    facts = [*THREE, told("retry", "a"), told("completed", "a", attempt=2)]
    assert let_go([facts[each] for each in order]) == ["b"]


@pytest.mark.parametrize("kind", ["failed_permanently", "timed_out", "unknown"])
def test_a_halting_lane_stands_still_until_somebody_deals_with_the_event(kind: str) -> None:
    facts = [turn("a", 1, kind="strict_halt"), *THREE[1:], told(kind, "a", attempt=8)]
    assert let_go(facts) == ["a"]
    assert let_go([*facts, told("dismissed", "a", attempt=8)]) == ["b"]


def test_a_retried_event_comes_before_those_that_it_was_before() -> None:
    facts = [turn("a", 1, kind="strict_halt"), *THREE[1:], told("failed_permanently", "a", attempt=8)]
    again = replace(ACCEPTED, event_id="a", run=2, dispatch_seq=2)
    row = turn("a", 9, run=2)
    assert let_go([*facts, again, row]) == ["a"]
    assert let_go([*facts, again, row, told("completed", "a", run=2, dispatch_seq=2)]) == ["b"]


def test_a_cancelled_event_leaves_the_lane_when_its_end_is_recorded() -> None:
    cancelled = replace(turn("b", 4), event=replace(turn("b", 4).event, kind="cancelled", version=2))
    assert let_go([*THREE, cancelled]) == ["a", "b"]
    assert let_go([*THREE, cancelled, told("cancelled", "b"), told("completed", "a")]) == ["c"]


# SQLite has one writer at a time.
@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)
def test_two_writers_of_one_lane_do_not_leave_it_standing(engine: Engine) -> None:
    """One projects the end of the lane's event, the other its next one: neither sees the other's rows."""
    from threading import Barrier, Thread

    for number in range(20):
        lane = f"lane-{number}"
        first, second = (
            replace(
                each, event=replace(each.event, event_id=f"{number}{name}", schedule_id=f"{number}{name}", lane=lane)
            )
            for name, each in (("a", turn("a", 1)), ("b", turn("b", 2)))
        )
        write(engine, [LogRecord("scheduled", 0, 2 * number, first)], "epoch")
        ended = told("completed", f"{number}a")
        barrier = Barrier(2)

        def project(record: LogRecord, barrier: Barrier = barrier) -> None:
            barrier.wait()
            write(engine, [record], "epoch")

        records = [LogRecord("events", 0, number, ended), LogRecord("scheduled", 0, 2 * number + 1, second)]
        threads = [Thread(target=project, args=(record,)) for record in records]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with engine.connect() as connection:
        rows = stored_rows(connection).schedule
    assert [key for key, row in rows.items() if key.endswith("b") and row.held_by is not None] == []


def test_what_two_projectors_did_not_see_of_each_other_is_mended(engine: Engine) -> None:
    gated = wait(1, event_id="g", schedule_id="g", gate="tenant|7")
    facts = [*THREE, gated, Dispatched("g", 3_000), told("completed", "a"), told("completed", "g")]
    write(engine, [LogRecord("all", 0, offset, fact) for offset, fact in enumerate(facts)], "epoch")
    with engine.begin() as connection:
        assert mend_waits(connection) == 0
        # As it is where the ends of "a" and "g" were projected while their waits were not committed.
        columns = WEBHOOK_SCHEDULE.c
        ended = update(WEBHOOK_SCHEDULE).where(columns.event_id.in_(["a", "g"]))
        connection.execute(ended.values(closed_at=None))
        connection.execute(update(WEBHOOK_SCHEDULE).where(columns.event_id == "a").values(held_by=None))
        connection.execute(update(WEBHOOK_SCHEDULE).where(columns.event_id == "b").values(held_by=LANE))
        assert mend_waits(connection) == 2
        assert mend_waits(connection) == 0
    with engine.connect() as connection:
        assert stored_rows(connection) == fold(facts)
