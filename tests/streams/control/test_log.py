"""`.control` written and read on a broker."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer
from sqlalchemy import create_engine

from projections.migrate import upgrade
from streams.broker.connection import producer_config
from streams.control.follower import TopicFollower
from streams.control.log import ControlWriter, control_state, follow_control
from streams.control.store import ControlStore
from streams.control.view import ControlView, Rate
from streams.errors import SetupError
from streams.settings import Settings
from tests.support.waiting import eventually
from topics.catalogue import Catalogue


def _fail(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name}: {error}")


@contextmanager
def _following(settings: Settings) -> Iterator[ControlView]:
    view = ControlView()
    follower = follow_control(settings, view, _fail)
    follower.start()
    try:
        yield view
    finally:
        follower.stop()


def _check(settings: Settings) -> None:
    writer = ControlWriter(settings)
    asyncio.run(writer.put("pause", "webhook-high", {"paused": True}, by="ann", reason="maintenance"))
    asyncio.run(writer.put("pause", "webhook-low", {"paused": True}, by="ann"))
    asyncio.run(writer.put("pause", "webhook-low", {"paused": False}, by="bob"))
    with _following(settings) as view:
        # No waiting: what was decided before is known when the start returns.
        pause = view.pause_of("webhook-high")
        assert pause is not None
        assert (pause.updated_by, pause.reason) == ("ann", "maintenance")
        assert not view.paused("webhook-low")
        writer.write([control_state("rate", "1|api.example", {"limit": 4}, "ann")])
        eventually(lambda: view.rate("1", "api.example") == Rate(4))
    writer.close()


@pytest.mark.embedded
def test_what_was_written_is_known_at_the_start_and_what_comes_later_soon(embedded_settings: Settings) -> None:
    with _following(embedded_settings) as view:
        assert view.states() == []
    _check(embedded_settings)


@pytest.mark.kafka
def test_the_same_on_kafka(kafka_settings: Settings, catalogue: Catalogue) -> None:
    _check(kafka_settings)


@pytest.mark.embedded
def test_a_record_that_cannot_be_read_is_passed_over(embedded_settings: Settings) -> None:
    producer = Producer(producer_config(embedded_settings))
    topic = embedded_settings.catalogue().control
    producer.produce(topic, b"not avro", b"pause|all", 0)
    producer.produce(topic, None, b"pause|all", 0)
    producer.flush()
    writer = ControlWriter(embedded_settings)
    writer.write([control_state("restart", "all", 3, "ann")])
    with _following(embedded_settings) as view:
        assert view.restart_epoch("webhook-high") == 3


@pytest.mark.embedded
def test_a_start_that_does_not_reach_the_end_says_so(embedded_settings: Settings, embedded_broker: Any) -> None:
    embedded_broker.set_down()
    follower = TopicFollower(embedded_settings, embedded_settings.catalogue().control, lambda _: None, _fail)
    with pytest.raises(SetupError, match="could not be read to its end"):
        follower.start(timeout_s=0.3)


@pytest.mark.embedded
def test_beside_the_embedded_broker_states_are_stored_even_where_it_does_not_take_them(
    embedded_settings: Settings,
) -> None:
    engine = create_engine("sqlite://")
    upgrade(engine, ("system",))
    store = ControlStore(engine)
    state = control_state("pause", "all", {"paused": True}, "ann")
    refused = control_state("pause", "x" * 2_000_000, {"paused": True}, "ann")
    writer = ControlWriter(embedded_settings, store)
    writer.write([state])
    assert store.load() == [state]
    with pytest.raises(KafkaException):
        writer.write([refused])
    assert len(store.load()) == 2
