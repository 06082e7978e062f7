import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, select, update

from projections.migrate import upgrade
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_CHANGES, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.codec import decode_as, encode
from schemas.events import TaskReady, WebhookRequested, from_datetime, now_micros
from schemas.kinds import KINDS
from streams.capture.outbox import OUTBOX, OutboxRow, append
from streams.database import create_database_engine
from streams.engine.decide import TRIES_BEFORE
from streams.recovery import Recovery, forget_finished, recover
from tests.streams.capture.relay_support import change_row
from tests.streams.engine.workload import task_ready
from topics.catalogue import build_catalogue

CATALOGUE = build_catalogue()
NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
LATER = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine)
    yield engine
    engine.dispose()


def event(event_id: str, kind: str, **values: Any) -> dict[str, Any]:
    known = KINDS[kind]
    row = {
        "accepted_at": NOW,
        "event_id": event_id,
        "tenant_id": "1",
        "tier": "webhook-redis",
        "endpoint": "webhook/order",
        "event_type": "order_created",
        "model": "Order",
        "model_id": "7",
        "trigger": "model",
        "priority": 6,
        "status": known.status,
        "kind": kind,
        "kind_rank": known.rank,
        "run": 1,
        "step": 0,
        "attempt": 1,
        "dispatch_seq": 1,
        "payload": '{"id":7}',
        "updated_at": NOW,
    }
    return {**row, **values}


def request_row(event_id: str) -> OutboxRow:
    request = WebhookRequested(
        event_id=event_id,
        tenant_id="1",
        endpoint="webhook/order",
        event_type="manual_trigger",
        trigger="http",
        requested_at=now_micros(),
        payload="{}",
        options={"colour": "red"},
    )
    payload = encode(request)
    return OutboxRow(CATALOGUE.requests, event_id.encode(), payload, "WebhookRequested", None, "1", event_id)


def matched(connection: Connection, change_id: str) -> None:
    connection.execute(
        insert(WEBHOOK_CHANGES).values(occurred_at=NOW, change_id=change_id, tenant_id="1", events="[]", matched_at=NOW)
    )


def publish_all(connection: Connection) -> None:
    connection.execute(update(OUTBOX).values(published_at=NOW))


def outbox(connection: Connection) -> dict[str, bool]:
    """What is left in the outbox, and whether it is published."""
    rows = connection.execute(select(OUTBOX.c.record_id, OUTBOX.c.published_at).order_by(OUTBOX.c.id))
    return {row.record_id: row.published_at is not None for row in rows}


def waits(connection: Connection) -> list[Any]:
    return list(connection.execute(select(WEBHOOK_SCHEDULE).order_by(WEBHOOK_SCHEDULE.c.due_at)).all())


def test_only_what_has_no_trace_in_the_views_is_published_again(engine: Engine) -> None:
    with engine.begin() as connection:
        append(
            connection, [change_row(CATALOGUE, "1", 1), change_row(CATALOGUE, "2", 1), change_row(CATALOGUE, "3", 1)]
        )
        append(connection, [request_row("done"), request_row("running"), request_row("lost")])
        publish_all(connection)
        # Matched, but killed before the relay could note that it had published it.
        connection.execute(update(OUTBOX).where(OUTBOX.c.record_id == "3-1").values(published_at=None))
        matched(connection, "1-1")
        matched(connection, "3-1")
        connection.execute(insert(WEBHOOK_EVENTS), [event("done", "completed"), event("running", "started")])
        assert recover(connection, CATALOGUE) == Recovery(requests=1, changes=1, tasks=1)
        assert outbox(connection) == {"2-1": False, "running": True, "lost": False}


def test_an_accepted_event_gets_its_first_task_with_the_same_identity_and_options(engine: Engine) -> None:
    with engine.begin() as connection:
        append(connection, [request_row("e1")])
        publish_all(connection)
        connection.execute(insert(WEBHOOK_EVENTS), [event("e1", "accepted")])
        recover(connection, CATALOGUE)
        [wait] = waits(connection)
    assert (wait.target_topic, wait.tier, wait.due_at) == (CATALOGUE.topic("webhook-redis"), "webhook-redis", NOW)
    assert wait.record_key == b"1|Order|7"
    task = decode_as(TaskReady, wait.task)
    assert (task.event_id, task.run, task.step, task.attempt, task.dispatch_seq) == ("e1", 1, 0, 1, 1)
    assert (task.payload, task.priority, task.trigger) == ('{"id":7}', 6, "model")
    assert (task.accepted_at, task.options) == (from_datetime(NOW), {"colour": "red"})


def test_a_pipeline_goes_on_at_its_next_step_with_its_results(engine: Engine) -> None:
    steps = CATALOGUE.steps("webhook-redis")
    with engine.begin() as connection:
        done = event("e1", "step_completed", step=1, attempt=2, results='[{"a":1},{"b":2}]', runs_on="dwd 2.0#0123")
        done |= {"next_topic": steps, "next_step": 2, "next_attempt": 1}
        for row in (done, event("e2", "started", step=1, results='[{"a":1}]')):
            connection.execute(insert(WEBHOOK_EVENTS), [row])
        recover(connection, CATALOGUE)
        tasks = {wait.event_id: (wait, decode_as(TaskReady, wait.task)) for wait in waits(connection)}
    wait, task = tasks["e1"]
    assert (wait.target_topic, task.step, task.attempt) == (steps, 2, 1)
    assert (task.results, task.plugin_version, task.pipeline_hash) == (['{"a":1}', '{"b":2}'], "dwd 2.0", "0123")
    wait, task = tasks["e2"]
    assert (wait.target_topic, task.step, task.attempt, task.results) == (steps, 1, 1, ['{"a":1}'])


def test_retries_and_delays_keep_their_time(engine: Engine) -> None:
    failed = CATALOGUE.topic("webhook-failed")
    with engine.begin() as connection:
        retry = event("retry", "failed", attempt=3, next_topic=failed, next_step=0, next_attempt=4, next_due_at=LATER)
        connection.execute(insert(WEBHOOK_EVENTS), [retry])
        connection.execute(insert(WEBHOOK_EVENTS), [event("delayed", "accepted", delay_s=60)])
        attempt = {name: retry[name] for name in ("event_id", "accepted_at", "run", "step", "attempt", "kind")}
        attempt |= {"tenant_id": "1", "kind_rank": 8, "recorded_at": NOW}
        connection.execute(insert(WEBHOOK_ATTEMPTS), [attempt])
        recover(connection, CATALOGUE)
        delayed, again = waits(connection)
    assert (delayed.event_id, delayed.due_at) == ("delayed", NOW + datetime.timedelta(seconds=60))
    assert (again.tier, again.target_topic, again.due_at, again.attempt) == ("webhook-failed", failed, LATER, 4)
    # The failed tier has its own five tries after the three.
    assert decode_as(TaskReady, again.task).options == {TRIES_BEFORE: "3"}


@pytest.mark.parametrize(
    ("dispatched", "closed", "waiting"), [(None, None, True), (NOW, None, True), (NOW, NOW, False)]
)
def test_a_row_in_the_schedule_is_kept_and_undispatched(
    dispatched: datetime.datetime | None, closed: datetime.datetime | None, waiting: bool, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(insert(WEBHOOK_EVENTS), [event("e1", "started", attempt=2)])
        connection.execute(
            insert(WEBHOOK_SCHEDULE).values(
                schedule_id="own", version=1, event_id="e1", run=1, step=0, attempt=2, task=b"t", due_at=LATER,
                dispatched_at=dispatched, closed_at=closed, dispatch_seq=1,
            )
        )  # fmt: skip
        recover(connection, CATALOGUE)
        [wait] = waits(connection)
    assert (wait.schedule_id, wait.due_at) == ("own", LATER)
    assert (wait.dispatched_at is None and wait.closed_at is None) is waiting


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if kind.final])
def test_what_has_a_final_outcome_is_left_alone(kind: str, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(insert(WEBHOOK_EVENTS), [event("e1", kind)])
        assert recover(connection, CATALOGUE) == Recovery(0, 0, 0)
        assert waits(connection) == []


def test_events_of_a_change_without_its_matches_are_left_to_intake(engine: Engine) -> None:
    with engine.begin() as connection:
        append(connection, [change_row(CATALOGUE, "1", 1), change_row(CATALOGUE, "2", 1)])
        publish_all(connection)
        matched(connection, "2-1")
        rows = [event("e1", "accepted", caused_by="1-1"), event("e2", "accepted", caused_by="2-1")]
        connection.execute(insert(WEBHOOK_EVENTS), rows)
        assert recover(connection, CATALOGUE) == Recovery(requests=0, changes=1, tasks=1)
        assert [wait.event_id for wait in waits(connection)] == ["e2"]


def test_many_events_are_recovered_in_chunks_and_once(engine: Engine) -> None:
    rows = [event(f"e{number:04}", "accepted", model_id=str(number)) for number in range(1203)]
    for number, row in enumerate(rows):
        row["accepted_at"] = NOW + datetime.timedelta(microseconds=number // 7)
    with engine.begin() as connection:
        connection.execute(insert(WEBHOOK_EVENTS), rows)
        assert recover(connection, CATALOGUE).tasks == 1203
        assert len(waits(connection)) == 1203
        assert recover(connection, CATALOGUE).tasks == 0
        assert len(waits(connection)) == 1203


def test_a_running_installation_forgets_what_it_needs_no_more(engine: Engine) -> None:
    with engine.begin() as connection:
        append(connection, [change_row(CATALOGUE, "1", 1), request_row("done"), request_row("running")])
        connection.execute(insert(WEBHOOK_EVENTS), [event("done", "rejected"), event("running", "accepted")])
        matched(connection, "1-1")
        assert forget_finished(connection) == 0
        publish_all(connection)
        assert forget_finished(connection) == 2
        assert outbox(connection) == {"running": True}


def test_lanes_keep_their_order_before_all_that_the_new_log_brings(engine: Engine) -> None:
    rule = {"routing_rule": "default:strict_halt"}
    soon = NOW + datetime.timedelta(seconds=1)
    lane = {"lane": "1|Order|7", "kind": "strict_halt", "run": 1, "step": 0, "attempt": 1, "version": 1, "task": b"t"}
    with engine.begin() as connection:
        connection.execute(
            insert(WEBHOOK_EVENTS),
            [
                event("a", "started", **rule),
                event("b", "accepted", **rule),
                event("d", "accepted", **rule, accepted_at=soon),
                event("c", "accepted", **rule),
            ],
        )
        for name, place, dispatched in (("a", 700, NOW), ("b", 900, None)):
            held_by = None if name == "a" else lane["lane"]
            row = {**lane, "schedule_id": name, "event_id": name, "log_offset": place, "dispatched_at": dispatched}
            connection.execute(insert(WEBHOOK_SCHEDULE).values(**row, held_by=held_by))
        recover(connection, CATALOGUE)
        recover(connection, CATALOGUE)
        found = connection.execute(select(WEBHOOK_SCHEDULE).order_by(WEBHOOK_SCHEDULE.c.log_offset)).all()
    assert [each.event_id for each in found] == ["a", "b", "c", "d"]
    assert {each.event_id: each.held_by for each in found if each.held_by is None} == {"a": None}
    assert all(each.log_offset < 0 and each.dispatched_at is None for each in found)
    assert {each.kind for each in found} == {"strict_halt"}
    assert decode_as(TaskReady, found[3].task).options == {"lane": "1|Order|7"}


def test_who_was_too_late_to_cancel_is_not_cancelled_after_all(engine: Engine) -> None:
    row = {"schedule_id": "own", "version": 2, "event_id": "e1", "run": 1, "step": 0, "attempt": 1, "task": b"t"}
    with engine.begin() as connection:
        connection.execute(insert(WEBHOOK_EVENTS), [event("e1", "started")])
        connection.execute(insert(WEBHOOK_SCHEDULE).values(**row, kind="cancelled", due_at=NOW, dispatched_at=NOW))
        recover(connection, CATALOGUE)
        [wait] = waits(connection)
    assert (wait.kind, wait.dispatched_at) == ("recovered", None)


def test_what_was_moved_or_deferred_after_it_came_out_of_the_schedule_is_not_forgotten(engine: Engine) -> None:
    """R22: its row is closed, and what was to take its place was in the log alone."""
    target = CATALOGUE.topic("webhook-db")
    with engine.begin() as connection:
        moved = event("e1", "moved", attempt=2, dispatch_seq=3, tier="webhook-db")
        moved |= {"next_topic": target, "next_step": 0, "next_attempt": 2}
        connection.execute(insert(WEBHOOK_EVENTS), [moved])
        task = encode(task_ready("e1", attempt=2, dispatch_seq=2, gate="tenant|1", options={"colour": "red"}))
        connection.execute(
            insert(WEBHOOK_SCHEDULE).values(
                schedule_id="e1|1|0|2|2", version=1, event_id="e1", run=1, step=0, attempt=2, dispatch_seq=2,
                gate="tenant|1", task=task, due_at=NOW, dispatched_at=NOW, closed_at=NOW,
            )
        )  # fmt: skip
        assert recover(connection, CATALOGUE).tasks == 1
        assert recover(connection, CATALOGUE).tasks == 0
        [wait] = [each for each in waits(connection) if each.closed_at is None]
    assert (wait.schedule_id, wait.target_topic, wait.tier) == ("e1|1|0|2|3", target, "webhook-db")
    found = decode_as(TaskReady, wait.task)
    assert (found.attempt, found.dispatch_seq, found.gate) == (2, 3, None)
    assert found.options == {"colour": "red"}


def test_a_cancellation_whose_end_was_in_the_log_alone_is_recorded_again(engine: Engine) -> None:
    row = {"schedule_id": "own", "version": 2, "event_id": "e1", "run": 1, "step": 0, "attempt": 1, "task": b"t"}
    with engine.begin() as connection:
        connection.execute(insert(WEBHOOK_EVENTS), [event("e1", "accepted")])
        ended = {"kind": "cancelled", "due_at": NOW, "closed_at": NOW, "dispatch_seq": 1}
        connection.execute(insert(WEBHOOK_SCHEDULE).values(**row, **ended))
        assert recover(connection, CATALOGUE).tasks == 1
        [wait] = waits(connection)
    assert (wait.kind, wait.dispatched_at, wait.closed_at) == ("cancelled", None, None)
