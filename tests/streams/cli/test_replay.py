"""``webhook replay`` on SQLite without a broker: count, confirm, run, list."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from typer.testing import CliRunner, Result

from streams.cli.main import app
from streams.database import create_database_engine
from streams.errors import SetupError
from tests.streams.replay.history import failed, outbox

CHOICE = ("replay", "--status", "failed_permanently", "--tenant", "7")


@pytest.fixture(autouse=True)
def history(place: Path) -> Iterator[Engine]:
    engine = create_database_engine(f"sqlite:///{place / 'system.db'}")
    failed(engine, "e1", accepted_at=1_000)
    failed(engine, "e2", accepted_at=2_000)
    yield engine
    engine.dispose()


def run(*arguments: str, says: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=says)


def test_it_counts_first_and_acts_only_when_told_to(history: Engine) -> None:
    counted = json.loads(run(*CHOICE, "--dry-run", "--json").stdout)
    assert counted["selected"] == 2
    assert counted["groups"] == [
        {"tier": "webhook-failed", "handler": "OrderWebhookHandler", "status": "failed_permanently", "events": 2}
    ]
    refused = run(*CHOICE).exception
    assert isinstance(refused, SetupError)
    assert "--with-side-effects" in refused.hint
    assert run(*CHOICE, "--with-side-effects", says="n\n").exit_code == 1
    assert outbox(history) == []
    assert "2 of 2 events replayed" in run(*CHOICE, "--with-side-effects", says="y\n").stdout
    assert len(outbox(history)) == 4


def test_replays_are_listed_with_what_became_of_them() -> None:
    assert run("replay", "list").stdout == "Nothing was replayed yet.\n"
    made = json.loads(run(*CHOICE, "--with-side-effects", "--yes", "--reason", "prices", "--json").stdout)
    [listed] = json.loads(run("replay", "list", "--json").stdout)
    assert listed == made
    assert (listed["state"], listed["replayed"], listed["reason"]) == ("done", 2, "prices")
    assert "is done: 2 of 2" in run("replay", "show", made["id"]).stdout
    ended = run("replay", "resume", made["id"]).exception
    assert isinstance(ended, SetupError)
    assert "ended already" in ended.message


def test_what_is_not_there_any_more_is_said() -> None:
    said = run("replay", "--since", "1960-01-01", "--id", "e1", "--id", "gone", "--dry-run")
    assert "the history begins at 1970-01-01" in said.stderr
    assert "1 of the 2 ids" in said.stderr


def test_everything_at_once_has_to_be_asked_for() -> None:
    refused = run("replay", "--with-side-effects").exception
    assert isinstance(refused, SetupError)
    assert refused.exit_code == 2
