"""Of events alike one goes at a time; what waits behind it goes next, ends for the latest, or ends for it."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from schemas.codec import decode_as
from schemas.events import TaskEvent, TaskReady
from streams.agents.waiting import waiting_task
from tests.streams.capture.test_coalescing import CATALOGUE, TIER, House, fresh
from tests.streams.engine.workload import task_ready

LANE = "singleton|1|orders|7"


@pytest.fixture
def house(empty: Engine) -> House:
    return fresh(empty)


def come(house: House, mode: str, *numbers: int, lane: str = LANE) -> None:
    for number in numbers:
        task = task_ready(f"e{number}", accepted_at=house.begin - 10)
        waits = waiting_task(task, f"singleton_{mode}", "webhook-high", TIER, house.begin - 1, house.begin - 10)
        house.come(number, replace(waits, lane=lane))


def look(house: House) -> None:
    house.feed._gates_at = 0.0
    house.look()
    house.catch_up()


def end(house: House, number: int) -> None:
    """The end of an event that went."""
    task = task_ready(f"e{number}", accepted_at=house.begin - 10)
    known = {name: getattr(task, name) for name in ("event_id", "run", "step", "attempt", "dispatch_seq", "tenant_id")}
    house.project(TaskEvent(kind="completed", accepted_at=task.accepted_at, recorded_at=house.begin, **known))


def test_what_comes_while_one_is_under_way_is_skipped_for_it(house: House) -> None:
    come(house, "skip", 0, 1)
    look(house)
    come(house, "skip", 2)
    look(house)
    assert (house.calls, house.ends) == (["e0"], {"e1": "e0", "e2": "e0"})
    end(house, 0)
    come(house, "skip", 3)
    look(house)
    assert (house.calls, set(house.ends)) == (["e0", "e3"], {"e1", "e2"})


def test_the_latest_replaces_what_waits_and_goes_when_the_one_before_it_has_ended(house: House) -> None:
    come(house, "replace", 0, 1, 2, 3)
    look(house)
    assert (house.calls, house.ends) == (["e0"], {"e1": "e3", "e2": "e3"})
    look(house)
    assert house.calls == ["e0"]
    end(house, 0)
    look(house)
    assert (house.calls, house.ends) == (["e0", "e3"], {"e1": "e3", "e2": "e3"})


def test_in_a_queue_each_has_its_turn(house: House) -> None:
    come(house, "queue", 0, 1, 2)
    for number in range(3):
        look(house)
        assert house.calls == [f"e{each}" for each in range(number + 1)]
        end(house, number)
    look(house)
    assert house.ends == {}


def test_each_key_has_a_lane_of_its_own(house: House) -> None:
    come(house, "skip", 0, lane=f"{LANE}a")
    come(house, "skip", 1, lane=f"{LANE}b")
    look(house)
    assert (sorted(house.calls), house.ends) == (["e0", "e1"], {})


def test_one_that_ends_for_another_is_not_looked_at_among_those_that_need_not(house: House) -> None:
    """More lanes with a latest that waits than one look takes."""
    for lane in range(12):
        come(house, "replace", 2 * lane, 2 * lane + 1, lane=f"{LANE}{lane:02}")
    look(house)
    look(house)
    come(house, "replace", 99, lane=f"{LANE}11")
    look(house)
    assert house.ends == {"e23": "e99"}


def test_what_is_published_is_the_task_with_its_own_identity(house: House) -> None:
    come(house, "skip", 0, 1)
    house.feed._gates_at = 0.0
    task, ended = house.records()
    assert (decode_as(TaskReady, task.value).event_id, task.topic) == ("e0", TIER)
    event = decode_as(TaskEvent, ended.value)
    assert (event.event_id, event.kind, ended.topic) == ("e1", "superseded", CATALOGUE.events)


def test_the_index_of_those_that_end_is_used(empty: Engine) -> None:
    query = (
        "SELECT event_id FROM webhook_schedule WHERE webhook_schedule.dispatched_at IS NULL"
        " AND webhook_schedule.closed_at IS NULL AND webhook_schedule.held_by IS NOT NULL"
        " AND webhook_schedule.kind IN ('singleton_skip', 'singleton_replace') ORDER BY lane, log_offset LIMIT 10"
    )
    with empty.connect() as connection:
        plan = str(connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).all())
    assert "ix_webhook_schedule_singleton" in plan
