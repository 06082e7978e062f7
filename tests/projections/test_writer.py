"""The writer: the tables hold what the fold holds, whatever the batches, and move together with their positions."""

from dataclasses import replace
from random import Random
from threading import Barrier, Thread

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from projections import positions
from projections.fold import fold
from projections.migrate import upgrade
from projections.positions import EpochChanged
from projections.records import Dispatched, Fact, LogRecord, Scheduled
from projections.upsert import Encoded
from projections.writer import EVENTS, Batch, write, write_batch
from schemas.errors import Undecodable
from schemas.events import TaskEvent
from streams.database import create_database_engine
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
    other = [log[0]._replace(fact=replace(ACCEPTED, event_id="e2")), log[1]._replace(offset=2, fact=None)]
    assert write(engine, other, EPOCH) == {("events", 0): 3}
    with engine.connect() as connection:
        assert set(stored_rows(connection).events) == {KEY}
        assert positions.read(connection, EPOCH) == {("events", 0): 3}


def test_a_batch_made_ahead_is_folded_again_where_part_of_it_has_been_projected(engine: Engine) -> None:
    log = records([ACCEPTED, outcome("retry"), outcome("completed", attempt=2)])
    batch = Batch(log)
    batch.encode()
    # Somebody else was there and folded other records into these places: they must not come back.
    write(engine, [log[0]._replace(fact=replace(ACCEPTED, event_id="e2")), log[1]._replace(fact=None)], EPOCH)
    assert write(engine, batch, EPOCH) == {("events", 0): 3}
    with engine.connect() as connection:
        rows = stored_rows(connection)
    assert {key[1] for key in rows.events} == {"e2", ACCEPTED.event_id}
    assert [attempt.attempt for attempt in rows.attempts.values()] == [2]


def test_what_cannot_be_projected_leaves_a_batch_as_it_was() -> None:
    batch = Batch(records([ACCEPTED]))
    for bad in (
        replace(ACCEPTED, kind="melted"),
        replace(ACCEPTED, kind="matched", result="["),
        replace(ACCEPTED, event_id="e" * 513),
        replace(ACCEPTED, event_id="a\x00"),
    ):
        with pytest.raises(Undecodable):
            batch.add(LogRecord("events", 0, 1, bad))
    assert (list(batch.records), batch.rows, batch.reached) == (
        records([ACCEPTED]),
        fold([ACCEPTED]),
        {("events", 0): 1},
    )


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


@pytest.mark.postgres
def test_rows_taken_for_new_that_were_there_are_merged(postgres_database: str) -> None:
    engine = create_database_engine(postgres_database)
    upgrade(engine)
    other = replace(ACCEPTED, event_id="e0")
    log = records([ACCEPTED, outcome("retry"), other, ACCEPTED, outcome("completed")])
    target = replace(EVENTS)  # one that has seen no collision
    for start, there in ((0, False), (3, True)):
        rows = fold(each.fact for each in log[: start + 3] if each.fact is not None)
        with engine.begin() as connection:
            target.write(connection, rows.events)
        # Collided: for some batches it does not try again what costs time and leaves dead rows.
        assert (target.cautious > 0) is there
    write(engine, log, EPOCH)
    with engine.connect() as connection:
        assert stored_rows(connection).events == fold([each.fact for each in log if each.fact is not None]).events
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.parametrize("encoded", [Encoded(b"broken", b""), Encoded(b"", b"broken")])
def test_what_copy_refuses_is_an_error_of_the_database(postgres_database: str, encoded: Encoded) -> None:
    engine = create_database_engine(postgres_database)
    upgrade(engine)
    with pytest.raises(DBAPIError), engine.begin() as connection:
        replace(EVENTS).write(connection, fold([ACCEPTED]).events, encoded)
    engine.dispose()


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
