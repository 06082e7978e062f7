"""``webhook waiting`` and ``webhook why``: with the brokers away, and with workers to be heard."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, create_engine

from schemas.events import from_datetime
from streams.broker.runtime import embedded_database_url
from streams.control.log import ControlWriter, control_state
from streams.control.signals import SignalWriter
from streams.control.view import PAUSE
from streams.errors import SetupError
from streams.settings import Settings
from tests.projections.test_waiting import event, wait
from tests.streams.cli.commands import Commands, commands_of
from tests.streams.control.test_signals import BEAT

TIER = "webhook-high"


def fill(settings: Settings, put: Callable[[Connection], None]) -> None:
    engine = create_engine(embedded_database_url(settings.data_dir))
    with engine.begin() as connection:
        put(connection)
    engine.dispose()


def three(connection: Connection) -> None:
    for event_id in ("a", "b", "c"):
        event(connection, event_id, "accepted", tier=TIER, model="Order", model_id="12" if event_id != "c" else "13")
    wait(connection, "c", kind="delay")
    event(connection, "ended", "completed", tier=TIER)


def reasons(commands: Commands, *options: str) -> dict[str, str]:
    return {each["event_id"]: each["reason"] for each in commands.json("waiting", *options)}


def test_without_brokers_the_tables_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with commands_of(settings, monkeypatch) as commands:
        assert "Nothing waits." in commands.run("waiting")
        fill(settings, three)
        shown = commands.run("waiting", "--limit", "2")
        assert "number 1 of those that wait" in shown
        assert "The brokers do not answer" in shown
        assert "--after b" in shown
        assert reasons(commands, "--after", "b") == {"c": "due_at"}
        assert reasons(commands, "--tier", "high", "--reason", "nth_in_tier") == {
            "a": "nth_in_tier",
            "b": "nth_in_tier",
        }
        assert reasons(commands, "--tenant", "8") == {}
        told = commands.run("why", "c")
        assert "c due_at: its time has not come." in told
        assert "until" in told
        assert json.loads(commands.run("why", "ended", "--json"))["waiting"] is None
        assert "it has ended" in commands.run("why", "ended")
        with pytest.raises(SetupError, match="no event none"):
            commands.run("why", "none")
        with pytest.raises(SetupError, match="no event none"):
            commands.run("waiting", "--after", "none")
        with pytest.raises(SetupError, match="One tier"):
            commands.run("waiting", "--tier", "all")


@pytest.mark.embedded
def test_workers_and_the_control_topic_are_heard(embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with commands_of(embedded_settings, monkeypatch) as commands:
        fill(embedded_settings, three)
        beat = replace(BEAT, oldest=[("a", from_datetime(datetime.now(UTC)), "7|Order|12")])

        def heard() -> None:
            # Anew before each command: a worker is forgotten after ten seconds.
            writer = SignalWriter(embedded_settings)
            writer.send(beat)
            writer.close()

        heard()
        assert reasons(commands) == {"a": "running", "b": "key_busy", "c": "due_at"}
        heard()
        [busy] = commands.json("waiting", "--reason", "key_busy")
        assert (busy["holder"], busy["until"]) == ("a", None)
        heard()
        assert "holder         host:7" in commands.run("why", "a")
        control = ControlWriter(embedded_settings)
        control.write([control_state(PAUSE, TIER, {"paused": True, "until": None}, "me@here", "stock-taking")])
        control.close()
        assert "webhook-high is paused by me@here: stock-taking" in commands.run("waiting", "--reason", "paused")
