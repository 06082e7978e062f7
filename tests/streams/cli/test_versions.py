"""Versions in use, parked and installed, and the release of what is parked."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine

from schemas.codec import decode_as
from schemas.events import TaskReady
from streams.capture.gates import ControlledLimits
from streams.capture.relay import Relay, RelayOptions
from streams.control.signals import SignalWriter
from streams.control.view import ControlView
from streams.errors import SetupError
from streams.settings import Settings
from tests.integration.scheduled import (
    TIER,
    accepted,
    event_record,
    key_of,
    produce,
    projecting,
    task_of,
    wait_for,
    wait_of,
    wait_record,
)
from tests.streams.capture.relay_support import running
from tests.streams.cli.commands import Commands, commands_of
from tests.streams.control.test_signals import BEAT
from tests.streams.engine.workload import Reader
from tests.support.waiting import eventually
from topics.catalogue import Catalogue
from topics.gates import version_gate

pytestmark = pytest.mark.embedded

AT = 1_790_000_000_000_000
NAMES = [f"e{number}" for number in range(5)]


@pytest.fixture
def commands(
    embedded_settings: Settings, catalogue: Catalogue, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Commands]:
    """Five runs of one key that wait for dwd 1.0, one that runs on dwd 2.0, and one of no version."""
    rows = []
    for number, name in enumerate(NAMES):
        pinned = {"plugin_version": "dwd 1.0", "pipeline_hash": "0123"}
        task = task_of(name, AT + number, model="Order", model_id="7", gate=version_gate("dwd", "1.0"), **pinned)
        wait = wait_of(task, catalogue, AT, kind="deferral", gate=task.gate, created_at=AT + number)
        rows += [
            event_record(catalogue, accepted(task, "accepted", **pinned), key_of(task)),
            wait_record(catalogue, wait, key_of(task)),
        ]
    for name, version in (("new", "dwd 2.0"), ("old", None)):
        task = task_of(name, AT + 9)
        rows.append(event_record(catalogue, accepted(task, "accepted", plugin_version=version), key_of(task)))
    produce(embedded_settings, *rows)
    with commands_of(embedded_settings, monkeypatch) as made, projecting(embedded_settings, catalogue, engine):
        wait_for(engine, *NAMES)
        eventually(lambda: len(made.json("events")) == 7)
        yield made


def test_versions_are_listed(commands: Commands, embedded_settings: Settings) -> None:
    writer = SignalWriter(embedded_settings)
    writer.send(replace(BEAT, versions={"dwd": "2.0"}, accepts={"dwd": ">=2,<=2.0"}))
    writer.send(replace(BEAT, worker="host:8", versions={"dwd": "2.1"}, accepts={"dwd": ">=2,<=2.1"}))
    writer.close()
    found = commands.json("versions")
    runs = [tuple(each[name] for name in ("plugin", "version", "pipeline", "open_events")) for each in found["in_use"]]
    assert sorted(runs) == [("", "", None, 1), ("dwd", "1.0", "0123", 5), ("dwd", "2.0", None, 1)]
    assert {each["version"]: each["carried_on_by"] for each in found["in_use"]} == {
        "": [],
        "1.0": [],
        "2.0": ["2.0", "2.1"],
    }
    assert [(each["plugin"], each["version"], each["tasks"]) for each in found["parked"]] == [("dwd", "1.0", 5)]
    # 2.1 carries on what runs on 2.0, and nothing runs on 2.1.
    assert [(each["version"], each["workers"], each["may_retire"]) for each in found["installed"]] == [
        ("2.0", 1, True),
        ("2.1", 1, False),
    ]
    shown = commands.run("versions")
    assert "MAY RETIRE" in shown
    assert "not recorded yet" in shown


def test_what_is_parked_goes_on_in_its_order_and_on_no_version(
    commands: Commands, embedded_settings: Settings, catalogue: Catalogue, engine: Engine
) -> None:
    assert "5 tasks wait for dwd 1.0; 5 would go on." in commands.run("versions", "release", "dwd", "1.0", "--dry-run")
    with pytest.raises(SetupError, match=r"Nothing waits for dwd 1\.1") as refused:
        commands.run("versions", "release", "dwd", "1.1")
    assert refused.value.hint == "Parked are: dwd 1.0."
    # R15: nobody has that version, so the relay lets nothing go by itself.
    options = RelayOptions(limits=ControlledLimits(ControlView()), proof_timeout_s=0.1)
    reader = Reader(embedded_settings, catalogue.topic(TIER))
    with running(Relay(embedded_settings, catalogue, [engine], engine, options)):
        assert "5 tasks wait for dwd 1.0; 5 go on." in commands.run("versions", "release", "dwd", "1.0")
        eventually(lambda: len(reader.read()) == 5)
    tasks = [decode_as(TaskReady, each.value) for each in reader.read()]
    assert [each.event_id for each in tasks] == NAMES
    assert {(each.plugin_version, each.pipeline_hash, each.gate) for each in tasks} == {(None, None, "version|dwd|1.0")}
    reader.close()
