"""An event can be ended from any state, and stays ended whatever its run still says."""

import pytest
from sqlalchemy import Engine

from projections.records import Scheduled
from schemas.events import TaskEvent
from streams.agents.waiting import waiting_task
from streams.replay.failed import FailedEvents
from streams.replay.resolving import Resolving, UnknownEvent
from tests.streams.engine.workload import task_ready
from tests.streams.replay.history import CATALOGUE, event, failed, open_waits, project, publish, said

STATES: dict[str, list[TaskEvent]] = {
    "in its tier": [],
    "running": [said("started", "e1")],
    "unclear": [said("unclear", "e1", next_topic="t", next_step=0, next_attempt=2, next_due_at=9_000)],
    "failed": [said("failed_permanently", "e1")],
    "completed": [said("completed", "e1")],
}


@pytest.mark.parametrize("state", STATES)
def test_it_ends_from_any_state_and_nothing_later_changes_that(engine: Engine, state: str) -> None:
    project(engine, [said("accepted", "e1"), *STATES[state]])
    Resolving(engine, CATALOGUE).resolve("e1", "failed", by="me", reason="by phone")
    publish(engine)
    for late in (said("completed", "e1"), said("retry", "e1", attempt=2), said("completed", "e1", step=1)):
        project(engine, [late])
        row = event(engine, "e1")
        assert (row.status, row.kind, row.finished_at is not None) == ("failed_permanently", "resolved_failed", True)
    assert row.error == "resolved as failed by me: by phone"


def test_another_resolution_overrides_the_first(engine: Engine) -> None:
    project(engine, [said("accepted", "e1")])
    resolving = Resolving(engine, CATALOGUE)
    assert resolving.resolve("e1", "failed", by="me", reason="lost") == "pending"
    publish(engine)
    assert resolving.resolve("e1", "completed", by="me", reason="found") == "failed_permanently"
    publish(engine)
    assert event(engine, "e1").status == "completed"


def test_what_of_it_waits_is_dropped(engine: Engine) -> None:
    task = task_ready("e1", tenant_id="7")
    task.attempt, task.accepted_at = 2, 1_000
    wait = waiting_task(task, "retry", "webhook-high", CATALOGUE.topic("webhook-high"), 10**15, 2_000)
    retry = said("retry", "e1", next_topic=wait.target_topic, next_step=0, next_attempt=2, next_due_at=10**15)
    project(engine, [said("accepted", "e1"), retry, Scheduled(wait, b"key", 1)])
    assert len(open_waits(engine)) == 1
    Resolving(engine, CATALOGUE).resolve("e1", "completed", by="me", reason="by hand")
    publish(engine)
    assert open_waits(engine) == []


def test_a_resolved_failure_is_not_listed_as_failed(engine: Engine) -> None:
    failed(engine, "e1")
    Resolving(engine, CATALOGUE).resolve("e1", "failed", by="me", reason="known")
    publish(engine)
    assert "webhook replay" in FailedEvents(engine, CATALOGUE).retry(["e1"], by="me").refused["e1"]


def test_of_what_nobody_knows_it_is_said_so(engine: Engine) -> None:
    with pytest.raises(UnknownEvent, match="no event e9"):
        Resolving(engine, CATALOGUE).resolve("e9", "failed", by="me", reason="")
