"""What waits, as commands: listed, let go, cancelled."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from streams.capture.relay import Relay
from streams.errors import SetupError
from streams.settings import Settings
from tests.integration.scheduled import (
    accept,
    accepted,
    event_record,
    produce,
    projecting,
    task_of,
    wait_for,
    wait_of,
    wait_record,
)
from tests.streams.capture.relay_support import running
from tests.streams.cli.commands import Commands, commands_of
from topics.catalogue import Catalogue

pytestmark = pytest.mark.embedded

HOUR_S = 3600


@pytest.fixture
def commands(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Commands]:
    """Commands beside a projector; delays of an hour, of two, and a lane."""
    now = accept(embedded_settings, catalogue, {"later": 2 * HOUR_S, "soon": HOUR_S})
    rows = []
    for number in (1, 2):
        task = task_of(f"strict-{number}", now)
        wait = wait_of(task, catalogue, now + 9 * HOUR_S * 1_000_000, kind="strict", lane="1|Order|7", tenant_id="2")
        rows += [event_record(catalogue, accepted(task), b"k"), wait_record(catalogue, wait, b"k")]
    produce(embedded_settings, *rows)
    with commands_of(embedded_settings, monkeypatch) as made, projecting(embedded_settings, catalogue, engine):
        wait_for(engine, "later", "soon", "strict-1", "strict-2")
        yield made


def test_what_waits_is_listed_in_the_order_in_which_it_goes(commands: Commands) -> None:
    rows = commands.json("schedule", "list")
    assert [row["event_id"] for row in rows] == ["soon", "later", "strict-1", "strict-2"]
    assert [row["lane_position"] for row in rows] == [None, None, 0, 1]
    assert rows[0]["due_at"].endswith("Z")
    assert [row["event_id"] for row in commands.json("schedule", "list", "--tenant", "2", "--limit", "1")] == [
        "strict-1"
    ]
    lane = commands.json("schedule", "list", "--lane", "1|Order|7", "--tier", "webhook-db")
    assert [row["event_id"] for row in lane] == ["strict-1", "strict-2"]
    assert commands.run("schedule", "list", "--tier", "webhook-low").startswith("Nothing waits")
    assert "BEFORE IT" in commands.run("schedule", "list")
    with pytest.raises(SetupError, match="no tier 'none'"):
        commands.run("schedule", "list", "--tier", "none")


def test_a_dry_run_says_what_it_would_be_about(commands: Commands) -> None:
    assert "soon waits (delay); nothing was changed" in commands.run("schedule", "cancel", "soon", "--dry-run")
    assert "nothing was changed" in commands.run("schedule", "run", "soon", "--dry-run")
    assert commands.json("schedule", "list", "--limit", "1")[0]["event_id"] == "soon"


def test_commands_are_obeyed_and_say_so(
    commands: Commands, embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    with running(Relay(embedded_settings, catalogue, [engine], engine)):
        assert "later is cancelled." in commands.run("schedule", "cancel", "later", "--reason", "twice")
        gone = commands.json("schedule", "run", "soon|1|0|1|1")
        assert gone == {"schedule_id": "soon|1|0|1|1", "event_id": "soon", "answer": "done"}
    assert [row["event_id"] for row in commands.json("schedule", "list")] == ["strict-1", "strict-2"]


def test_what_cannot_be_obeyed_is_told(commands: Commands) -> None:
    with pytest.raises(SetupError, match="nothing with the id nobody"):
        commands.run("schedule", "cancel", "nobody")
    with pytest.raises(SetupError, match="nothing with the id soon"):
        commands.run("schedule", "cancel", "soon", "--tenant", "2")
    with pytest.raises(SetupError, match=r"does not wait for its time but for 1\|Order\|7"):
        commands.run("schedule", "run", "strict-2")
