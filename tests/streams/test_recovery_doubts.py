"""An embedded start after tasks that may have acted: they are looked for before they are done again (R6, R22)."""

from typing import Any

import pytest
from sqlalchemy import Engine, insert

from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.codec import decode_as, encode
from schemas.events import TaskReady, from_datetime, now_micros
from streams.agents.intents import Pending, pending_of
from streams.engine.decide import RECONCILE
from streams.recovery import recover
from tests.streams.engine.workload import task_ready
from tests.streams.test_recovery import CATALOGUE, LATER, NOW, engine, event, waits

__all__ = ["engine"]


def attempt(row: dict[str, Any], kind: str, **values: Any) -> dict[str, Any]:
    names = ("event_id", "accepted_at", "run", "step", "attempt", "tenant_id")
    return {name: row[name] for name in names} | {"kind": kind, "kind_rank": 3, "recorded_at": NOW} | values


@pytest.mark.parametrize("kind", ["intent", "claimed", "released", "started"])
@pytest.mark.parametrize(
    ("has_row", "dispatched_at", "closed_at"),
    # The relay notes what it has published after the worker has it; a deferral closes what it came from.
    [(False, None, None), (True, NOW, None), (True, None, None), (True, NOW, NOW)],
)
def test_what_had_begun_is_looked_for_before_it_is_done_again(
    kind: str, has_row: bool, dispatched_at: Any, closed_at: Any, engine: Engine
) -> None:
    """R6 and R22: its intent is all that the process has left; whatever was sent was sent before now."""
    before = now_micros()
    with engine.begin() as connection:
        # A deferral behind it says nothing of what was begun.
        row = event("e1", "deferred", attempt=2, dispatch_seq=2)
        connection.execute(insert(WEBHOOK_EVENTS), [row])
        connection.execute(insert(WEBHOOK_ATTEMPTS), [attempt(row, kind)])
        if has_row:
            task = encode(task_ready("e1", attempt=2, options={RECONCILE: "7|3|1", "colour": "red"}))
            connection.execute(
                insert(WEBHOOK_SCHEDULE).values(
                    schedule_id="own", version=1, event_id="e1", run=1, step=0, attempt=2, task=task, due_at=LATER,
                    dispatched_at=dispatched_at, closed_at=closed_at, dispatch_seq=1,
                )
            )  # fmt: skip
        recover(connection, CATALOGUE)
        [wait] = [wait for wait in waits(connection) if wait.closed_at is None and wait.dispatched_at is None]
    found = decode_as(TaskReady, wait.task)
    pending = pending_of(found)
    assert pending is not None
    assert pending.sent_until >= before
    assert pending.attempt == 2
    assert (pending.looks, found.options.get("colour")) == ((3, "red") if has_row else (0, None))


def test_what_was_unclear_stays_so(engine: Engine) -> None:
    with engine.begin() as connection:
        row = event("e1", "unclear", next_topic=CATALOGUE.topic("webhook-redis"), next_step=0, next_attempt=2)
        row["next_due_at"] = LATER
        connection.execute(insert(WEBHOOK_EVENTS), [row])
        connection.execute(insert(WEBHOOK_ATTEMPTS), [attempt(row, "unclear")])
        recover(connection, CATALOGUE)
        [wait] = waits(connection)
    assert (wait.due_at, wait.attempt) == (LATER, 2)
    assert pending_of(decode_as(TaskReady, wait.task)) == Pending(from_datetime(NOW), 0, 1)
