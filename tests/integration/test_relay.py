import json
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from handlers.tenants.current import tenant_context
from projections.migrate import upgrade
from schemas.codec import decode_as
from schemas.events import ModelChanged
from streams.capture.model import WebhookModel, configure_capture
from streams.capture.outbox import OUTBOX, SLICES
from streams.capture.relay import Relay, RelayOptions
from streams.database import create_database_engine
from streams.settings import Settings
from tests.streams.capture.relay_support import published, running, waiting
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

ROOT = Path(__file__).parents[2]
KEYS = 7


class Base(DeclarativeBase):
    pass


class Counter(WebhookModel, Base):
    __tablename__ = "relay_counters"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=0)


@pytest.fixture
def engine(postgres_database: str, catalogue: Catalogue) -> Iterator[Engine]:
    engine = create_database_engine(postgres_database)
    upgrade(engine)
    Base.metadata.create_all(engine)
    before = configure_capture(catalogue)
    with tenant_context("1"), Session(engine) as session:
        session.add_all([Counter(id=key) for key in range(KEYS)])
        session.commit()
    yield engine
    configure_capture(before)
    engine.dispose()


def count_up(engine: Engine, threads: int, transactions: int) -> None:
    """Raise the counters from several threads at once; every fifth transaction is rolled back."""

    def work(thread: int) -> None:
        with tenant_context("1"), Session(engine) as session:
            for number in range(transactions):
                counter = session.get_one(Counter, (number + thread) % KEYS, with_for_update=True)
                counter.number += 1
                session.flush()
                if number % 5 == 4:
                    session.rollback()
                else:
                    session.commit()

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def numbers(settings: Settings, catalogue: Catalogue) -> dict[int, list[int]]:
    """What each counter's records say, in the order of the topic."""
    found: dict[int, list[int]] = defaultdict(list)
    for _, _, value in published(settings, catalogue, catalogue.changes):
        payload = orjson.loads(decode_as(ModelChanged, value).payload)
        found[payload["id"]].append(payload["number"])
    return dict(found)


def expected(engine: Engine) -> dict[int, list[int]]:
    with Session(engine) as session:
        return {row.id: list(range(row.number + 1)) for row in session.scalars(select(Counter))}


@contextmanager
def relay_process(settings: Settings, engine: Engine) -> Iterator[subprocess.Popen[bytes]]:
    names = {"bootstrap_servers", "topic_prefix", "partitions", "data_dir"}
    names |= {name for name in type(settings).model_fields if name.endswith("_queue")}
    arguments = {
        "settings": {**settings.model_dump(mode="json", include=names), "relay_batch": 50},
        "database_url": engine.url.render_as_string(hide_password=False),
        "proof_timeout_s": 1.0,
    }
    child = subprocess.Popen([sys.executable, "-m", "tests.integration.relay_child", json.dumps(arguments)], cwd=ROOT)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
        assert child.wait(30) is not None


def kill_between_acknowledgement_and_note(engine: Engine, child: subprocess.Popen[bytes]) -> None:
    """Hold a row that the relay wants to delete, wait until it tries to, and kill it."""
    with engine.connect() as connection:
        last = select(OUTBOX.c.id).order_by(OUTBOX.c.id.desc()).limit(1).with_for_update()
        held = connection.execute(last).scalar_one()
        blocked = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM webhook_outbox%'"
        )

        def tries() -> bool:
            with engine.connect() as other:
                return bool(other.execute(blocked).scalar_one())

        eventually(tries, 60)
        child.kill()
        child.wait(10)
        assert connection.execute(select(OUTBOX.c.id).where(OUTBOX.c.id == held)).scalar_one() == held
        connection.rollback()


def test_a_relay_killed_twice_after_publishing_loses_repeats_and_swaps_nothing(
    kafka_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    for _ in range(2):
        count_up(engine, threads=3, transactions=60)
        with relay_process(kafka_settings, engine) as child:
            kill_between_acknowledgement_and_note(engine, child)
        assert waiting(engine) > 0
    count_up(engine, threads=3, transactions=20)
    with relay_process(kafka_settings, engine):
        eventually(lambda: waiting(engine) == 0, 60)
    assert numbers(kafka_settings, catalogue) == expected(engine)


def test_a_relay_that_loses_its_lock_takes_over_from_itself(
    kafka_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    locks = (
        "FROM pg_locks WHERE locktype = 'advisory' "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    def ask(what: str) -> int:
        with engine.begin() as connection:
            answer: int = connection.execute(text(f"SELECT count({what}) {locks}")).scalar_one()
        return answer

    with running(Relay(kafka_settings, catalogue, [engine], engine, RelayOptions(proof_timeout_s=0.5))):
        count_up(engine, threads=2, transactions=30)
        eventually(lambda: ask("*") == SLICES + 1)
        assert ask("pg_terminate_backend(pid)") > 0
        count_up(engine, threads=2, transactions=30)
        eventually(lambda: waiting(engine) == 0, 60)
    assert numbers(kafka_settings, catalogue) == expected(engine)


def test_a_second_relay_waits_until_the_first_has_signed_off(
    kafka_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    with relay_process(kafka_settings, engine) as child:
        eventually(lambda: waiting(engine) == 0, 60)
        with running(Relay(kafka_settings, catalogue, [engine], engine, RelayOptions(proof_timeout_s=100))):
            child.terminate()
            assert child.wait(30) == 0
            count_up(engine, threads=2, transactions=20)
            # Without the sign-off it would wait 200 s.
            eventually(lambda: waiting(engine) == 0, 60)
    assert numbers(kafka_settings, catalogue) == expected(engine)


def test_ids_in_blocks_are_refused_because_they_lose_the_order(
    kafka_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("ALTER SEQUENCE webhook_outbox_id_seq CACHE 20"))
    with pytest.raises(RuntimeError, match="blocks of 20"):
        Relay(kafka_settings, catalogue, [engine], engine).run(threading.Event())


async def test_an_asynchronous_session_and_savepoints_on_postgresql(engine: Engine, catalogue: Catalogue) -> None:
    asynchronous = create_async_engine(engine.url.set(drivername="postgresql+psycopg"))
    before = waiting(engine)
    with tenant_context("1"):
        async with async_sessionmaker(asynchronous)() as session:
            counter = await session.get_one(Counter, 1)
            counter.number += 1
            await session.flush()
            savepoint = await session.begin_nested()
            counter.number += 1
            await session.flush()
            await savepoint.rollback()
            await session.commit()
            await session.refresh(counter)
            counter.number += 1
            await session.flush()
            await session.rollback()
    await asynchronous.dispose()
    assert waiting(engine) == before + 1
    with engine.connect() as connection:
        last = connection.execute(select(OUTBOX.c.payload).order_by(OUTBOX.c.id.desc()).limit(1)).scalar_one()
    change = decode_as(ModelChanged, last)
    assert (change.model_id, change.previous, orjson.loads(change.payload)["number"]) == ("1", '{"number":0}', 1)
