"""The records of an accepted event: what says that it was accepted, and the task that carries it out. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from schemas.events import Micros, ModelChanged, Source, TaskEvent, TaskReady, TaskScheduled
from streams.agents.matching import Candidate
from streams.agents.waiting import waiting_task
from topics.catalogue import Catalogue
from topics.keys import partition_key
from topics.routing import Route

FIRST_RUN: Final = 1
FIRST_STEP: Final = 0
FIRST_ATTEMPT: Final = 1
FIRST_DISPATCH: Final = 1


def accepted_event(candidate: Candidate, route: Route, source: Source, recorded_at: Micros) -> TaskEvent:
    """The record that decides an event's tier for good: found again on redelivery, it is never routed anew (R9)."""
    return TaskEvent(
        kind="accepted",
        event_id=candidate.event_id,
        run=FIRST_RUN,
        step=FIRST_STEP,
        attempt=FIRST_ATTEMPT,
        dispatch_seq=FIRST_DISPATCH,
        tenant_id=candidate.tenant_id,
        accepted_at=candidate.accepted_at,
        recorded_at=recorded_at,
        tier=route.tier,
        endpoint=candidate.endpoint,
        event_type=candidate.event_type,
        trigger=candidate.trigger,
        priority=candidate.priority,
        delay_s=candidate.delay_s,
        model=candidate.model,
        model_id=candidate.model_id,
        settings_entry=candidate.settings_entry,
        routing_rule=f"{route.rule}:degraded" if route.degraded else route.rule,
        failover_from=route.failover_from,
        payload=candidate.payload,
        caused_by=candidate.caused_by,
        requested_by=candidate.requested_by,
        source_topic=source.topic,
        source_partition=source.partition,
        source_offset=source.offset,
    )


def matched_event(change: ModelChanged, event_ids: Sequence[str], source: Source, recorded_at: Micros) -> TaskEvent:
    """What a change led to, also where that is nothing: without it nobody could tell 'no match' from 'not yet'."""
    result = {"events": list(event_ids), "model": change.model, "model_event": change.model_event}
    return TaskEvent(
        kind="matched",
        event_id=change.change_id,
        run=FIRST_RUN,
        step=FIRST_STEP,
        attempt=FIRST_ATTEMPT,
        dispatch_seq=FIRST_DISPATCH,
        tenant_id=change.tenant_id,
        accepted_at=change.occurred_at,
        recorded_at=recorded_at,
        trigger="model",
        model=change.model,
        model_id=change.model_id,
        result=orjson.dumps(result).decode(),
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


def delayed_task(task: TaskReady, accepted: TaskEvent, catalogue: Catalogue, created_at: Micros) -> TaskScheduled:
    """The first task of an event with a delay, due that many seconds after its cause."""
    due_at = accepted.accepted_at + (accepted.delay_s or 0) * 1_000_000
    scheduled = waiting_task(task, "delay", accepted.tier, catalogue.topic(accepted.tier), due_at, created_at)
    scheduled.reason = f"delay of {accepted.delay_s} s"
    return scheduled


def key_of(event: TaskEvent | TaskReady) -> bytes:
    """Partition key of an event's records."""
    return partition_key(event.tenant_id, event.model, event.model_id, event.event_id)
