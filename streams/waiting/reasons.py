"""The reason of one event: the tables' word for it, corrected by what workers and `.control` say. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final, NamedTuple

from projections.waiting import IN_TIER, Reason, WaitingEvent
from schemas.events import now_micros, to_datetime
from streams.control.signals import EXPIRY_S, Heartbeat
from streams.control.view import ControlView
from topics.keys import partition_key, split_parts
from topics.tiers import TIERS

_TOLD: Final[Mapping[Reason, str]] = {
    "key_busy": "event {holder} of the same key runs before it",
    "tenant_share": "its tenant uses its share of the workers",
    "due_at": "its time has not come",
    "retry_at": "its last try failed or is unclear; the next one comes by itself",
    "strict_lane": "event {holder} is before it in its strict lane",
    "call_back": "no call-back with the key {name} has come",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyWaiting(WaitingEvent):
    """An event's one reason, of all twelve. ``detail`` says it in words.

    ``place``: for ``nth_in_tier``, where that was counted, its number among the events of its tier that do not run yet,
    in order of acceptance. A tier's partitions go on side by side, so it is no promise.
    """

    place: int | None
    detail: str


class _Running(NamedTuple):
    event_id: str
    worker: str
    since: datetime


class Live:
    """What workers and `.control` say at one moment."""

    def __init__(self, control: ControlView, heartbeats: Collection[Heartbeat]) -> None:
        self.control = control
        self.workers = {(each.tier, each.worker) for each in heartbeats}
        self.tiers = {each.tier for each in heartbeats}
        self.running: dict[str, _Running] = {}
        self.keys: dict[tuple[str, str], _Running] = {}
        for beat in heartbeats:
            for event_id, since, key in beat.oldest:
                task = _Running(event_id, beat.worker, to_datetime(since))
                self.running[event_id] = task
                self.keys.setdefault((beat.tier, key), task)

    def paused_tiers(self) -> list[str]:
        """The tiers that are paused now."""
        return [tier for tier in TIERS if self.control.paused(tier)]


def explain(event: WaitingEvent, live: Live | None, place: int | None = None) -> WhyWaiting:
    """The event's reason, with what ``live`` knows better than the tables. Pure.

    A heartbeat is up to a second old and so is the projection: what began later holds. ``live`` is ``None`` where
    nobody could be asked.
    """
    refined = event if live is None else _refined(event, live)
    known = {each.name: getattr(refined, each.name) for each in fields(WaitingEvent)}
    counted = place if refined.reason == IN_TIER else None
    return WhyWaiting(**known, place=counted, detail=_detail(refined, live, counted))


def _refined(event: WaitingEvent, live: Live) -> WaitingEvent:
    task = live.running.get(event.event_id)
    if task is not None and (event.reason in (IN_TIER, "running") or task.since > event.since):
        return replace(event, reason="running", holder=task.worker, since=task.since, until=None)
    if event.reason == "circuit":
        open_until = live.control.breaker(*_gate(event)).open_until
        return replace(event, until=to_datetime(open_until)) if open_until > now_micros() else event
    if event.reason != IN_TIER or event.tier is None:
        return event
    pause = live.control.pause_of(event.tier)
    if pause is not None:
        until = live.control.value(pause.name, pause.subject)["until"]
        since = max(event.since, to_datetime(pause.updated_at))
        return replace(event, reason="paused", since=since, until=None if until is None else to_datetime(until))
    key = partition_key(event.tenant_id, event.model, event.model_id, event.event_id).decode(errors="replace")
    before = live.keys.get((event.tier, key))
    if before is not None:
        since = max(event.since, before.since)
        return replace(event, reason="key_busy", holder=before.event_id, since=since)
    return event


def _gate(event: WaitingEvent) -> tuple[str, str]:
    """Tenant, or plugin, of the event's gate, and what else it names."""
    _, *parts = split_parts(event.holder or "")
    # Before a wait is projected, its gate is not known.
    return (parts[0] if parts else ""), (parts[1] if len(parts) > 1 else "not known yet")


def _detail(event: WaitingEvent, live: Live | None, place: int | None) -> str:
    told = _TOLD.get(event.reason)
    if told is not None:
        owner, name = _gate(event)
        return told.format(holder=event.holder, owner=owner, name=name)
    match event.reason:
        case "nth_in_tier":
            return _turn(event, live, place)
        case "running":
            return _run(event, live)
        case "rate":
            return f"the call rate of {_gate(event)[1]} is used up{_rate(event, live)}"
        case "circuit":
            return f"the circuit to {_gate(event)[1]} is {_circuit(event, live)}"
        case "no_worker_for_version":
            return _version(*_gate(event))
        case _:
            return _pause(event, live)


def _turn(event: WaitingEvent, live: Live | None, place: int | None) -> str:
    turn = "its turn has not come" if place is None else f"number {place} of those that wait for their turn"
    if live is None:
        return f"{turn}, or it runs, or its tier is paused: neither workers nor the control topic could be asked"
    if event.tier is not None and event.tier not in live.tiers:
        return f"{turn}; no worker of {event.tier} has been heard of for {EXPIRY_S:g} s"
    return turn


def _run(event: WaitingEvent, live: Live | None) -> str:
    if live is not None and event.holder is not None and (event.tier or "", event.holder) not in live.workers:
        return f"it was running; its worker has not been heard of for {EXPIRY_S:g} s, the next owner goes on with it"
    return "its handler is at work"


def _rate(event: WaitingEvent, live: Live | None) -> str:
    rate = None if live is None else live.control.rate(*_gate(event))
    return "" if rate is None else f": {rate.limit} every {rate.per_s:g} s, {rate.burst} at once"


def _circuit(event: WaitingEvent, live: Live | None) -> str:
    breaker = None if live is None else live.control.breaker(*_gate(event))
    if breaker is None or breaker.state == "open":
        return "open" if breaker is None else f"open after {breaker.failures} failures in a row"
    return "closed again: its turn comes" if breaker.state == "closed" else "half open: one call is tried first"


def _version(plugin: str, version: str) -> str:
    number, _, changed = version.partition("#")
    if changed == "plugin":
        return f"it began with {plugin} {number}, and its tenant has another plugin now"
    if changed:
        return "its pipeline has other handlers now than when it began"
    return f"no worker carries on what began with {plugin} {number}"


def _pause(event: WaitingEvent, live: Live | None) -> str:
    pause = None if live is None or event.tier is None else live.control.pause_of(event.tier)
    if pause is None:
        return f"{event.tier} is paused"
    which = "every tier" if pause.subject not in TIERS else event.tier
    return f"{which} is paused by {pause.updated_by}" + (f": {pause.reason}" if pause.reason else "")
