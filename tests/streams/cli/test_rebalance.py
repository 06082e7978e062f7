"""``webhook rebalance`` beside an embedded broker: what it plans, and which commands it sends."""

from dataclasses import replace

import pytest

from schemas.identifiers import new_event_id
from streams.control.moves import Move, MoveFollower
from streams.control.signals import SignalWriter
from streams.settings import Settings
from tests.streams.cli.commands import commands_of
from tests.streams.control.test_signals import BEAT
from tests.streams.engine.workload import put, task_ready
from tests.support.waiting import eventually

SOURCE, TARGET = "webhook-beanstalk", "webhook-db"
EVENTS = 400


def _crashed(name: str, error: BaseException) -> None:
    raise AssertionError(f"{name}: {error}")


@pytest.mark.embedded
def test_a_dry_run_sends_nothing_and_a_run_sends_what_it_said(
    embedded_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [(f"key-{each}", task_ready(new_event_id(), priority=5)) for each in range(EVENTS)]
    put(embedded_settings, embedded_settings.catalogue().topic(SOURCE), tasks)
    found: list[Move] = []
    follower = MoveFollower(embedded_settings, lambda move, _until: found.append(move), _crashed)
    follower.start()
    with commands_of(embedded_settings, monkeypatch) as commands:
        assert "Nothing to move" in commands.run("rebalance")
        writer = SignalWriter(embedded_settings)
        writer.send(replace(BEAT, tier=TARGET))
        writer.close()
        planned = commands.json("rebalance", "--dry-run")
        [way] = planned["moves"]
        assert (way["from"], way["to"], planned["dry_run"]) == (SOURCE, TARGET, True)
        assert 0 < way["records"] <= EVENTS // 2
        assert not found
        assert "At most" in commands.run("rebalance", "--max", "50", "--from", "beanstalk", "--to", "db")
    eventually(lambda: found)
    follower.stop()
    assert {(move.tier, move.target) for move in found} == {(SOURCE, TARGET)}
