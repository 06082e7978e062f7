"""Pause, resume and restart as commands."""

from collections.abc import Iterator

import pytest

from streams.errors import SetupError
from streams.settings import Settings
from tests.streams.cli.commands import Commands, commands_of


@pytest.fixture
def commands(embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    with commands_of(embedded_settings, monkeypatch) as made:
        yield made


@pytest.mark.embedded
def test_what_is_paused_is_listed_with_who_why_and_until(commands: Commands) -> None:
    assert commands.run("queue", "paused").startswith("Nothing is paused")
    commands.run("pause", "low", "webhook-high", "--reason", "the supplier is down", "--for", "15m")
    paused = commands.json("queue", "paused")
    assert [row["tier"] for row in paused] == ["webhook-high", "webhook-low"]
    assert all("@" in row["by"] and row["reason"] == "the supplier is down" and row["until"] for row in paused)
    commands.run("queue", "resume", "low")
    assert [row["tier"] for row in commands.json("queue", "paused")] == ["webhook-high"]


@pytest.mark.embedded
def test_a_pause_of_all_is_apart_from_those_by_name(commands: Commands) -> None:
    commands.run("pause", "all")
    commands.run("pause", "low")
    assert "by a pause of all" in commands.run("resume", "low")
    commands.run("pause", "low")
    assert "still so: webhook-low" in commands.run("resume", "all")


@pytest.mark.embedded
def test_each_restart_has_a_higher_epoch(commands: Commands) -> None:
    assert commands.json("restart", "high") == [{"tier": "webhook-high", "epoch": 1}]
    assert commands.json("restart", "all") == [{"tier": "all", "epoch": 2}]
    assert commands.json("queue", "restart", "low") == [{"tier": "webhook-low", "epoch": 3}]


@pytest.mark.embedded
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pause", "none"), "no tier"),
        (("pause", "low", "--for", "soon"), "no duration"),
        (("pause", "low", "--for", "0s"), "no duration"),
    ],
)
def test_wrong_use_changes_nothing(commands: Commands, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(SetupError, match=says):
        commands.run(*arguments)
    assert commands.json("queue", "paused") == []


def test_where_nothing_runs_a_pause_waits_for_the_next_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with commands_of(settings, monkeypatch) as commands:
        assert "next `webhook up`" in commands.run("pause", "all")
        with pytest.raises(SetupError, match="No Kafka broker runs"):
            commands.run("restart", "all")
