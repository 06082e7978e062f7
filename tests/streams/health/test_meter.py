"""The tiers measured on a broker: what lags, since when, and who works."""

from contextlib import suppress
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.identifiers import new_event_id
from streams.broker.connection import consumer_config
from streams.control.log import control_state
from streams.control.view import PAUSE, ControlView
from streams.health.meter import HealthMeter
from streams.health.offsets import OffsetReader, Place, Progress, waiting_since
from streams.health.seat import Seat
from streams.health.states import TierState
from streams.settings import Settings
from tests.streams.control.test_signals import BEAT
from tests.streams.engine.workload import put, task_ready
from tests.support.waiting import eventually
from topics.health import OVERDUE_S

TIER = "webhook-high"
EVENTS = 60


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _load(settings: Settings) -> None:
    put(
        settings,
        settings.catalogue().topic(TIER),
        [(f"key-{each}", task_ready(new_event_id())) for each in range(EVENTS)],
    )


def _finish(settings: Settings, offsets: dict[int, int]) -> None:
    """Commit as the tier's group."""
    consumer = Consumer(consumer_config(settings, TIER))
    topic = settings.catalogue().topic(TIER)
    consumer.commit(offsets=[TopicPartition(topic, *each) for each in offsets.items()], asynchronous=False)
    consumer.close()


def _read(reader: OffsetReader) -> dict[str, dict[Place, Progress]]:
    """Once every group has a coordinator, which a new broker makes first."""
    found: list[dict[str, dict[Place, Progress]]] = []

    def has_read() -> bool:
        with suppress(KafkaException):
            found.append(reader.read())
        return bool(found)

    # As long as a new broker on a busy machine may take to make a coordinator for each of the groups.
    eventually(has_read, 120)
    return found[0]


def _check(settings: Settings) -> None:
    _load(settings)
    reader = OffsetReader(settings)
    topic = settings.catalogue().topic(TIER)
    places = _read(reader)[TIER]
    assert sum(each.lag for each in places.values()) == EVENTS
    ages_s = waiting_since(settings, places)
    assert {place for place, each in places.items() if each.lag} == set(ages_s)
    assert all(0 <= age_s < 600 for age_s in ages_s.values())
    view, clock, beats = ControlView(), _Clock(), [replace(BEAT, running=5)]
    meter = HealthMeter(settings, lambda: beats, view, None, clock)
    first = meter.look().tiers
    assert (first[TIER].load, first[TIER].workers, first[TIER].running, first[TIER].delayed) == (EVENTS, 1, 5, None)
    assert first["webhook-low"] == TierState(status="healthy")
    clock.now += OVERDUE_S
    assert meter.look().tiers[TIER].overdue == EVENTS - 5
    assert meter.look().tiers[TIER].status == "warning"
    beats.clear()
    assert meter.look().tiers[TIER].status == "unhealthy"
    view.apply(control_state(PAUSE, TIER, {"paused": True}, "test"))
    assert meter.look().tiers[TIER].paused
    _finish(settings, {number: each.end for (name, number), each in places.items() if name == topic})
    done = _read(reader)[TIER]
    assert all(each == Progress(each.end, each.end) for (name, _), each in done.items() if name == topic)
    assert meter.look().tiers[TIER].load == 0
    meter.close()
    reader.close()


@pytest.mark.embedded
def test_tiers_are_measured(embedded_settings: Settings) -> None:
    _check(embedded_settings)


@pytest.mark.embedded
def test_a_monitor_alone_has_the_seat_until_it_leaves(embedded_settings: Settings) -> None:
    seat = Seat(embedded_settings)
    eventually(seat.attend)
    seat.leave()
    assert not seat.is_taken
