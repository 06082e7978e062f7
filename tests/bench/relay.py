"""The relay against a bare loop on the same outbox: select the next rows, produce them, flush, delete them, commit.

Both publish the same rows, in batches of the same size, with the same idempotent producer, in turn. The loop knows no
lock, no headers, no tenants, no successor and no failure. A rate counts from the first record in the log to the moment
when the outbox is empty.
"""

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from sqlalchemy import Engine, select, text

from projections.migrate import upgrade
from streams.broker.connection import admin_config, producer_config
from streams.broker.provision import apply
from streams.capture.outbox import OUTBOX
from streams.capture.relay import Relay
from streams.capture.takeover import log_ends
from streams.database import create_database_engine
from streams.settings import Settings
from tests.bench.engine import bench_settings
from tests.support.load import append_load
from tests.support.waiting import eventually

ROWS: Final = 40_000
KEYS: Final = 2_000
ROUNDS: Final = 3
_WAIT_S: Final = 120.0

_SELECT: Final = "SELECT record_id, topic, record_key, payload FROM webhook_outbox ORDER BY id LIMIT %s"
_DELETE: Final = "DELETE FROM webhook_outbox WHERE record_id = ANY(%s)"


def measure(bootstrap_servers: str, database_url: str) -> dict[str, dict[str, float]]:
    """Rows a second of both, each the median of its rounds."""
    settings = bench_settings(bootstrap_servers)
    catalogue = settings.catalogue()
    admin = AdminClient(admin_config(settings))
    engine = create_database_engine(database_url)
    published, looped = [], []
    try:
        upgrade(engine)
        apply(admin, catalogue)
        for _ in range(ROUNDS):
            published.append(_rate(settings, engine, lambda: _relay(settings, engine)))
            looped.append(_rate(settings, engine, lambda: _loop(settings, engine)))
    finally:
        for future in admin.delete_topics(list(catalogue.specs)).values():
            future.result(60)
        engine.dispose()
    relay, loop = statistics.median(published), statistics.median(looped)
    return {"relay": {"ratio": relay / loop, "rows_per_s": relay, "loop_rows_per_s": loop}}


def _rate(settings: Settings, engine: Engine, publish: Callable[[], float]) -> float:
    """Rows a second of ``publish``, which gives the time at which the outbox was empty."""
    catalogue = settings.catalogue()
    admin = AdminClient(admin_config(settings))

    def records() -> int:
        return sum(log_ends(admin, catalogue, [catalogue.requests])[catalogue.requests].values())

    def begun() -> tuple[float, int] | None:
        count = records() - before
        return (time.perf_counter(), count) if count else None

    with engine.begin() as connection:
        connection.execute(text("TRUNCATE webhook_outbox"))
    append_load(engine, catalogue, "1", ROWS, KEYS)
    before = records()
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish)
        begin, first = eventually(begun, _WAIT_S, "the first records are in the log") or (0.0, 0)
        end = publishing.result(_WAIT_S)
    if records() - before != ROWS:
        raise RuntimeError(f"{ROWS} rows became {records() - before} records")
    return (ROWS - first) / (end - begin)


def _relay(settings: Settings, engine: Engine) -> float:
    stop = threading.Event()
    relay = Relay(settings, settings.catalogue(), [engine], engine)
    thread = threading.Thread(target=relay.run, args=(stop,), name="bench-relay")
    thread.start()
    try:
        eventually(lambda: _is_empty(engine), _WAIT_S, "the outbox is empty")
        return time.perf_counter()
    finally:
        stop.set()
        thread.join()


def _is_empty(engine: Engine) -> bool:
    with engine.connect() as connection:
        return connection.execute(select(OUTBOX.c.id).order_by(OUTBOX.c.id.desc()).limit(1)).first() is None


def _loop(settings: Settings, engine: Engine) -> float:
    producer = Producer({**producer_config(settings), "linger.ms": 1})
    with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        while True:
            cursor.execute(_SELECT, (settings.relay_batch,))
            rows = cursor.fetchall()
            if not rows:
                return time.perf_counter()
            for _, topic, key, payload in rows:
                producer.produce(topic, bytes(payload), bytes(key))
            if producer.flush(_WAIT_S):
                raise RuntimeError("the broker did not acknowledge the benchmark's records")
            cursor.execute(_DELETE, ([row[0] for row in rows],))
            connection.commit()
