"""Runs stay on their version: which plugin and which pipeline a run began with, and who may carry it on. Pure.

``accepted`` records both. A worker takes on a run of its own plugin where

* its version is the recorded one, or
* the recorded one is in the range that the plugin declares (``compatible_with``), or, without such a range, has the
  same major version (before 1.0 the same minor one) and is not newer, and
* no step has ended yet, or the pipeline has the same handlers in the same order as when the run began. Timeouts and
  tries of the steps may be changed under way.

Every other record waits behind ``version|<plugin>|<version>``. Where no worker's version would help, because the
tenant's configuration has changed, the gate's version ends with ``#`` and the pipeline's hash, or ``#plugin`` for a
tenant that has another plugin now: such a gate is opened by hand alone.

A run without a recorded version is given that of the worker that carries it on next.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from handlers.contract import PluginManifest
from handlers.registry import PluginRegistry
from handlers.tenants.configuration import SettingsEntry
from schemas.events import TaskReady
from topics.gates import version_gate

_HASH_LENGTH: Final = 12


class RunsOn(NamedTuple):
    """What a worker would carry out a task with. ``text`` is the plugin's id and version, as records carry them.

    ``accepts`` is the range of recorded versions that the plugin takes on beside its own.
    """

    text: str
    accepts: str = ""
    pipeline_hash: str | None = None


def plugin_text(plugin: PluginManifest) -> str:
    """Id and version, as records carry them."""
    return f"{plugin.id} {plugin.version}"


def split_plugin_text(text: str) -> tuple[str, str]:
    """Id and version of which ``plugin_text`` made a text."""
    plugin, _, version = text.rpartition(" ")
    return plugin, version


def runs_on(plugin: PluginManifest, entry: SettingsEntry | None) -> RunsOn:
    """What a task of ``entry`` is carried out with by ``plugin``."""
    return RunsOn(plugin_text(plugin), accepted_range(plugin), pipeline_hash(entry))


def pipeline_hash(entry: SettingsEntry | None) -> str | None:
    """Hash of a pipeline's handlers in their order; ``None`` where there is no pipeline."""
    if entry is None or not entry.pipeline:
        return None
    names = "\n".join(step.handler_class for step in entry.pipeline)
    return hashlib.sha256(names.encode()).hexdigest()[:_HASH_LENGTH]


def accepted_range(plugin: PluginManifest) -> str:
    """Recorded versions that a plugin takes on, as a range; empty where only its own can be told."""
    if plugin.compatible_with:
        return plugin.compatible_with
    try:
        version = Version(plugin.version)
    except InvalidVersion:
        return ""
    first = f"{version.major}" if version.major else f"0.{version.minor}"
    return f">={first}.dev0,<={version.public}"


@lru_cache(maxsize=1024)
def takes_on(installed: str, accepts: str, recorded: str) -> bool:
    """Whether a plugin of version ``installed`` that accepts a range carries on runs of version ``recorded``."""
    if installed == recorded:
        return True
    try:
        return bool(accepts) and SpecifierSet(accepts).contains(Version(recorded), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False


def held_by_version(task: TaskReady, present: RunsOn) -> str | None:
    """The gate behind which a task has to wait for its version; ``None``: ``present`` may carry it out.

    A run that may begin, or has no version yet, is noted down in ``task`` as one of ``present``.
    """
    if task.plugin_version is None:
        task.plugin_version, task.pipeline_hash = present.text, present.pipeline_hash
        return None
    plugin, recorded = split_plugin_text(task.plugin_version)
    installed_plugin, installed = split_plugin_text(present.text)
    if plugin != installed_plugin:
        return version_gate(plugin, f"{recorded}#plugin")
    if not takes_on(installed, present.accepts, recorded):
        return version_gate(plugin, recorded)
    if task.step == 0:
        task.pipeline_hash = present.pipeline_hash
    elif task.pipeline_hash != present.pipeline_hash:
        return version_gate(plugin, f"{recorded}#{task.pipeline_hash or 'plugin'}")
    return None


def versions_of(plugins: PluginRegistry) -> tuple[dict[str, str], dict[str, str]]:
    """Versions of the usable plugins, and the ranges that they accept, each by id."""
    usable = plugins.plugins.values()
    return {each.id: each.version for each in usable}, {each.id: accepted_range(each) for each in usable}


def worker_takes_on(plugin: str, recorded: str, versions: Mapping[str, str], accepts: Mapping[str, str]) -> bool:
    """Whether a worker with these plugins carries on runs of a version; ``recorded`` as in a gate."""
    installed = versions.get(plugin)
    return installed is not None and "#" not in recorded and takes_on(installed, accepts.get(plugin, ""), recorded)
