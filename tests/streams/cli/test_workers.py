"""The list of workers."""

from dataclasses import replace

import pytest

from streams.control.signals import SignalWriter
from streams.settings import Settings
from tests.streams.cli.commands import commands_of
from tests.streams.control.test_signals import BEAT


@pytest.mark.embedded
def test_workers_are_listed_and_the_idle_are_named(
    embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with commands_of(embedded_settings, monkeypatch) as commands:
        assert commands.run("workers").startswith("No worker runs")
        writer = SignalWriter(embedded_settings)
        writer.send(BEAT)
        writer.send(replace(BEAT, worker="host:8", partitions=[], oldest=[]))
        writer.close()
        shown = commands.run("workers")
        assert "host:7" in shown
        assert "1 of 2 have no partition: host:8 (webhook-high)" in shown
        first = commands.json("workers")[0]
        assert (first["partitions"], first["running"], first["plugins"]) == ([0, 3], 2, {"dwd": "1.0.0"})
        assert first["oldest"][0]["event_id"] == "event"
