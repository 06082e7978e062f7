"""``webhook queue failed``, ``retry``, ``forget``, ``flush`` and ``webhook resolve``, on SQLite without a broker."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from streams.cli.main import app
from streams.database import create_database_engine
from streams.errors import SetupError
from tests.streams.replay.history import event, failed, outbox, project, publish, said


@pytest.fixture
def history(place: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{place / 'system.db'}")
    yield engine
    engine.dispose()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def listed(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("queue", "failed", *arguments, "--json").stdout)
    return found


def test_what_failed_is_listed_retried_by_number_and_dismissed(history: Engine) -> None:
    assert run("queue", "failed").stdout == "No failed events.\n"
    failed(history, "e1", accepted_at=1_000, error="no \x1b[31manswer\nat all")
    failed(history, "e2", accepted_at=2_000)
    shown = run("queue:failed").stdout
    assert "no \\x1b[31manswer" in shown
    assert "at all" not in shown
    assert [(each["number"], each["event_id"], each["kind"]) for each in listed()] == [
        (2, "e2", "failed_permanently"),
        (1, "e1", "failed_permanently"),
    ]
    assert run("queue", "retry", "all", "--dry-run").stdout == "e1 would try again.\ne2 would try again.\n"
    assert outbox(history) == []
    assert run("webhook:queue", "retry", "1").stdout == "e1 tries again.\n"
    publish(history)
    assert [each["event_id"] for each in listed()] == ["e2"]
    assert json.loads(run("queue:flush", "--reason", "old", "--json").stdout) == {"done": ["e2"], "refused": {}}
    publish(history)
    assert listed() == []


def test_what_cannot_be_retried_is_said_and_exits_with_1(history: Engine) -> None:
    failed(history, "e1")
    tried = run("queue", "retry", "e1", "77")
    assert tried.exit_code == 1
    assert tried.stdout == "e1 tries again.\n"
    assert tried.stderr == "77: there is no such event.\n"
    assert run("queue", "forget", "none").exit_code == 1


def test_filters_are_for_all(place: Path) -> None:
    refused = run("queue", "retry", "e1", "--tenant", "7").exception
    assert isinstance(refused, SetupError)
    assert refused.exit_code == 2


def test_an_event_is_resolved(history: Engine) -> None:
    failed(history, "e1")
    command = ("resolve", "e1", "--as", "completed", "--reason", "ordered by hand")
    assert "Nothing was changed" in run(*command, "--dry-run").stdout
    assert outbox(history) == []
    assert "was failed_permanently and ends as completed" in run(*command).stdout
    publish(history)
    assert event(history, "e1").status == "completed"
    unknown = run("resolve", "none", "--as", "failed", "--reason", "x").exception
    assert isinstance(unknown, SetupError)
    assert unknown.exit_code == 1


def test_the_queues_are_monitored(history: Engine) -> None:
    project(history, [said("accepted", f"e{number}", number) for number in range(3)])
    project(history, [said("retry", "e0", 0, next_topic="t", next_step=0, next_attempt=2, next_due_at=10**15)])
    project(history, [said("started", "e1", 1)])
    [high] = json.loads(run("queue", "monitor", "high", "--max", "3", "--json").stdout)
    assert high == {
        "tier": "webhook-high",
        "queue": "plugin-webhooks-high",
        "size": 3,
        "pending": 1,
        "delayed": 1,
        "reserved": 1,
        "oldest_pending": "1970-01-01T00:00:00.000002Z",
        "status": "ALERT",
    }
    everything = json.loads(run("queue:monitor", "--json").stdout)
    assert [each["status"] for each in everything] == ["OK"] * 6
