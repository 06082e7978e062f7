"""The writer: the tables hold what the fold holds, whatever the batches, and move together with their positions."""

from dataclasses import replace
from random import Random
from threading import Barrier, Thread

import pytest
from sqlalchemy import Engine

from projections import positions
from projections.fold import fold
from projections.positions import EpochChanged
from projections.records import Dispatched, Fact, LogRecord, Scheduled
from projections.writer import write, write_batch
from schemas.events import TaskEvent
from tests.projections.stored import stored_rows
from tests.projections.stories import life, shuffled
from tests.projections.test_fold import ACCEPTED, KEY, outcome

EPOCH = "epoch-1"


def records(facts: list[Fact], partition: int = 0) -> list[LogRecord]:
    """The facts as a partition's records from offset 0."""
    return [LogRecord("events", partition, offset, fact) for offset, fact in enumerate(facts)]


@pytest.mark.parametrize("seed", range(6))
def test_tables_equal_the_fold_for_any_order_and_any_batches(engine: Engine, seed: int) -> None:
    random = Random(seed)
    facts = [fact for _ in range(15) for fact in life(random)]
    log = records(shuffled(facts, random))
    while log:
        size = random.choice((1, 3, 10, 50))
        write(engine, log[:size], EPOCH)
        log = log[size:]
    with engine.connect() as connection:
        assert stored_rows(connection) == fold(facts)


@pytest.mark.parametrize("topics", [(Scheduled, TaskEvent, Dispatched), (TaskEvent, Dispatched, Scheduled)])
def test_tables_equal_the_fold_where_one_topic_is_far_ahead(engine: Engine, topics: tuple[type[Fact], ...]) -> None:
    random = Random(2)
    facts = [fact for _ in range(80) for fact in life(random)]
    log = records(sorted(facts, key=lambda fact: topics.index(type(fact))))
    for start in range(0, len(log), 50):
        write(engine, log[start : start + 50], EPOCH)
    with engine.connect() as connection:
        assert stored_rows(connection) == fold(facts)


def test_records_below_the_position_are_skipped(engine: Engine) -> None:
    log = records([ACCEPTED, outcome("retry")])
    assert write(engine, log, EPOCH) == {("events", 0): 2}
    other = [replace(log[0], fact=replace(ACCEPTED, event_id="e2")), replace(log[1], offset=2, fact=None)]
    assert write(engine, other, EPOCH) == {("events", 0): 3}
    with engine.connect() as connection:
        assert set(stored_rows(connection).events) == {KEY}
        assert positions.read(connection, EPOCH) == {("events", 0): 3}


def test_rows_and_positions_are_written_both_or_neither(engine: Engine) -> None:
    with engine.connect() as connection:
        write_batch(connection, records([ACCEPTED]), EPOCH)
        connection.rollback()
    with engine.connect() as connection:
        assert not stored_rows(connection).events
        assert not positions.read(connection)


def test_a_new_epoch_begins_at_0_and_fences_the_former_one(engine: Engine) -> None:
    write(engine, records([ACCEPTED]), EPOCH)
    with engine.begin() as connection:
        assert positions.claim(connection, EPOCH, [("events", 0), ("events", 1)]) == {
            ("events", 0): 1,
            ("events", 1): 0,
        }
        assert positions.claim(connection, "epoch-2", [("events", 0)]) == {("events", 0): 0}
    with pytest.raises(EpochChanged, match="another projector has taken over"):
        write(engine, records([ACCEPTED, outcome("retry")]), EPOCH)
    assert write(engine, records([outcome("completed")]), "epoch-2") == {("events", 0): 1}


def test_text_that_postgresql_cannot_hold_is_replaced(engine: Engine) -> None:
    write(engine, records([outcome("rejected", error="a\x00b")]), EPOCH)
    with engine.connect() as connection:
        error = stored_rows(connection).events[KEY].error
    assert error == ("a\ufffdb" if engine.dialect.name == "postgresql" else "a\x00b")


def test_two_writers_of_the_same_events_agree_with_the_fold(engine: Engine) -> None:
    random = Random(1)
    facts = [fact for _ in range(60) for fact in life(random)]
    halves = [shuffled(facts, random), shuffled(facts, random)]
    barrier = Barrier(2)
    failures: list[BaseException] = []

    def project(partition: int) -> None:
        log = records(halves[partition], partition)
        barrier.wait()
        try:
            for start in range(0, len(log), 40):
                write(engine, log[start : start + 40], EPOCH)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [Thread(target=project, args=(partition,)) for partition in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with engine.connect() as connection:
        assert stored_rows(connection) == fold(facts)
