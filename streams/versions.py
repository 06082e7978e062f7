"""What runs on which version of a plugin, which versions workers have, and the release of runs that wait for theirs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from packaging.version import InvalidVersion, Version
from sqlalchemy import Engine, RowMapping

from projections.history import split_runs_on
from projections.open_runs import OpenRuns, ParkedRuns, held_before, rows_behind
from schemas.codec import decode_as, encode
from schemas.events import Micros, TaskReady, TaskScheduled, now_micros, to_datetime
from streams.agents.versions import split_plugin_text, takes_on
from streams.control.signals import Heartbeat
from streams.deliveries import deliver_once
from streams.engine.outcomes import Outgoing
from streams.headers import record_headers
from streams.scheduling import LONGEST_REASON, scheduled_of
from streams.settings import Settings
from topics.gates import parse_gate, version_gate

_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInUse:
    """Open events of one version and one pipeline. ``plugin`` is empty where nothing is recorded yet.

    ``carried_on_by`` are the versions of live workers that take it on.
    """

    plugin: str
    version: str
    pipeline: str | None
    open_events: int
    oldest: datetime
    carried_on_by: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionParked:
    """Tasks behind a version's gate since ``since``; ``version`` is what ``Releasing.release`` takes."""

    plugin: str
    version: str
    tasks: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInstalled:
    """One version that live workers have. ``open_events`` are those that no other live version takes on."""

    plugin: str
    version: str
    accepts: str
    workers: int
    tiers: list[str]
    open_events: int
    may_retire: bool


@dataclass(frozen=True, slots=True)
class VersionReport:
    """Versions in use, the oldest first, what waits for one, and versions installed."""

    in_use: list[VersionInUse]
    parked: list[VersionParked]
    installed: list[VersionInstalled]


def version_report(
    runs: Sequence[OpenRuns], parked: Sequence[ParkedRuns], heartbeats: Sequence[Heartbeat]
) -> VersionReport:
    """Puts together what the tables and the workers say. All but the newest may retire once others take on its runs."""
    live = {
        (plugin, version): each.accepts.get(plugin, "")
        for each in heartbeats
        for plugin, version in each.versions.items()
    }
    in_use: list[VersionInUse] = []
    for run in runs:
        plugin_version, pipeline = split_runs_on(run.runs_on)
        plugin, version = split_plugin_text(plugin_version or "")
        able = [name for (other, name), accepts in live.items() if other == plugin and takes_on(name, accepts, version)]
        in_use.append(
            VersionInUse(
                plugin=plugin,
                version=version,
                pipeline=pipeline,
                open_events=run.events,
                oldest=run.oldest,
                carried_on_by=sorted(able),
            )
        )
    return VersionReport(
        in_use,
        [_parked(each) for each in parked],
        [_installed(*key, live[key], in_use, heartbeats) for key in sorted(live)],
    )


def _parked(parked: ParkedRuns) -> VersionParked:
    _, plugin, version = parse_gate(parked.gate)
    return VersionParked(plugin=plugin, version=version, tasks=parked.tasks, since=parked.since)


def _installed(
    plugin: str, version: str, accepts: str, in_use: Sequence[VersionInUse], heartbeats: Sequence[Heartbeat]
) -> VersionInstalled:
    having = [each for each in heartbeats if each.versions.get(plugin) == version]
    newest = max((each.versions[plugin] for each in heartbeats if plugin in each.versions), key=_age)
    needed = sum(each.open_events for each in in_use if each.plugin == plugin and each.carried_on_by == [version])
    return VersionInstalled(
        plugin=plugin,
        version=version,
        accepts=accepts,
        workers=len({each.worker for each in having}),
        tiers=sorted({each.tier for each in having}),
        open_events=needed,
        may_retire=version != newest and not needed,
    )


def _age(version: str) -> tuple[bool, Version | str]:
    """What orders versions: those in the usual form after all others."""
    try:
        return True, Version(version)
    except InvalidVersion:
        return False, version


@dataclass(frozen=True, slots=True)
class Released:
    """How many tasks were let go; ``confirmed``: the schedule says so too."""

    tasks: int
    confirmed: bool


class Releasing:
    """Lets runs go on with the version and the pipeline that there are now, whatever they began with. Blocks."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._topic = settings.catalogue().scheduled
        self._engine = engine
        self._settings = settings

    def release(self, plugin: str, version: str, *, by: str, timeout_s: float = 10.0) -> Released:
        """Let go all that waits behind a version's gate, in its order; ``version`` as the gate has it.

        Their next attempt is recorded with the worker's version. Raises ``KafkaException`` where no broker takes it;
        asked again it goes on with the rest.
        """
        gate, now = version_gate(plugin, version), now_micros()
        reason = f"version {version} let go by {by}"[:LONGEST_REASON]
        with self._engine.connect() as connection:
            rows = enumerate(rows_behind(connection, gate), 1)
            records = (self._record(row, _released(row, now, place, reason)) for place, row in rows)
            count = deliver_once(self._settings, records)
        return Released(count, self._is_confirmed(gate, to_datetime(now), timeout_s))

    def _record(self, row: RowMapping, event: TaskScheduled) -> Outgoing:
        return Outgoing(self._topic, encode(event), row["record_key"], record_headers(event))

    def _is_confirmed(self, gate: str, moment: datetime, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        while True:
            with self._engine.connect() as connection:
                if not held_before(connection, gate, moment):
                    return True
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)


def _released(row: RowMapping, now: Micros, place: int, reason: str) -> TaskScheduled:
    """The next version of what waits behind a version's gate: it goes, ``place``-th, with whatever version is there."""
    task = decode_as(TaskReady, row["task"])
    task.plugin_version = task.pipeline_hash = None
    return replace(
        scheduled_of(row),
        version=row["version"] + 1,
        task=encode(task),
        gate=None,
        # The relay publishes in order of these: who waited longer goes first.
        due_at=now + place,
        created_at=now,
        reason=reason,
    )
