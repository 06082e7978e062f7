"""Which events are alike, and what comes of it: they wait for one another, or one goes at a time. Pure.

What was decided stands in the ``accepted`` record: its gate, and in its routing rule both periods, or the lane. So it
holds on every redelivery, whatever has become of the settings.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

import orjson

from handlers.tenants.configuration import SettingsEntry
from handlers.tenants.repetition import SingletonMode, values_text
from projections.schedule import SINGLETON_KINDS
from topics.gates import coalesce_gate
from topics.keys import join_parts, partition_key

KIND: Final = "coalesce"
"""Kind of a wait for events alike."""

MAX_WAIT: Final = "coalesce_max_wait_s"
"""Option of a task that is coalesced: how long the last of them may wait from the first on, seconds."""

_MARK: Final = "coalesce="

_SINGLETON: Final = "singleton|"
"""How the lane of every singleton begins."""

_LONGEST_KEY: Final = 200


class Periods(NamedTuple):
    """Both in seconds."""

    quiet_s: float
    max_wait_s: float


class Coalescing(NamedTuple):
    """Of one event: the gate that all alike wait behind, and how long."""

    gate: str
    periods: Periods

    @property
    def mark(self) -> str:
        """What an accepted event's routing rule says of it."""
        return f"{_MARK}{self.periods.quiet_s:g}/{self.periods.max_wait_s:g}"


def coalescing_of(
    entry: SettingsEntry, tenant_id: str, model: str | None, model_id: str | None, payload: str
) -> Coalescing | None:
    """``None`` where an event of the entry goes by itself, also for want of what its key is made of."""
    wanted = entry.coalesce
    key = None if wanted is None else _key(wanted.key, tenant_id, model, model_id, payload)
    if wanted is None or key is None:
        return None
    return Coalescing(coalesce_gate(tenant_id, entry.entry_id, key), Periods(wanted.quiet_s, wanted.max_wait_s))


class OneAtATime(NamedTuple):
    """Of one event: what becomes of it behind another one of its lane."""

    mode: SingletonMode
    lane: str

    @property
    def mark(self) -> str:
        """What an accepted event's routing rule says of it."""
        return f"{SINGLETON_KINDS[self.mode]}={quote(self.lane, safe='')}"


def singleton_of(
    entry: SettingsEntry, tenant_id: str, model: str | None, model_id: str | None, payload: str
) -> OneAtATime | None:
    """``None`` where an event of the entry goes by itself, also for want of what its key is made of."""
    wanted = entry.singleton
    key = None if wanted is None else _key(wanted.key, tenant_id, model, model_id, payload)
    if wanted is None or key is None:
        return None
    if len(key) > _LONGEST_KEY:
        key = f"{key[:_LONGEST_KEY]}#{hashlib.sha256(key.encode()).hexdigest()}"
    return OneAtATime(wanted.mode, _SINGLETON + join_parts(tenant_id, entry.entry_id, key))


def singleton_lane(routing_rule: str | None) -> tuple[str, str] | None:
    """Kind of the wait with which an accepted event enters its singleton's lane, and the lane; ``None`` for others."""
    for mark in (routing_rule or "").split(":")[1:]:
        kind, _, lane = mark.partition("=")
        if kind in SINGLETON_KINDS.values():
            return kind, unquote(lane)
    return None


def is_singleton_lane(lane: str | None) -> bool:
    """Whether a lane is a singleton's."""
    return lane is not None and lane.startswith(_SINGLETON)


def _key(paths: Sequence[str], tenant_id: str, model: str | None, model_id: str | None, payload: str) -> str | None:
    if paths:
        return values_text(paths, orjson.loads(payload))
    return partition_key(tenant_id, model, model_id, "").decode() or None


def periods_of(routing_rule: str | None) -> Periods | None:
    """How long an accepted event waits for others alike; ``None`` where it does not."""
    for mark in (routing_rule or "").split(":")[1:]:
        if mark.startswith(_MARK):
            quiet_s, _, max_wait_s = mark.removeprefix(_MARK).partition("/")
            return Periods(float(quiet_s), float(max_wait_s))
    return None
