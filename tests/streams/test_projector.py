"""The projector on the embedded broker: rows follow the log, outages and bad records included."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Event, Thread

import pytest
from confluent_kafka import KafkaError, Producer
from sqlalchemy import Engine, create_engine
from structlog.testing import capture_logs

from projections import positions
from projections.fold import fold
from projections.migrate import upgrade
from projections.positions import PositionBeyondLog
from projections.records import Dispatched, Fact, Positions, Scheduled
from schemas.codec import encode
from streams.broker.connection import producer_config
from streams.broker.embedded import EmbeddedBroker
from streams.database import create_database_engine
from streams.projector import Projector
from streams.settings import Settings
from tests.projections.stored import stored_rows
from tests.projections.stories import life
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

pytestmark = pytest.mark.embedded

LIST_OFFSETS = 2


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A migrated SQLite database."""
    engine = create_database_engine(f"sqlite:///{tmp_path / 'views.db'}")
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def produce(embedded_settings: Settings, catalogue: Catalogue) -> Callable[[list[Fact]], None]:
    """Puts facts into the topics they belong to."""
    return lambda facts: produce_facts(Producer(producer_config(embedded_settings)), catalogue, facts)


def produce_facts(producer: Producer, catalogue: Catalogue, facts: list[Fact]) -> None:
    """Put facts into the topics they belong to, and wait for the acks."""
    for number, fact in enumerate(facts):
        if isinstance(fact, Scheduled):
            producer.produce(catalogue.scheduled, encode(fact.event), key=fact.record_key)
        elif isinstance(fact, Dispatched):
            headers = [("ce_type", b"webhook.task_ready"), ("schedule_id", fact.schedule_id.encode())]
            moment = fact.dispatched_at // 1000
            producer.produce(catalogue.topic("webhook-db"), b"task", headers=headers, timestamp=moment)
        else:
            producer.produce(catalogue.events, encode(fact), partition=number % 4)
        producer.poll(0)
    assert producer.flush(20) == 0


@contextmanager
def projecting(projector: Projector) -> Iterator[list[BaseException]]:
    """Run a projector in a thread; gives the list its failure would stand in."""
    stop, failures = Event(), list[BaseException]()

    def run() -> None:
        try:
            projector.run(stop)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = Thread(target=run)
    thread.start()
    try:
        yield failures
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def projected(engine: Engine, epoch: str, topic: str) -> int:
    """Records projected of a topic."""
    with engine.connect() as connection:
        return sum(offset for each, offset in positions.read(connection, epoch).items() if each[0] == topic)


def lives(seed: int, count: int = 20, place: int = 0) -> list[Fact]:
    """Facts of some events as Kafka gives them back: instants in whole milliseconds where it keeps no more.

    ``place`` is the offset of the first wait; all of them have one key, so they stand one after the other.
    """
    random, places = Random(seed), itertools.count(place)
    facts: list[Fact] = []
    for fact in (fact for _ in range(count) for fact in life(random)):
        if isinstance(fact, Dispatched):
            facts.append(replace(fact, dispatched_at=fact.dispatched_at // 1000 * 1000))
        else:
            facts.append(replace(fact, offset=next(places)) if isinstance(fact, Scheduled) else fact)
    return facts


def test_tables_follow_the_log(
    engine: Engine, embedded_settings: Settings, catalogue: Catalogue, produce: Callable[[list[Fact]], None]
) -> None:
    facts = lives(1)
    written: list[Positions] = []
    produce(facts)
    with projecting(Projector(embedded_settings, catalogue, engine, "one", written.append)):

        def as_folded() -> bool:
            with engine.connect() as connection:
                return stored_rows(connection) == fold(facts)

        eventually(as_folded)
        more = lives(2, place=sum(isinstance(fact, Scheduled) for fact in facts))
        produce(more)
        facts += more
        eventually(as_folded)
    reached: Positions = {}
    for each in written:
        reached |= each
    with engine.connect() as connection:
        stored = {each: offset for each, offset in positions.read(connection, "one").items() if offset}
    assert reached == stored


def test_what_cannot_be_read_is_passed_over_and_counted(
    engine: Engine, embedded_settings: Settings, catalogue: Catalogue, produce: Callable[[list[Fact]], None]
) -> None:
    producer = Producer(producer_config(embedded_settings))
    event = next(fact for fact in lives(3) if not isinstance(fact, (Scheduled, Dispatched)))
    bad = [b"\x01 no frame", encode(replace(event, kind="melted")), encode(replace(event, event_id="e" * 9000)), None]
    for value in bad:
        producer.produce(catalogue.events, value, partition=0)
    assert producer.flush(20) == 0
    produce([event])
    projector = Projector(embedded_settings, catalogue, engine, "one")
    with projecting(projector) as failures:
        eventually(lambda: projected(engine, "one", catalogue.events) == 5)
    assert failures == []
    assert (projector.counts.skipped, projector.counts.projected) == (4, 1)
    with engine.connect() as connection:
        assert list(stored_rows(connection).events) == [(event.accepted_at, event.event_id)]


def test_without_a_database_it_waits_and_loses_nothing(
    embedded_settings: Settings, catalogue: Catalogue, produce: Callable[[list[Fact]], None], tmp_path: Path
) -> None:
    facts = lives(4)
    produce(facts)
    away = create_engine(f"sqlite:///{tmp_path / 'missing' / 'views.db'}")
    with capture_logs() as logs, projecting(Projector(embedded_settings, catalogue, away, "one")):
        eventually(lambda: [each for each in logs if "database is away" in each["event"]])
        (tmp_path / "missing").mkdir()
        upgrade(away)

        def as_folded() -> bool:
            with away.connect() as connection:
                return stored_rows(connection) == fold(facts)

        eventually(as_folded)
    away.dispose()


@pytest.mark.parametrize("code", [KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_TOPIC_OR_PART])
def test_brokers_that_have_not_heard_of_a_topic_yet_are_asked_again(
    engine: Engine,
    embedded_settings: Settings,
    embedded_broker: EmbeddedBroker,
    catalogue: Catalogue,
    produce: Callable[[list[Fact]], None],
    code: int,
) -> None:
    facts = lives(5, count=2)
    produce(facts)
    with capture_logs() as logs:
        embedded_broker.inject_errors(LIST_OFFSETS, [code] * 4)
        with projecting(Projector(embedded_settings, catalogue, engine, "one")) as failures:

            def as_folded() -> bool:
                with engine.connect() as connection:
                    return failures != [] or stored_rows(connection) == fold(facts)

            eventually(as_folded)
    assert failures == []
    assert [each for each in logs if each["event"] == "the projector waits for the brokers"]


def test_another_log_starts_at_its_beginning_and_is_refused_under_the_same_epoch(
    engine: Engine, embedded_settings: Settings, catalogue: Catalogue, produce: Callable[[list[Fact]], None]
) -> None:
    facts = lives(5)
    produce(facts)
    with projecting(Projector(embedded_settings, catalogue, engine, "one")):
        eventually(lambda: projected(engine, "one", catalogue.events))
    with EmbeddedBroker(catalogue) as other:
        settings = other.settings(embedded_settings)
        with projecting(Projector(settings, catalogue, engine, "one")) as failures:
            eventually(lambda: failures)
        assert isinstance(failures[0], PositionBeyondLog)
        more = lives(6)
        produce_facts(Producer(producer_config(settings)), catalogue, more)
        with projecting(Projector(settings, catalogue, engine, "two")):

            def as_folded() -> bool:
                with engine.connect() as connection:
                    return stored_rows(connection).events == fold(facts + more).events

            eventually(as_folded)
