"""A projector killed five times on real Kafka and PostgreSQL: the tables equal a plain fold of the log, row for row."""

import os
import subprocess
import sys

import pytest
from confluent_kafka import Producer
from sqlalchemy import Engine

from projections.fold import fold
from projections.migrate import upgrade
from streams.broker.connection import producer_config
from streams.database import create_database_engine
from streams.settings import Settings
from tests.projections.stored import stored_rows
from tests.streams.test_projector import lives, produce_facts, projected
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

EPOCH = "one"
KILLS = 5


def _environment(settings: Settings, database_url: str) -> dict[str, str]:
    names = ("topic_prefix", "bootstrap_servers", "partitions")
    queues = {f"WEBHOOK_{name}_QUEUE".upper(): getattr(settings, f"{name}_queue") for name in _QUEUES}
    chosen = {f"WEBHOOK_{name}".upper(): str(getattr(settings, name)) for name in names}
    small = {"WEBHOOK_PROJECTOR_BATCH": "100", "WEBHOOK_SESSION_TIMEOUT_S": "6", "WEBHOOK_DATABASE_URL": database_url}
    return {**os.environ, **queues, **chosen, **small}


_QUEUES = ("high", "beanstalk", "redis", "db", "low", "failed")


def test_history_equals_the_fold_after_five_kills(
    kafka_settings: Settings, kafka: str, catalogue: Catalogue, postgres_database: str
) -> None:
    engine: Engine = create_database_engine(postgres_database)
    upgrade(engine)
    facts = lives(9, count=1200)
    producer = Producer(producer_config(kafka_settings))
    produce_facts(producer, catalogue, facts)
    environment = _environment(kafka_settings, postgres_database)

    def done() -> int:
        return sum(projected(engine, EPOCH, topic) for topic in catalogue.specs)

    reached = []
    for kill in range(1, KILLS + 1):
        process = subprocess.Popen([sys.executable, "-m", "tests.integration.projecting", EPOCH], env=environment)
        try:
            eventually(lambda kill=kill: done() >= len(facts) * kill // (KILLS + 2), timeout_s=60)  # type: ignore[misc]
        finally:
            process.kill()
            process.wait()
        reached.append(done())
    assert max(reached) < len(facts), "every kill must come in the middle of the work"
    process = subprocess.Popen([sys.executable, "-m", "tests.integration.projecting", EPOCH], env=environment)
    try:
        eventually(lambda: done() == len(facts), timeout_s=60)
    finally:
        process.terminate()
        process.wait()
    with engine.connect() as connection:
        assert stored_rows(connection) == fold(facts)
    engine.dispose()
