"""Puts a record behind a gate instead of running its task: once, without an attempt, in the order of its key (R15)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from schemas.codec import encode
from schemas.events import TaskEvent
from streams.agents.going_on import going_on_event, let_go_on
from streams.agents.tier_records import TierTask
from streams.agents.tier_state import TierState
from streams.agents.waiting import keep_trace, waiting_task
from streams.engine.outcomes import Outgoing
from streams.headers import record_headers
from topics.catalogue import Catalogue
from topics.gates import parse_gate

REASONS: Final = {
    "tenant": "tenant_share",
    "host": "circuit",
    "rate": "rate",
    "version": "version",
    "call_back": "call_back",
}


def defer(state: TierState, item: TierTask, gate: str) -> None:
    """Put a record whose turn has come behind a gate."""
    state.brake.give_back()
    state.lanes.free_slot(item)
    state.deferring.begin(item.tenant)
    put_behind(state, item, gate, partial(_deferred, state, item.tenant))


def _deferred(state: TierState, tenant: str) -> None:
    if state.deferring.end(tenant):
        state.wake()


def put_behind(state: TierState, item: TierTask, gate: str, done: Callable[[], None] | None = None) -> None:
    """Write that a record is deferred, then what waits; after both acknowledgements it is finished, and ``done``."""
    event = deferred_event(state, item, gate)
    record = deferral_record(item, event, state.catalogue)
    state.admission.deferred(item, gate)
    let_go_on(state, item, event, lambda: record, "", done)


def deferred_event(state: TierState, item: TierTask, gate: str) -> TaskEvent:
    """The record of `.events` that says so."""
    event = going_on_event(state, item, "deferred", state.tier.name, item.source.topic)
    event.next_due_at = event.recorded_at
    event.gate = gate
    return event


def deferral_record(item: TierTask, event: TaskEvent, catalogue: Catalogue) -> Outgoing:
    """What waits behind the gate, from the deferral and the deferred record: equal each time it is made.

    Raises ``LookupError`` for a deferral without gate or topic.
    """
    if event.gate is None or event.next_topic is None:
        raise LookupError(f"the deferral of {event.event_id} has no gate or no topic")
    task = replace(item.task, dispatch_seq=event.dispatch_seq, gate=event.gate, options=dict(item.task.options))
    keep_trace(task, item.traceparent)
    tier, at = catalogue.tier(event.next_topic).name, event.recorded_at
    wait = waiting_task(task, "deferral", tier, event.next_topic, at, at)
    wait.gate = event.gate
    wait.reason = REASONS[parse_gate(event.gate).kind]
    return Outgoing(
        catalogue.scheduled, encode(wait), item.record.key, record_headers(wait, traceparent=item.traceparent)
    )
