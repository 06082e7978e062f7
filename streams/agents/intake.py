"""Intake: the one place where an event is accepted and routed (R9).

It reads changes and requests, decides for each which events they ask for and which tier takes them, writes that
decision to ``.events`` and, once it is acknowledged, the tasks to their tiers. What is found decided
is not decided anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from aiokafka.partitioner import murmur2

from handlers.call_backs import CALL_BACK_TRIGGER
from handlers.registry import PluginRegistry
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
from streams.agents.acceptance import accepted_event, called_back_event, entry_wait, first_task, key_of, matched_event
from streams.agents.coalescing import is_singleton_lane
from streams.agents.matching import Candidate, call_back_gate_of, candidate_of_request, candidates_of_change
from streams.agents.versions import plugin_text
from streams.engine.contract import ConsumedRecord
from streams.engine.outcomes import Outgoing, dead_letter_of
from streams.headers import event_headers, find_header, record_headers
from topics.catalogue import Catalogue
from topics.gates import is_coalesce_gate
from topics.health import HealthSnapshot, OwnDispatches
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
    """What ``.events`` already holds about one record: accepted events with their offsets there, and the match.

    ``matched`` also says that a call-back was recorded.
    """

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
        self,
        catalogue: Catalogue,
        health: HealthProvider | None = None,
        rules: Sequence[Rule] = DEFAULT_RULES,
        plugins: PluginRegistry | None = None,
    ) -> None:
        """``plugins`` are the installed ones; an event of another plugin is accepted without a version."""
        self._catalogue = catalogue
        self._health = health or AlwaysHealthy()
        self._rules = rules
        self._plugins = plugins or PluginRegistry()
        self._turn = 0
        self._dispatches = OwnDispatches()

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
            if isinstance(event, WebhookRequested) and event.trigger == CALL_BACK_TRIGGER:
                return self._call_back(record, event, configuration, decided, now)
            candidates = self._candidates(event, configuration, decided)
        except PipelineError as error:
            return self.give_up(record, error, now)
        options = event.options if isinstance(event, WebhookRequested) else {}
        version = self._plugin_version(configuration)
        accepted = [self._accept(each, _source(record), now, version) for each in candidates]
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

    def _call_back(
        self,
        record: ConsumedRecord,
        request: WebhookRequested,
        configuration: TenantConfiguration | PipelineError,
        decided: Decided,
        now: Micros,
    ) -> Plan:
        """Record it, once; a tenant whose configuration is broken gets its call-backs all the same."""
        if decided.matched:
            return Plan()
        if isinstance(configuration, UnknownTenant):
            raise configuration
        return Plan(
            [self._decision(record, called_back_event(request, call_back_gate_of(request), _source(record), now))]
        )

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

    def _plugin_version(self, configuration: TenantConfiguration | PipelineError) -> str | None:
        plugin = self._plugins.of(configuration) if isinstance(configuration, TenantConfiguration) else None
        return plugin_text(plugin) if plugin is not None else None

    def _accept(self, candidate: Candidate, source: Source, now: Micros, plugin_version: str | None) -> TaskEvent:
        health = self._dispatches.on_top_of(self._health.snapshot())
        # Turns spread a key's events over tiers of equal load, which gives up their order: only worth it, and only
        # meaningful, where somebody measures loads.
        turn = self._turn if health.states else 0
        self._turn += 1
        if candidate.lane is not None:
            # Its home: neither load nor health moves it, so that all that is strict about a key goes one way (R12).
            health, turn = HealthSnapshot(), 0
        request = RouteRequest(candidate.event_type, candidate.priority, candidate.delay_s)
        chosen = route(request, self._rules, health, turn)
        if not candidate.delay_s and candidate.coalescing is None:
            # What waits for its time is no load of its tier yet.
            self._dispatches.sent(chosen.tier)
        return accepted_event(candidate, chosen, source, now, plugin_version)

    def _decision(self, record: ConsumedRecord, event: TaskEvent) -> Decision:
        headers = event_headers(event, _source(record), find_header(record.headers, "traceparent"))
        # R2: what was read from partition n is decided in partition n of .events, named explicitly.
        outgoing = Outgoing(self._catalogue.events, encode(event), key_of(event), headers, record.partition)
        return Decision(outgoing, event)

    def _repeat_from(self, record: ConsumedRecord, accepted: TaskEvent, offset: int) -> bytes:
        """From where a worker must look for the task's outcome: it lies in the partition of the task's key (R1)."""
        topic = self._catalogue.specs[self._catalogue.topic(accepted.tier)]
        number = _partition_of(key_of(accepted), topic.partitions)
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
        """The first task to its tier, or into the schedule where it has a delay or a lane."""
        traceparent = find_header(record.headers, "traceparent")
        task = first_task(accepted, options)
        key = key_of(task)
        scheduled = entry_wait(task, accepted, self._catalogue, now, traceparent)
        if scheduled is not None:
            headers = record_headers(scheduled, traceparent=traceparent)
            topic, partition = self._catalogue.specs[self._catalogue.scheduled], -1
            if is_coalesce_gate(scheduled.gate) or is_singleton_lane(scheduled.lane):
                # In one partition, whatever their keys: its order says which of them is the last.
                partition = _partition_of((scheduled.gate or scheduled.lane or "").encode(), topic.partitions)
            return Outgoing(topic.name, encode(scheduled), key, headers, partition)
        headers = record_headers(task, traceparent=traceparent)
        if repeat_from is not None:
            headers.append(("repeat_from", repeat_from))
        return Outgoing(self._catalogue.topic(accepted.tier), encode(task), key, headers)


def _partition_of(key: bytes, partitions: int) -> int:
    """Where Kafka's own partitioner puts a key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def _source(record: ConsumedRecord) -> Source:
    return Source(record.topic, record.partition, record.offset)
