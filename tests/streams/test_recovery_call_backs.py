"""Embedded starts with events that wait for call-backs."""

from typing import Any

from sqlalchemy import Connection, Engine, insert, update

from projections.tables import WEBHOOK_CALL_BACKS, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.codec import decode_as, encode
from schemas.events import TaskReady
from streams.capture.outbox import OUTBOX, append
from streams.recovery import Recovery, recover
from tests.streams.engine.workload import task_ready
from tests.streams.test_recovery import CATALOGUE, LATER, NOW, event, outbox, publish_all, request_row, waits
from tests.streams.test_recovery import engine as opened
from topics.gates import call_back_gate

engine = opened


def call_back(connection: Connection, call_back_id: str, key: str) -> None:
    connection.execute(
        insert(WEBHOOK_CALL_BACKS).values(
            received_at=NOW,
            call_back_id=call_back_id,
            tenant_id="1",
            gate=call_back_gate("1", key),
            payload='{"paid":true}',
            recorded_at=NOW,
        )
    )


def waiting(event_id: str, key: str, **values: Any) -> dict[str, Any]:
    result = f'{{"call_back":"{key}","until":"2099-01-01T00:00:00+00:00","then":"completed"}}'
    sequel = {"next_topic": CATALOGUE.steps("webhook-redis"), "next_step": 0, "next_attempt": 2, "next_due_at": LATER}
    return event(event_id, "waiting", result=result, **{**sequel, **values})


def test_a_wait_for_a_call_back_goes_on_waiting_and_runs_no_handler_again(engine: Engine) -> None:
    """R22: also where the record of its wait was lost; a call-back that is there already counts."""
    with engine.begin() as connection:
        call_back(connection, "c1", "b")
        connection.execute(insert(WEBHOOK_EVENTS), [waiting("a", "a"), waiting("b", "b")])
        assert recover(connection, CATALOGUE) == Recovery(requests=0, changes=0, tasks=2)
        rows = {row.event_id: row for row in waits(connection)}
    assert {name: (row.gate, row.call_back_id) for name, row in rows.items()} == {
        "a": ("call_back|1|a", None),
        "b": ("call_back|1|b", "c1"),
    }
    task = decode_as(TaskReady, rows["a"].task)
    assert (task.attempt, task.gate, rows["a"].due_at) == (2, "call_back|1|a", LATER)
    assert task.options["wait"].startswith('{"call_back":"a"')


def test_a_call_back_is_published_until_it_is_in_the_views(engine: Engine) -> None:
    with engine.begin() as connection:
        append(connection, [request_row("known"), request_row("lost"), request_row("unnoted")])
        publish_all(connection)
        connection.execute(update(OUTBOX).where(OUTBOX.c.record_id == "unnoted").values(published_at=None))
        call_back(connection, "known", "a")
        call_back(connection, "unnoted", "b")
        assert recover(connection, CATALOGUE) == Recovery(requests=1, changes=0, tasks=0)
        assert outbox(connection) == {"lost": False}


def test_who_was_called_back_and_then_waited_for_a_version_has_still_been_called_back(engine: Engine) -> None:
    """R22: the row behind the version's gate was in the log alone; the call-back is in the tables."""
    gate = call_back_gate("1", "a")
    options = {"wait": '{"call_back":"a","then":"completed"}'}
    task = encode(task_ready("a", attempt=2, dispatch_seq=1, gate=gate, options=options))
    with engine.begin() as connection:
        call_back(connection, "c1", "a")
        deferred = event("a", "deferred", attempt=2, dispatch_seq=2, next_due_at=NOW, next_step=0, next_attempt=2)
        connection.execute(insert(WEBHOOK_EVENTS), [deferred | {"next_topic": CATALOGUE.steps("webhook-redis")}])
        connection.execute(
            insert(WEBHOOK_SCHEDULE).values(
                schedule_id="a|1|0|2|1", version=1, event_id="a", run=1, step=0, attempt=2, dispatch_seq=1, gate=gate,
                task=task, due_at=LATER, dispatched_at=NOW, closed_at=NOW, call_back_id="c1",
            )
        )  # fmt: skip
        assert recover(connection, CATALOGUE).tasks == 1
        [wait] = [each for each in waits(connection) if each.closed_at is None]
    assert (wait.gate, wait.call_back_id) == (gate, "c1")
    found = decode_as(TaskReady, wait.task)
    assert (found.gate, found.dispatch_seq, found.options) == (gate, 2, options)
