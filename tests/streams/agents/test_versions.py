"""Who may carry on a run that began on a version (pure)."""

import pytest

from handlers.contract import PluginManifest
from handlers.registry import PluginRegistry
from handlers.tenants.configuration import SettingsEntry
from streams.agents.versions import (
    accepted_range,
    held_by_version,
    pipeline_hash,
    runs_on,
    takes_on,
    versions_of,
    worker_takes_on,
)
from tests.streams.agents.support import configuration
from tests.streams.engine.workload import task_ready
from topics.gates import version_gate


def plugin(version: str, compatible_with: str = "") -> PluginManifest:
    return PluginManifest("dwd", version, {}, compatible_with=compatible_with)


def entry(*handlers: str, **step: float) -> SettingsEntry:
    pipeline = [{"handler_class": name, **step} for name in handlers]
    found = configuration({"webhook_endpoint": "webhook/order", "pipeline": pipeline}).entry_for("webhook/order")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("installed", "compatible_with", "recorded", "expected"),
    [
        ("2.3.1", "", "2.3.1", True),
        ("2.3.1", "", "2.0", True),
        ("2.3.1", "", "2.0.0rc1", True),
        ("2.3.1", "", "2.3.2", False),
        ("2.3.1", "", "1.9", False),
        ("2.3.1", "", "3.0", False),
        ("0.4.2", "", "0.4.0", True),
        ("0.4.2", "", "0.3.9", False),
        ("2.3.1+build", "", "2.3.1", True),
        ("2.3.1", ">=1.4,<3", "1.4", True),
        ("2.3.1", ">=1.4,<3", "1.3", False),
        ("2.3.1", "==2.3.0", "2.3.1", True),
        ("the newest", "", "the newest", True),
        ("the newest", "", "2.0", False),
        ("2.3.1", "", "the oldest", False),
    ],
)
def test_a_version_is_carried_on_by_itself_and_by_what_is_compatible(
    installed: str, compatible_with: str, recorded: str, expected: bool
) -> None:
    accepts = accepted_range(plugin(installed, compatible_with))
    assert takes_on(installed, accepts, recorded) is expected


def test_a_pipeline_is_its_handlers_in_their_order() -> None:
    first = pipeline_hash(entry("A", "B"))
    assert first == pipeline_hash(entry("A", "B", retry_attempts=9, timeout=5))
    assert len({first, pipeline_hash(entry("B", "A")), pipeline_hash(entry("A", "C")), pipeline_hash(entry("A"))}) == 4
    assert pipeline_hash(None) is None


def test_a_run_without_a_version_gets_that_of_the_worker() -> None:
    task = task_ready("e", step=1)
    present = runs_on(plugin("2.0"), entry("A", "B"))
    assert held_by_version(task, present) is None
    assert (task.plugin_version, task.pipeline_hash) == ("dwd 2.0", pipeline_hash(entry("A", "B")))


def test_a_run_begins_on_the_pipeline_of_now_and_stays_on_it() -> None:
    old, new = pipeline_hash(entry("A", "B")), pipeline_hash(entry("A", "C"))
    present = runs_on(plugin("2.1"), entry("A", "C"))
    begins = task_ready("e", plugin_version="dwd 2.0", pipeline_hash=old)
    assert held_by_version(begins, present) is None
    assert (begins.plugin_version, begins.pipeline_hash) == ("dwd 2.0", new)
    goes_on = task_ready("e", step=1, plugin_version="dwd 2.0", pipeline_hash=old)
    assert held_by_version(goes_on, present) == version_gate("dwd", f"2.0#{old}")
    assert goes_on.pipeline_hash == old


@pytest.mark.parametrize("step", [0, 1])
def test_another_version_or_plugin_holds_every_step(step: int) -> None:
    present = runs_on(plugin("3.0"), None)
    task = task_ready("e", step=step, plugin_version="dwd 2.0")
    assert held_by_version(task, present) == "version|dwd|2.0"
    other = task_ready("e", step=step, plugin_version="printcom 3.0")
    assert held_by_version(other, present) == "version|printcom|3.0#plugin"


def test_a_worker_takes_on_what_its_heartbeat_says() -> None:
    versions, accepts = versions_of(PluginRegistry({"dwd": plugin("2.3", ">=1,<3")}))
    assert (versions, accepts) == ({"dwd": "2.3"}, {"dwd": ">=1,<3"})
    assert worker_takes_on("dwd", "1.4", versions, accepts)
    assert worker_takes_on("dwd", "2.3", versions, {})
    assert not worker_takes_on("dwd", "1.4", versions, {})
    assert not worker_takes_on("printcom", "1.4", versions, accepts)
    # No worker's version helps where the configuration has changed.
    assert not worker_takes_on("dwd", "2.3#0123456789ab", versions, accepts)
