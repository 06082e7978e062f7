"""Retries by hand, and dismissals: what they write, and what becomes of it in the tables."""

from typing import Any

import pytest
from sqlalchemy import Engine, select

from schemas.codec import decode_as
from schemas.events import TaskEvent, TaskReady, TaskScheduled
from streams.capture.outbox import OUTBOX
from streams.engine.decide import RECONCILE, TRIES_BEFORE
from streams.recovery import forget_finished, recover
from streams.replay.failed import FailedEvents, FailedFilter
from tests.streams.replay.history import CATALOGUE, event, failed, open_waits, outbox, project, publish, said


@pytest.fixture
def events(engine: Engine) -> FailedEvents:
    return FailedEvents(engine, CATALOGUE)


def task_of(record: Any) -> TaskReady:
    assert isinstance(record, TaskScheduled)
    return decode_as(TaskReady, record.task)


def test_a_retry_is_the_same_run_with_the_next_attempt_in_the_run_s_own_tier(
    events: FailedEvents, engine: Engine
) -> None:
    failed(engine, "e1")
    assert events.retry(["e1"], by="me").done == ["e1"]
    _, wait = publish(engine)
    task = task_of(wait)
    assert (task.run, task.step, task.attempt, task.payload) == (1, 0, 5, '{"id":5}')
    assert task.options == {TRIES_BEFORE: "4"}
    assert wait.target_topic == CATALOGUE.topic("webhook-high")  # type: ignore[union-attr]
    row = event(engine, "e1")
    assert (row.status, row.kind, row.finished_at, row.trigger) == ("pending", "retried", None, "model")
    [waits] = open_waits(engine)
    assert (waits.schedule_id, waits.record_key) == ("e1|1|0|5|1", b"7|Order|5")
    project(engine, [said("completed", "e1", attempt=5)])
    assert open_waits(engine) == []
    assert event(engine, "e1").status == "completed"


def test_asked_twice_it_tries_once(events: FailedEvents, engine: Engine) -> None:
    failed(engine, "e1")
    events.retry(["e1"], by="me")
    events.retry(["e1", "e1"], by="another")
    assert len(outbox(engine)) == 2
    publish(engine)
    dealt = events.retry(["e1"], by="me")
    assert dealt.done == []
    assert "retried already" in dealt.refused["e1"]


@pytest.mark.parametrize(("not_done", "looks"), [(False, True), (True, False)])
def test_what_may_have_been_done_is_looked_for_first(
    events: FailedEvents, engine: Engine, not_done: bool, looks: bool
) -> None:
    failed(engine, "e1", "unknown", finished_at=9_000)
    events.retry(["e1"], by="me", not_done=not_done)
    options = task_of(outbox(engine)[1]).options
    assert options.get(RECONCILE) == ("9000|0|4" if looks else None)


def test_a_pipeline_goes_on_at_the_step_that_failed(events: FailedEvents, engine: Engine) -> None:
    project(engine, [said("accepted", "e1"), said("step_completed", "e1", result='{"a":1}')])
    project(engine, [said("failed_permanently", "e1", step=1, attempt=2, error="no")])
    events.retry(["e1"], by="me")
    wait = outbox(engine)[1]
    assert wait.target_topic == CATALOGUE.steps("webhook-high")  # type: ignore[union-attr]
    task = task_of(wait)
    assert (task.step, task.attempt, task.results) == (1, 3, ['{"a":1}'])


def test_what_has_not_failed_is_refused_with_the_reason(events: FailedEvents, engine: Engine) -> None:
    project(engine, [said("accepted", "open"), said("accepted", "done"), said("completed", "done")])
    refused = events.retry(["open", "done", "none"], by="me").refused
    assert "has not ended" in refused["open"]
    assert "webhook replay" in refused["done"]
    assert "no such event" in refused["none"]
    assert outbox(engine) == []


def test_a_number_always_stands_for_the_same_event(events: FailedEvents, engine: Engine) -> None:
    failed(engine, "e1", accepted_at=1_000)
    failed(engine, "e2", accepted_at=2_000)
    assert [(each.number, each.event_id) for each in events.listed(FailedFilter(), 10)] == [(2, "e2"), (1, "e1")]
    events.dismiss(["e1"], by="me", reason="too old")
    publish(engine)
    failed(engine, "e3", accepted_at=500)
    assert [(each.number, each.event_id) for each in events.listed(FailedFilter(), 10)] == [(2, "e2"), (3, "e3")]
    assert events.ids_of(["1", "3", "9", "e2"]) == ["e1", "e3", "9", "e2"]
    row = event(engine, "e1")
    assert (row.status, row.kind, row.error) == ("failed_permanently", "dismissed", "dismissed by me: too old")


def test_filters_choose(events: FailedEvents, engine: Engine) -> None:
    failed(engine, "e1", accepted_at=1_000, error_code="timeout")
    failed(engine, "e2", "rejected", accepted_at=2_000, error="Wrong SKU", tier="webhook-high")
    assert events.chosen(FailedFilter()) == ["e1", "e2"]
    assert events.chosen(FailedFilter(error="timeout")) == ["e1"]
    assert events.chosen(FailedFilter(error="wrong sku")) == ["e2"]
    assert events.chosen(FailedFilter(tier="webhook-failed")) == ["e1"]
    assert events.chosen(FailedFilter(tenant_id="8")) == []


@pytest.mark.parametrize("projected", [False, True])
def test_an_embedded_start_carries_on_a_retry_that_the_log_has_forgotten(
    events: FailedEvents, engine: Engine, projected: bool
) -> None:
    failed(engine, "e1", "unknown")
    events.retry(["e1"], by="me")
    before = outbox(engine)
    if projected:
        publish(engine)
    with engine.begin() as connection:
        if not projected:
            connection.execute(OUTBOX.update().values(published_at=OUTBOX.c.created_at))
        recover(connection, CATALOGUE)
    if projected:
        assert outbox(engine) == []
        with engine.begin() as connection:
            forget_finished(connection)
            assert connection.execute(select(OUTBOX)).all() == []
    else:
        assert outbox(engine) == before
        publish(engine)
    [wait] = open_waits(engine)
    assert decode_as(TaskReady, wait.task).options[RECONCILE]


def test_an_embedded_start_leaves_the_task_to_the_outbox_where_only_the_retry_is_projected(
    events: FailedEvents, engine: Engine
) -> None:
    failed(engine, "e1", "unknown")
    events.retry(["e1"], by="me")
    retried, wait = outbox(engine)
    assert isinstance(retried, TaskEvent)
    project(engine, [retried])
    with engine.begin() as connection:
        connection.execute(OUTBOX.update().values(published_at=OUTBOX.c.created_at))
        recover(connection, CATALOGUE)
    # A task made of the history alone would not look for what may have been done.
    assert (open_waits(engine), outbox(engine)) == ([], [wait])
