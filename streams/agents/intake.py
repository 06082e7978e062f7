"""Intake: the one place where an event is accepted and routed (R9).

It reads changes and requests, decides for each which events they ask for and which tier takes them, writes that
decision to ``.events`` and, once it is acknowledged, the tasks to their tiers. What is found decided
is not decided anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from aiokafka.partitioner import murmur2

from handlers.tenants.configuration import TenantConfiguration
from schemas.codec import decode, encode
from schemas.errors import PipelineError, Undecodable
from schemas.events import (
    Micros,
    ModelChanged,
    Source,
    TaskEvent,
    WebhookRequested,
)
from streams.agents.acceptance import accepted_event, delayed_task, first_task, key_of, matched_event
from streams.agents.matching import Candidate, candidate_of_request, candidates_of_change
from streams.engine.contract import ConsumedRecord
from streams.engine.outcomes import Outgoing, dead_letter_of, event_headers
from streams.headers import find_header, record_headers
from topics.catalogue import Catalogue
from topics.health import HealthSnapshot
from topics.routing import DEFAULT_RULES, RouteRequest, Rule, route

GROUP: Final = "webhook-intake"


class UnknownTenant(PipelineError):
    """A record of a tenant that does not exist."""

    code = "unknown_tenant"

    def __init__(self, tenant_id: str) -> None:
        super().__init__(f"tenant {tenant_id!r} does not exist; create it, then send the record again")


class HealthProvider(Protocol):
    """Says how the tiers are. A snapshot without states means that nobody measures them."""

    def snapshot(self) -> HealthSnapshot:
        """The newest picture that is known; must not block."""


class AlwaysHealthy:
    """A provider for installations without a monitor."""

    def snapshot(self) -> HealthSnapshot:
        """Nothing is known, so every tier counts as healthy."""
        return HealthSnapshot()


@dataclass(frozen=True, slots=True)
class Decided:
    """What ``.events`` already holds about one record: accepted events with their offsets there, and the match."""

    accepted: Mapping[str, tuple[TaskEvent, int]] = field(default_factory=dict)
    matched: bool = False


class Decision(NamedTuple):
    """A record that says what is to happen; ``event`` is what it holds, ``None`` for a dead letter."""

    record: Outgoing
    event: TaskEvent | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one record leads to: first the decisions, and after their acknowledgement the dispatches."""

    decisions: Sequence[Decision] = ()
    dispatches: Sequence[Outgoing] = ()


NOTHING_DECIDED: Final = Decided()


def read_record(record: ConsumedRecord) -> ModelChanged | WebhookRequested:
    """The change or request in a record. Raises ``Undecodable`` for anything else."""
    if record.value is None:
        raise Undecodable("the record has no value", code="no_value")
    event = decode(record.value)
    if not isinstance(event, ModelChanged | WebhookRequested):
        raise Undecodable(f"a {type(event).__name__} where a change or a request belongs", code="wrong_type")
    return event


class Intake:
    """The decisions, without any input or output of its own. ``plan`` never raises for what a record holds."""

    def __init__(
        self, catalogue: Catalogue, health: HealthProvider | None = None, rules: Sequence[Rule] = DEFAULT_RULES
    ) -> None:
        self._catalogue = catalogue
        self._health = health or AlwaysHealthy()
        self._rules = rules
        self._turn = 0

    def plan(
        self,
        record: ConsumedRecord,
        event: ModelChanged | WebhookRequested,
        configuration: TenantConfiguration | PipelineError,
        decided: Decided,
        now: Micros,
    ) -> Plan:
        """The records to write for one record; in place of ``configuration`` the reason why there is none."""
        try:
            candidates = self._candidates(event, configuration, decided)
        except PipelineError as error:
            return self.give_up(record, error, now)
        options = event.options if isinstance(event, WebhookRequested) else {}
        accepted = [self._accept(each, _source(record), now) for each in candidates]
        decisions = [self._decision(record, each) for each in accepted]
        if isinstance(event, ModelChanged) and not decided.matched:
            ids = dict.fromkeys([*decided.accepted, *(each.event_id for each in accepted)])
            decisions.append(self._decision(record, matched_event(event, list(ids), _source(record), now)))
        dispatches = [
            self._dispatch(record, each, options, now, self._repeat_from(record, each, offset))
            for each, offset in decided.accepted.values()
        ]
        dispatches += [self._dispatch(record, each, options, now) for each in accepted]
        return Plan(decisions, dispatches)

    def give_up(self, record: ConsumedRecord, error: PipelineError, now: Micros) -> Plan:
        """A dead letter with the record as it was, its place and the reason; the partition then goes on."""
        reason = error.code if error.code in (UnknownTenant.code, "unroutable") else Undecodable.code
        letter = dead_letter_of(record, GROUP, reason, str(error), now)
        headers = record_headers(letter, traceparent=find_header(record.headers, "traceparent"))
        return Plan([Decision(Outgoing(self._catalogue.dead_letters, encode(letter), record.key, headers), None)])

    def _candidates(
        self,
        event: ModelChanged | WebhookRequested,
        configuration: TenantConfiguration | PipelineError,
        decided: Decided,
    ) -> list[Candidate]:
        """The events that are not decided yet."""
        # What is decided holds, whatever has become of the tenant and its configuration since.
        if decided.matched or (decided.accepted and isinstance(event, WebhookRequested)):
            return []
        if isinstance(configuration, PipelineError):
            if decided.accepted:
                return []
            raise configuration
        if isinstance(event, ModelChanged):
            found = candidates_of_change(event, configuration)
        else:
            found = [candidate_of_request(event, configuration)]
        return [each for each in found if each.event_id not in decided.accepted]

    def _accept(self, candidate: Candidate, source: Source, now: Micros) -> TaskEvent:
        health = self._health.snapshot()
        # Turns spread a key's events over tiers of equal load, which gives up their order: only worth it, and only
        # meaningful, where somebody measures loads.
        turn = self._turn if health.states else 0
        self._turn += 1
        request = RouteRequest(candidate.event_type, candidate.priority, candidate.delay_s)
        return accepted_event(candidate, route(request, self._rules, health, turn), source, now)

    def _decision(self, record: ConsumedRecord, event: TaskEvent) -> Decision:
        headers = event_headers(event, _source(record), find_header(record.headers, "traceparent"))
        # R2: what was read from partition n is decided in partition n of .events, named explicitly.
        outgoing = Outgoing(self._catalogue.events, encode(event), key_of(event), headers, record.partition)
        return Decision(outgoing, event)

    def _repeat_from(self, record: ConsumedRecord, accepted: TaskEvent, offset: int) -> bytes:
        """From where a worker must look for the task's outcome: it lies in the partition of the task's key (R1)."""
        topic = self._catalogue.specs[self._catalogue.topic(accepted.tier)]
        number = (murmur2(key_of(accepted)) & 0x7FFFFFFF) % topic.partitions
        # A source that was keyed otherwise lies in another partition, whose offsets say nothing about this one's.
        return f"{number}|{offset if number == record.partition else 0}".encode()

    def _dispatch(
        self,
        record: ConsumedRecord,
        accepted: TaskEvent,
        options: Mapping[str, str],
        now: Micros,
        repeat_from: bytes | None = None,
    ) -> Outgoing:
        """The first task to its tier, or into the schedule where it has a delay."""
        traceparent = find_header(record.headers, "traceparent")
        task = first_task(accepted, options)
        key = key_of(task)
        if accepted.delay_s:
            scheduled = delayed_task(task, accepted, self._catalogue, now)
            headers = record_headers(scheduled, traceparent=traceparent)
            return Outgoing(self._catalogue.scheduled, encode(scheduled), key, headers)
        headers = record_headers(task, traceparent=traceparent)
        if repeat_from is not None:
            headers.append(("repeat_from", repeat_from))
        return Outgoing(self._catalogue.topic(accepted.tier), encode(task), key, headers)


def _source(record: ConsumedRecord) -> Source:
    return Source(record.topic, record.partition, record.offset)
