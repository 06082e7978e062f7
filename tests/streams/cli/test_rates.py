"""Rates, circuits and shares as commands."""

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine

from streams.broker.runtime import embedded_database_url
from streams.control.log import ControlWriter, control_state
from streams.control.store import ControlStore
from streams.errors import SetupError
from streams.settings import Settings
from tests.streams.cli.commands import Commands, commands_of

pytestmark = pytest.mark.embedded


@pytest.fixture
def commands(embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    with commands_of(embedded_settings, monkeypatch) as made:
        yield made


def test_a_rate_is_set_listed_and_cleared(commands: Commands) -> None:
    assert commands.json("rates", "list") == []
    commands.run("rates", "set", "7", "API.example.com", "--limit", "10", "--burst", "5", "--reason", "contract")
    (rate,) = commands.json("rates", "list")
    assert (rate["tenant"], rate["host"], rate["reason"]) == ("7", "api.example.com", "contract")
    assert (rate["limit"], rate["per_s"], rate["burst"]) == (10, 1, 5)
    assert "api.example.com" in commands.run("rates", "list")
    assert commands.json("rates", "clear", "7", "api.example.com")["value"] is None
    assert commands.json("rates", "list") == []


def test_a_weight_is_set_listed_and_cleared(commands: Commands) -> None:
    commands.run("weights", "set", "a|b", "3", "--cap", "40")
    (weight,) = commands.json("weights", "list")
    assert (weight["tenant"], weight["weight"], weight["cap"]) == ("a|b", 3, 40)
    commands.run("weights", "clear", "a|b")
    assert commands.run("weights", "list").startswith("No share is set")


def test_a_circuit_is_closed_by_hand(commands: Commands, embedded_settings: Settings) -> None:
    with pytest.raises(SetupError, match="has ever opened"):
        commands.run("breakers", "reset", "7", "api.example.com")
    writer = ControlWriter(embedded_settings)
    opened = {"state": "open", "open_until": 2_000_000_000_000_000, "failures": 9, "since": 1_700_000_000_000_000}
    writer.write([control_state("breaker", "7|api.example.com", opened, "worker")])
    writer.close()
    (breaker,) = commands.json("breakers", "list", "--open")
    assert (breaker["host"], breaker["state"], breaker["failures"]) == ("api.example.com", "open", 9)
    commands.run("breakers", "reset", "7", "api.example.com")
    assert commands.json("breakers", "list", "--open") == []
    assert [row["state"] for row in commands.json("breakers", "list")] == ["closed"]


def test_beside_the_embedded_broker_it_is_stored_too(commands: Commands, embedded_settings: Settings) -> None:
    commands.run("weights", "set", "7", "2")
    engine = create_engine(embedded_database_url(embedded_settings.data_dir))
    assert [(state.name, state.subject) for state in ControlStore(engine).load()] == [("weight", "7")]
    engine.dispose()
