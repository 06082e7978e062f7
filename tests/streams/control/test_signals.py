"""Heartbeats on `.signals`."""

from dataclasses import replace
from threading import Event, Thread

import pytest
from confluent_kafka import Producer

from schemas.codec import encode
from schemas.events import Signal, now_micros
from streams.broker.connection import producer_config
from streams.control.signals import EXPIRY_S, Heartbeat, SignalView, SignalWriter
from streams.settings import Settings
from tests.support.waiting import eventually
from topics.catalogue import Catalogue

BEAT = Heartbeat(
    worker="host:7",
    tier="webhook-high",
    started_at=1,
    running=2,
    window=1000,
    waiting=3,
    paused=False,
    memory_bytes=64,
    version="0.1.0",
    partitions=[0, 3],
    oldest=[("event", 5, "1|Order|7")],
    versions={"dwd": "1.0.0"},
)


def _fail(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name}: {error}")


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _check(settings: Settings) -> None:
    writer, clock = SignalWriter(settings), _Clock()
    writer.send(replace(BEAT, running=1))
    writer.send(BEAT)
    writer.close()
    view = SignalView(settings, _fail, clock)
    view.start()
    assert view.heartbeats() == [BEAT]
    low = replace(BEAT, tier="webhook-low")
    writer.send(low)
    eventually(lambda: view.heartbeats() == [BEAT, low])
    assert view.heartbeats("webhook-low") == [low]
    clock.now += EXPIRY_S - 1
    writer.send(BEAT)
    eventually(lambda: view.heartbeats() and clock.now and view.heartbeats("webhook-high"))
    clock.now += 2
    eventually(lambda: view.heartbeats() == [BEAT])
    clock.now += EXPIRY_S
    assert view.heartbeats() == []
    view.stop()


@pytest.mark.embedded
def test_the_last_heartbeat_of_each_worker_is_known_until_it_is_silent(embedded_settings: Settings) -> None:
    _check(embedded_settings)


@pytest.mark.kafka
def test_the_same_on_kafka(kafka_settings: Settings, catalogue: Catalogue) -> None:
    # A heartbeat is sent once: the topic that was just made has its leader first.
    producer = Producer(producer_config(kafka_settings))
    producer.produce(catalogue.signals, b"no signal", partition=0)
    assert producer.flush(30) == 0
    _check(kafka_settings)


@pytest.mark.embedded
def test_a_worker_that_died_before_is_not_shown_and_rubbish_is_passed_over(embedded_settings: Settings) -> None:
    producer = Producer(producer_config(embedded_settings))
    topic = embedded_settings.catalogue().signals
    old = Signal(kind="heartbeat", sender="x", value="{}", sent_at=now_micros())
    producer.produce(topic, encode(old))
    producer.produce(topic, b"rubbish")
    producer.flush()
    writer = SignalWriter(embedded_settings)
    writer.send(BEAT)
    writer.close()
    view = SignalView(embedded_settings, _fail)
    view.start()
    assert view.heartbeats() == [BEAT]
    view.stop()


@pytest.mark.kafka
def test_a_reader_finds_the_end_while_others_go_on_writing(kafka_settings: Settings, catalogue: Catalogue) -> None:
    """An empty fetch never comes where heartbeats are more frequent than its wait."""
    settings = kafka_settings.model_copy(update={"fetch_wait_ms": 5000})
    writer, done = SignalWriter(settings), Event()

    def write() -> None:
        while not done.wait(0.2):
            writer.send(BEAT)

    writing = Thread(target=write)
    writing.start()
    view = SignalView(settings, _fail)
    try:
        view.start(timeout_s=10)
    finally:
        done.set()
        writing.join()
        view.stop()
        writer.close()
