"""The records of an accepted event: what says that it was accepted, and the task that carries it out. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from projections.schedule import STRICT, STRICT_HALT
from schemas.events import Micros, ModelChanged, Source, TaskEvent, TaskReady, TaskScheduled, WebhookRequested
from streams.agents.coalescing import KIND, MAX_WAIT, periods_of, singleton_lane
from streams.agents.matching import Candidate
from streams.agents.waiting import keep_trace, waiting_task
from topics.catalogue import Catalogue
from topics.keys import partition_key
from topics.routing import Route

FIRST_RUN: Final = 1
FIRST_STEP: Final = 0
FIRST_ATTEMPT: Final = 1
FIRST_DISPATCH: Final = 1

LANE: Final = "lane"
"""Option of a task whose key is in strict order: its lane."""

_LONGEST_LANE: Final = 500
"""Bytes; the lane is indexed."""


def accepted_event(
    candidate: Candidate, route: Route, source: Source, recorded_at: Micros, plugin_version: str | None = None
) -> TaskEvent:
    """The record that decides an event's tier and version for good: found again, it is never routed anew (R9)."""
    about = candidate.event_id, candidate.tenant_id, candidate.accepted_at
    event = _record("accepted", *about, source, recorded_at)
    event.tier = route.tier
    event.endpoint = candidate.endpoint
    event.event_type = candidate.event_type
    event.trigger = candidate.trigger
    event.priority = candidate.priority
    event.delay_s = candidate.delay_s
    event.model = candidate.model
    event.model_id = candidate.model_id
    event.settings_entry = candidate.settings_entry
    event.routing_rule = _rule_text(candidate, route)
    event.failover_from = route.failover_from
    event.payload = candidate.payload
    event.caused_by = candidate.caused_by
    event.requested_by = candidate.requested_by
    event.plugin_version = plugin_version
    event.pipeline_hash = candidate.pipeline_hash
    event.gate = candidate.coalescing.gate if candidate.coalescing else None
    return event


def matched_event(change: ModelChanged, event_ids: Sequence[str], source: Source, recorded_at: Micros) -> TaskEvent:
    """What a change led to, also where that is nothing: without it nobody could tell 'no match' from 'not yet'."""
    event = _record("matched", change.change_id, change.tenant_id, change.occurred_at, source, recorded_at)
    event.trigger = "model"
    event.model = change.model
    event.model_id = change.model_id
    result = {"events": list(event_ids), "model": change.model, "model_event": change.model_event}
    event.result = orjson.dumps(result).decode()
    return event


def called_back_event(request: WebhookRequested, gate: str, source: Source, recorded_at: Micros) -> TaskEvent:
    """The record of a call-back. Whom it lets go on is decided by the relay, which alone knows who waits."""
    about = request.event_id, request.tenant_id, request.requested_at
    event = _record("called_back", *about, source, recorded_at)
    event.trigger = request.trigger
    event.payload = request.payload
    event.requested_by = request.requested_by
    event.gate = gate
    return event


def _record(
    kind: str, event_id: str, tenant_id: str, accepted_at: Micros, source: Source, recorded_at: Micros
) -> TaskEvent:
    """A record that intake makes of ``source``: all begin with an event's first run, step, attempt and dispatch."""
    return TaskEvent(
        kind=kind,
        event_id=event_id,
        run=FIRST_RUN,
        step=FIRST_STEP,
        attempt=FIRST_ATTEMPT,
        dispatch_seq=FIRST_DISPATCH,
        tenant_id=tenant_id,
        accepted_at=accepted_at,
        recorded_at=recorded_at,
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
    )


def first_task(accepted: TaskEvent, options: Mapping[str, str]) -> TaskReady:
    """The first task of an accepted event; made from the accepted record alone, so equal on every redelivery."""
    return TaskReady(
        event_id=accepted.event_id,
        run=accepted.run,
        step=accepted.step,
        attempt=accepted.attempt,
        dispatch_seq=accepted.dispatch_seq,
        tenant_id=accepted.tenant_id,
        endpoint=accepted.endpoint,
        event_type=accepted.event_type,
        trigger=accepted.trigger,
        priority=accepted.priority or 5,
        accepted_at=accepted.accepted_at,
        payload=accepted.payload or "{}",
        model=accepted.model,
        model_id=accepted.model_id,
        settings_entry=accepted.settings_entry,
        options=dict(options),
        plugin_version=accepted.plugin_version,
        pipeline_hash=accepted.pipeline_hash,
        failover_from=accepted.failover_from,
    )


def entry_wait(
    task: TaskReady, accepted: TaskEvent, catalogue: Catalogue, created_at: Micros, traceparent: bytes | None = None
) -> TaskScheduled | None:
    """The first task of an event that has to wait: for its delay, counted from its cause, for its turn in a lane, or
    for others alike.

    ``None`` for one that may go at once. Equal on every redelivery, but for ``created_at``.
    """
    kind, lane = lane_wanted(accepted.routing_rule, key_of(task)) or (None, None)
    turn = "its turn in its strict lane" if kind in (STRICT, STRICT_HALT) else "the end of what is alike and before it"
    periods = periods_of(accepted.routing_rule)
    if periods is not None:
        task.options[MAX_WAIT] = f"{periods.max_wait_s:g}"
        keep_trace(task, traceparent)
        # Counted from here: what has lain somewhere for long is a burst too, and clocks of writers differ.
        due_at = created_at + int(periods.quiet_s * 1_000_000)
        scheduled = waiting_task(task, KIND, accepted.tier, catalogue.topic(accepted.tier), due_at, created_at)
        scheduled.gate = accepted.gate
        scheduled.reason = f"until nothing alike has come for {periods.quiet_s:g} s, {periods.max_wait_s:g} s at most"
        return scheduled
    if kind is None and not accepted.delay_s:
        return None
    due_at = accepted.accepted_at + (accepted.delay_s or 0) * 1_000_000
    if lane is not None:
        task.options[LANE] = lane
    keep_trace(task, traceparent)
    scheduled = waiting_task(task, kind or "delay", accepted.tier, catalogue.topic(accepted.tier), due_at, created_at)
    scheduled.lane = lane
    scheduled.reason = f"delay of {accepted.delay_s} s" if accepted.delay_s else turn
    return scheduled


def lane_wanted(routing_rule: str | None, key: bytes) -> tuple[str, str] | None:
    """Kind of the wait with which an accepted event enters a lane, and the lane; ``None`` where it enters none."""
    kind = lane_kind(routing_rule)
    return singleton_lane(routing_rule) if kind is None else (kind, lane_of(key))


def lane_kind(routing_rule: str | None) -> str | None:
    """Kind of the wait with which a strict event enters its lane; ``None`` for any other event."""
    marks = (routing_rule or "").split(":")[1:]
    return STRICT_HALT if STRICT_HALT in marks else STRICT if STRICT in marks else None


def lane_of(key: bytes) -> str:
    """The lane of a partition key: one for all tiers, because an order in each tier is none for the key (R12)."""
    if len(key) <= _LONGEST_LANE:
        return key.decode()
    return f"{key[:_LONGEST_LANE].decode(errors='ignore')}#{hashlib.sha256(key).hexdigest()}"


def _rule_text(candidate: Candidate, route: Route) -> str:
    """The rule that chose the tier, and what else decided: all that a redelivery has to know."""
    marks = [route.rule]
    if candidate.lane is not None:
        marks.append(STRICT_HALT if candidate.lane == "halt" else STRICT)
    if candidate.singleton is not None:
        marks.append(candidate.singleton.mark)
    if candidate.coalescing is not None:
        marks.append(candidate.coalescing.mark)
    return ":".join([*marks, "degraded"] if route.degraded else marks)


def key_of(event: TaskEvent | TaskReady) -> bytes:
    """Partition key of an event's records."""
    return partition_key(event.tenant_id, event.model, event.model_id, event.event_id)
