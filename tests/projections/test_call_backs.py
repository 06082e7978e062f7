"""Which call-back a wait gets: the first with its key, whatever is projected first, and by whom."""

from dataclasses import replace
from itertools import permutations
from threading import Barrier, Thread

import pytest
from sqlalchemy import Engine

from projections.call_backs import recent_call_backs
from projections.fold import fold
from projections.records import Dispatched, Fact, LogRecord
from projections.writer import write
from schemas.errors import Undecodable
from schemas.events import TaskEvent
from tests.projections.stored import stored_rows
from tests.projections.test_fold import ACCEPTED, wait

GATE = "call_back|7|paid"


def called(name: str, at: int, gate: str = GATE) -> TaskEvent:
    """A call-back."""
    return replace(ACCEPTED, kind="called_back", event_id=name, accepted_at=at, recorded_at=at + 5, gate=gate)


def test_a_wait_gets_the_first_call_back_of_its_key_in_whatever_order_they_are_projected() -> None:
    facts: list[Fact] = [
        wait(2, gate=GATE),
        called("second", 700),
        called("first", 500),
        called("x", 1, "call_back|7|y"),
    ]
    for some in permutations(facts):
        rows = fold(some)
        assert rows.schedule["e1|1|0|2|1"].call_back_id == "first"
        assert len(rows.call_backs) == 3
        assert rows.events == {}
    assert fold(facts[:1]).schedule["e1|1|0|2|1"].call_back_id is None


def test_other_gates_have_no_call_backs() -> None:
    assert fold([wait(2, gate="tenant|7"), called("c", 1)]).schedule["e1|1|0|2|1"].call_back_id is None


@pytest.mark.parametrize(
    "wrong", [{"gate": None}, {"gate": "tenant|7"}, {"gate": "call_back|7|"}, {"payload": None}, {"payload": "[1]"}]
)
def test_a_call_back_without_key_or_payload_is_passed_over(wrong: dict[str, object]) -> None:
    with pytest.raises(Undecodable, match="call-back c"):
        fold([replace(called("c", 1), **wrong)])  # type: ignore[arg-type]


# SQLite has one writer at a time.
@pytest.mark.parametrize("database_url", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)
def test_two_writers_of_a_wait_and_its_call_back_do_not_miss_each_other(engine: Engine) -> None:
    """One projects the wait, the other the call-back: neither sees the other's row before it is committed."""
    for number in range(20):
        gate = f"call_back|7|{number}"
        event_id = f"e{number}"
        records = [
            LogRecord("scheduled", 0, number, wait(2, gate=gate, event_id=event_id, schedule_id=event_id)),
            LogRecord("events", 0, number, called(f"c{number}", 1, gate)),
        ]
        barrier = Barrier(2)

        def project(record: LogRecord, barrier: Barrier = barrier) -> None:
            barrier.wait()
            write(engine, [record], "epoch")

        threads = [Thread(target=project, args=(record,)) for record in records]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with engine.connect() as connection:
        waits = stored_rows(connection).schedule.values()
    assert {row.schedule_id: row.call_back_id for row in waits} == {f"e{number}": f"c{number}" for number in range(20)}


def test_who_was_let_go_by_its_time_was_not_let_go_by_a_late_call_back(engine: Engine) -> None:
    facts: list[Fact] = [
        wait(2, gate=GATE, schedule_id="timed out"),
        Dispatched("timed out", 400),
        called("late", 500),
        wait(2, gate=GATE, schedule_id="called back"),
        Dispatched("called back", 600),
    ]
    write(engine, [LogRecord("log", 0, number, fact) for number, fact in enumerate(facts)], "epoch")
    with engine.connect() as connection:
        [found] = recent_call_backs(connection)
    assert (found.call_back_id, found.continued) == ("late", 1)
