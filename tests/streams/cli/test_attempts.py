"""``webhook attempts``: each try of each step, on a SQLite database."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from projections.migrate import upgrade
from projections.writer import write
from streams.cli.attempts import attempts
from streams.database import create_database_engine
from streams.errors import SetupError
from tests.projections.test_fold import ACCEPTED, outcome
from tests.projections.test_writer import EPOCH, records

app = typer.Typer()
app.command("attempts")(attempts)


@pytest.fixture(autouse=True)
def resumed_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose second step failed once and was resumed."""
    url = f"sqlite:///{tmp_path / 'views.db'}"
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", url)
    monkeypatch.setenv("WEBHOOK_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    engine = create_database_engine(url)
    try:
        upgrade(engine)
        first = outcome("step_completed", started_at=1_000, finished_at=3_000, result='{"quote":5}')
        failed = outcome("retry", step=1, started_at=4_000, finished_at=5_000, error="upstream away")
        done = outcome("completed", step=1, attempt=2, started_at=6_000, finished_at=10_000, result='{"order":7}')
        write(engine, records([ACCEPTED, first, failed, done]), EPOCH)
    finally:
        engine.dispose()


def test_each_try_of_each_step_has_its_duration_and_result() -> None:
    answer = CliRunner().invoke(app, ["e1", "--json"])
    told = [
        (each["step"], each["attempt"], each["kind"], each["duration_ms"], each["result"], each["error"])
        for each in json.loads(answer.output)
    ]
    assert told == [
        (0, 1, "step_completed", 2.0, {"quote": 5}, None),
        (1, 1, "retry", 1.0, None, "upstream away"),
        (1, 2, "completed", 4.0, {"order": 7}, None),
    ]


def test_the_screen_shows_the_error_where_there_is_no_result() -> None:
    shown = CliRunner().invoke(app, ["e1"]).output.splitlines()
    assert [line.split()[:4] for line in shown[1:]] == [
        ["1", "0", "1", "step_completed"],
        ["1", "1", "1", "retry"],
        ["1", "1", "2", "completed"],
    ]
    assert shown[2].rstrip().endswith("upstream away")


def test_the_screen_says_what_is_waited_for_and_until_when(tmp_path: Path) -> None:
    until = datetime(2026, 11, 24, 15, tzinfo=UTC)
    result = orjson.dumps({"call_back": "order-7", "until": until.isoformat(), "then": "completed"}).decode()
    waiting = outcome("waiting", event_id="e2", result=result)
    engine = create_database_engine(f"sqlite:///{tmp_path / 'views.db'}")
    write(engine, records([replace(ACCEPTED, event_id="e2"), waiting], 1), EPOCH)
    engine.dispose()
    shown = CliRunner().invoke(app, ["e2"]).output
    assert f"waits for the call-back order-7 until {until.astimezone():%Y-%m-%d %H:%M:%S}" in " ".join(shown.split())


def test_an_unknown_event_is_named() -> None:
    refused = CliRunner().invoke(app, ["e9"])
    assert isinstance(refused.exception, SetupError)
    assert "e9" in refused.exception.message


def test_a_read_replica_is_asked_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_READ_DATABASE_URL", f"sqlite:///{tmp_path / 'views.db'}")
    monkeypatch.setenv("WEBHOOK_DATABASE_URL", f"sqlite:///{tmp_path / 'empty.db'}")
    assert len(json.loads(CliRunner().invoke(app, ["e1", "--json"]).output)) == 3
