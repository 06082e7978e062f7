"""One relay at a time, and what a successor does before it publishes (R7)."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from projections.migrate import upgrade
from projections.records import LogRecord, Scheduled
from projections.tables import WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from projections.writer import write
from schemas.codec import encode
from schemas.events import now_micros, to_datetime
from streams.capture.leadership import DatabaseLock, end_when_idle, own_session, slices_held
from streams.capture.outbox import RELAYS, SLICES, append
from streams.capture.relay import Relay, RelayOptions
from streams.capture.takeover import Tenure
from streams.database import create_database_engine
from streams.settings import Settings
from tests.integration.scheduled import accepted, projecting, task_of, wait_of
from tests.streams.capture.relay_support import change_row, published, running, waiting
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

WAITS = WEBHOOK_SCHEDULE.c
OUTBOX_TENURES = [f"outbox-{number}" for number in range(SLICES)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections", "outbox"))
    yield engine
    engine.dispose()


@pytest.fixture
def postgres_engine(postgres_database: str) -> Iterator[Engine]:
    engine = create_database_engine(postgres_database)
    yield engine
    engine.dispose()


def due(engine: Engine, catalogue: Catalogue, *names: str, task: bytes | None = None) -> None:
    """Rows of the schedule that are due."""
    now = now_micros()
    with engine.begin() as connection:
        for name in names:
            connection.execute(
                insert(WEBHOOK_SCHEDULE).values(
                    schedule_id=f"{name}|1|0|1|1",
                    kind="delay",
                    event_id=name,
                    target_topic=catalogue.topic("webhook-db"),
                    due_at=to_datetime(now - 1_000_000),
                    record_key=name.encode(),
                    task=encode(task_of(name, now)) if task is None else task,
                )
            )


def undispatched(engine: Engine) -> int:
    with engine.connect() as connection:
        rows = connection.execute(
            select(WAITS.event_id).where(WAITS.dispatched_at.is_(None), WAITS.closed_at.is_(None))
        )
        return len(rows.all())


def holders(engine: Engine) -> int:
    """The schedule and the slices of the outbox that have been published from."""
    with engine.connect() as connection:
        return len(connection.execute(select(RELAYS.c.name)).all())


def leave_uncleanly(engine: Engine, *shares: str) -> None:
    """As relays leave that were killed."""
    with engine.begin() as connection:
        connection.execute(update(RELAYS).where(RELAYS.c.name.in_(shares)).values(signed_off_at=None))


@pytest.mark.embedded
def test_a_successor_waits_before_it_publishes(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine, tmp_path: Path
) -> None:
    """The relay with a proof time of 100 s waits twice that; one with a short one takes over twice in the meantime."""
    other = create_database_engine(f"sqlite:///{tmp_path}/other.db")
    upgrade(other, ("projections", "outbox"))

    def relay(source: Engine, proof_timeout_s: float) -> Relay:
        options = RelayOptions(epoch="one", proof_timeout_s=proof_timeout_s)
        return Relay(embedded_settings, catalogue, [source], source, options)

    def take_over(number: int) -> None:
        leave_uncleanly(other, *OUTBOX_TENURES)
        with other.begin() as connection:
            append(connection, [change_row(catalogue, "other", number)])
        with running(relay(other, 0.1)):
            eventually(lambda: waiting(other) == 0)

    with running(relay(engine, 0.1)):
        eventually(lambda: holders(engine) == SLICES + 1)
    leave_uncleanly(engine, *OUTBOX_TENURES)
    with engine.begin() as connection:
        append(connection, [change_row(catalogue, "7", 1)])
    take_over(1)
    with running(relay(engine, 100)):
        for number in range(2, 5):
            take_over(number)
        assert waiting(engine) == 1
    other.dispose()


@pytest.mark.embedded
def test_what_a_killed_relay_took_from_the_schedule_is_not_published_again(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    options = RelayOptions(epoch="one", proof_timeout_s=0.1)
    names = [f"e{number}" for number in range(20)]
    due(engine, catalogue, *names)
    with running(Relay(embedded_settings, catalogue, [engine], engine, options)):
        eventually(lambda: undispatched(engine) == 0)
    # Published, and killed before that was noted.
    leave_uncleanly(engine, "schedule")
    with engine.begin() as connection:
        connection.execute(update(WEBHOOK_SCHEDULE).values(dispatched_at=None))
    due(engine, catalogue, "new")
    with running(Relay(embedded_settings, catalogue, [engine], engine, options)):
        eventually(lambda: undispatched(engine) == 0)
    topic = catalogue.topic("webhook-db")
    sent = [headers["ce_id"].split("|")[0] for _, headers, _ in published(embedded_settings, catalogue, topic)]
    assert sorted(sent) == sorted([*names, "new"])


@pytest.mark.embedded
def test_a_wait_that_cannot_be_published_is_set_aside_and_the_others_go_on(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    due(engine, catalogue, "broken", task=b"no task")
    due(engine, catalogue, "whole")
    with running(Relay(embedded_settings, catalogue, [engine], engine)):
        eventually(lambda: undispatched(engine) == 0)
    with engine.connect() as connection:
        rows = {row.event_id: row for row in connection.execute(select(WEBHOOK_SCHEDULE))}
    assert "cannot be published: the task cannot be read" in rows["broken"].reason
    assert (rows["broken"].dispatched_at, rows["whole"].closed_at) == (None, None)


@pytest.mark.embedded
def test_an_event_whose_task_cannot_be_published_ends(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    """Else nobody would see it, and its lane would stand still for ever."""
    large = task_of("large", now_micros(), payload='"' + "x" * 2_000_000 + '"')
    broken = task_of("broken", now_micros())
    records: list[LogRecord] = []
    for place, task in enumerate((large, broken)):
        wait = wait_of(task, catalogue, now_micros(), kind="strict", lane="1|Order|7")
        if task is broken:
            wait.task = b"no task"
        records += [LogRecord("e", 0, place, accepted(task)), LogRecord("s", 0, place, Scheduled(wait, b"k", place))]
    write(engine, records, "one")

    def kinds() -> dict[str, str]:
        with engine.connect() as connection:
            return {row.event_id: row.kind for row in connection.execute(select(WEBHOOK_EVENTS))}

    with (
        projecting(embedded_settings, catalogue, engine, "one"),
        running(Relay(embedded_settings, catalogue, [engine], engine, RelayOptions(epoch="one"))),
    ):
        eventually(lambda: kinds() == dict.fromkeys(("large", "broken"), "failed_permanently"))
    with engine.connect() as connection:
        errors = {row.event_id: row.error for row in connection.execute(select(WEBHOOK_EVENTS))}
    assert "the record has 2000075 bytes" in errors["large"]
    assert "the task cannot be read" in errors["broken"]


@pytest.mark.postgres
def test_a_holder_whose_proof_hangs_holds_no_more(postgres_engine: Engine) -> None:
    """Its session's server process is stopped: no answer, no error."""
    lock = DatabaseLock(postgres_engine, (1,), proof_timeout_s=0.6)
    assert lock.acquire()
    eventually(lock.holds)
    with postgres_engine.connect() as connection:
        query = text(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        pid = connection.execute(query).scalar_one()
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: not lock.holds(), 60)
    finally:
        os.kill(pid, signal.SIGCONT)
        lock.release()


@pytest.mark.postgres
def test_a_holder_whose_session_is_ended_holds_no_more_and_another_may(postgres_engine: Engine) -> None:
    first, second = (DatabaseLock(postgres_engine, (1, 2), proof_timeout_s=30) for _ in range(2))
    assert first.acquire()
    assert not second.acquire()
    with postgres_engine.connect() as connection:
        assert slices_held(connection) == 2
    with postgres_engine.begin() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )
    # Long before the 30 s are over: the proof itself fails, within a second.
    eventually(lambda: not first.holds(), 60)
    eventually(second.acquire, 60)
    first.release()
    second.release()


@pytest.mark.postgres
def test_the_server_ends_a_session_that_asks_nothing(postgres_engine: Engine) -> None:
    """As of a process that is stopped: its machine still answers for it."""
    connection = own_session(postgres_engine, 0.2)

    def is_ended() -> bool:
        with postgres_engine.connect() as other:
            query = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
            return not other.execute(query, {"pid": pid}).scalar_one()

    pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    eventually(is_ended, 60)
    with pytest.raises(DBAPIError):
        connection.execute(text("SELECT 1"))
    connection.close()
    with postgres_engine.begin() as transaction:
        end_when_idle(transaction)
        assert transaction.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "15s"


@pytest.mark.postgres
def test_no_holder_is_left_behind_by_a_process_that_ends(postgres_engine: Engine) -> None:
    lock = DatabaseLock(postgres_engine, (1,), proof_timeout_s=5)
    assert lock.acquire()
    lock.release()
    assert not lock.holds()
    assert all(thread.name != "relay-lock" for thread in threading.enumerate())
    assert lock.acquire()
    lock.release()


def test_a_holder_that_comes_to_after_another_has_begun_notes_nothing(engine: Engine) -> None:
    """R7: what the new one has published and not marked would lie before the ends that the old one knows."""
    old, new = (Tenure(engine, ["schedule"], "epoch", holder) for holder in ("old", "new"))
    old.begin({"topic": {0: 1}})
    old.advance({"topic": {0: 2}})
    new.begin({"topic": {0: 3}})
    old.advance({"topic": {0: 4}})
    old.sign_off()
    assert new.unclean_ends() == {"topic": {0: 3}}
    new.advance({"topic": {0: 5}})
    assert new.unclean_ends() == {"topic": {0: 5}}


def test_who_splits_the_slices_otherwise_finds_what_its_predecessors_left(engine: Engine) -> None:
    names = [f"outbox-{number}" for number in range(4)]
    for holder, part, offset in (("a", names[:2], 7), ("b", names[2:], 5)):
        Tenure(engine, part, "epoch", holder).begin({"topic": {0: offset, 1: 9}})
    whole = Tenure(engine, names, "epoch", "c")
    assert whole.unclean_ends() == {"topic": {0: 5, 1: 9}}
    assert Tenure(engine, names[:1], "epoch", "d").unclean_ends() == {"topic": {0: 7, 1: 9}}
    assert Tenure(engine, names, "another", "e").unclean_ends() is None
    Tenure(engine, names[2:], "epoch", "b").sign_off()
    assert whole.unclean_ends() == {"topic": {0: 7, 1: 9}}
    # A topic that has grown: what one did not know has to be read from its beginning.
    Tenure(engine, names[2:], "epoch", "f").begin({"topic": {0: 8}})
    assert whole.unclean_ends() == {"topic": {0: 7}}
    whole.begin({"topic": {0: 10, 1: 10}})
    whole.sign_off()
    assert Tenure(engine, names[3:], "epoch", "g").unclean_ends() is None
