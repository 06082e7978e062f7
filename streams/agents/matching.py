"""From a change or a request to the events it asks for. Pure: the tenant's configuration is given."""

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import orjson

from handlers.call_backs import CALL_BACK_KEY
from handlers.payloads import LONGEST_DELAY_S
from handlers.tenants.configuration import SettingsEntry, TenantConfiguration, bare_model_name
from schemas.errors import PipelineError
from schemas.events import Micros, ModelChanged, WebhookRequested
from schemas.identifiers import derived_event_id
from schemas.limits import MAX_PAYLOAD_BYTES, MAX_STEP_RESULT_BYTES, check_json_depth
from streams.agents.coalescing import Coalescing, OneAtATime, coalescing_of, singleton_of
from streams.agents.versions import pipeline_hash
from topics.gates import call_back_gate, call_back_key_fault
from topics.keys import partition_key
from topics.routing import priority_of

_LONGEST_TEXT: Final = 1000
_LONGEST_OPTIONS: Final = 16 * 1024
_MODEL_EVENTS: Final = ("created", "updated", "deleted", "restored")
_EARLIEST: Final = 946_684_800_000_000
_LATEST: Final = 4_102_444_800_000_000
"""The years 2000 to 2100 in microseconds: seconds, milliseconds and nanoseconds of this century lie outside."""

OnExhausted: TypeAlias = Literal["skip", "halt"]
"""What a strict event that failed for good does to its lane: lets the next one go, or keeps it."""


class Unroutable(PipelineError):
    """A readable record that no event can be made of: it breaks a rule that its writer should have kept."""

    code = "unroutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One event that a record asks for, before it has a tier.

    ``accepted_at`` is the time of its cause, and so equal on every redelivery (R19). ``delay_s`` in seconds.
    ``lane`` is ``None`` for an event without strict order, else what its end does to its lane (R12). ``coalescing`` is
    ``None`` for an event that does not wait for others alike, ``singleton`` for one that may go beside others.
    """

    event_id: str
    tenant_id: str
    endpoint: str
    event_type: str
    trigger: str
    accepted_at: Micros
    payload: str
    priority: int
    delay_s: int
    model: str | None = None
    model_id: str | None = None
    settings_entry: str | None = None
    caused_by: str | None = None
    requested_by: str | None = None
    lane: OnExhausted | None = None
    pipeline_hash: str | None = None
    coalescing: Coalescing | None = None
    singleton: OneAtATime | None = None

    @property
    def key(self) -> bytes:
        """Key of its records."""
        return partition_key(self.tenant_id, self.model, self.model_id, self.event_id)


def event_type_of(model: str, model_event: str) -> str:
    """``order_created`` of ``Order`` and ``created``, ``sales_order_updated`` of ``SalesOrder`` and ``updated``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", bare_model_name(model))
    return f"{words.lower()}_{model_event}"


def candidates_of_change(change: ModelChanged, configuration: TenantConfiguration) -> list[Candidate]:
    """One candidate for each settings entry that the change matches, in the configuration's order (R9).

    Raises ``Unroutable`` that names the field of a change which cannot be used.
    """
    check_payload(change.payload)
    texts = {"change_id": change.change_id, "model": change.model, "model_id": change.model_id}
    _check_texts(**texts)
    empty = [name for name, text in texts.items() if not text]
    if empty:
        raise Unroutable(f"{empty[0]} is empty")
    if change.model_event not in _MODEL_EVENTS:
        raise Unroutable(f"model_event is {change.model_event[:100]!r}, not one of {', '.join(_MODEL_EVENTS)}")
    _check_time("occurred_at", change.occurred_at)
    entries = configuration.matching(change.model, change.model_event)
    return [_candidate_of_entry(change, entry) for entry in entries]


def _candidate_of_entry(change: ModelChanged, entry: SettingsEntry) -> Candidate:
    model = bare_model_name(change.model)
    event_type = event_type_of(model, change.model_event)
    return Candidate(
        event_id=derived_event_id(change.occurred_at, change.change_id, entry.entry_id),
        tenant_id=change.tenant_id,
        endpoint=entry.webhook_endpoint,
        event_type=event_type,
        trigger="model",
        accepted_at=change.occurred_at,
        payload=change.payload,
        priority=priority_of(
            event_type,
            model_method=change.priority,
            settings_entry=entry.priority,
            model_event=change.model_event,
        ),
        delay_s=_checked_delay(entry.delay),
        model=model,
        model_id=change.model_id,
        settings_entry=entry.entry_id,
        caused_by=change.change_id,
        pipeline_hash=pipeline_hash(entry),
        lane=entry.on_exhausted if entry.ordering == "strict" else None,
        coalescing=coalescing_of(entry, change.tenant_id, model, change.model_id, change.payload),
        singleton=singleton_of(entry, change.tenant_id, model, change.model_id, change.payload),
    )


def candidate_of_request(request: WebhookRequested, configuration: TenantConfiguration) -> Candidate:
    """The one candidate of a request; the endpoint's settings entry fills in what the caller left open.

    An endpoint without a handler is accepted all the same: its task then fails permanently and says what was tried.
    Raises ``Unroutable`` for a payload, priority or delay that the doors would have refused.
    """
    check_payload(request.payload)
    _check_time("requested_at", request.requested_at)
    _check_texts(
        event_id=request.event_id,
        endpoint=request.endpoint,
        event_type=request.event_type,
        trigger=request.trigger,
        model=request.model or "",
        model_id=request.model_id or "",
        requested_by=request.requested_by or "",
    )
    if sum(len(name) + len(value) for name, value in request.options.items()) > _LONGEST_OPTIONS:
        raise Unroutable(f"the options are longer than {_LONGEST_OPTIONS} characters together")
    entry = configuration.entry_for(request.endpoint)
    try:
        priority = priority_of(
            request.event_type, option=request.priority, settings_entry=entry.priority if entry else None
        )
    except ValueError as error:
        raise Unroutable(str(error)) from error
    delay_s = request.delay_s if request.delay_s is not None else entry.delay if entry else None
    lane, coalescing, singleton = _lane_of_request(request, entry), None, None
    if entry is not None and lane is None:
        alike = request.tenant_id, request.model, request.model_id, request.payload
        coalescing = None if delay_s else coalescing_of(entry, *alike)
        singleton = singleton_of(entry, *alike)
    return Candidate(
        event_id=request.event_id,
        tenant_id=request.tenant_id,
        endpoint=request.endpoint,
        event_type=request.event_type,
        trigger=request.trigger,
        accepted_at=request.requested_at,
        payload=request.payload,
        priority=priority,
        delay_s=_checked_delay(delay_s),
        model=request.model,
        model_id=request.model_id,
        settings_entry=entry.entry_id if entry else None,
        requested_by=request.requested_by,
        pipeline_hash=pipeline_hash(entry),
        lane=lane,
        coalescing=coalescing,
        singleton=singleton,
    )


def call_back_gate_of(request: WebhookRequested) -> str:
    """The gate that a call-back opens. Raises ``Unroutable`` for what the doors would have refused."""
    key = request.options.get(CALL_BACK_KEY)
    fault = call_back_key_fault(key)
    if fault is not None:
        raise Unroutable(fault)
    size = len(request.payload.encode())
    if size > MAX_STEP_RESULT_BYTES:
        raise Unroutable(f"the call-back has {size} bytes; at most {MAX_STEP_RESULT_BYTES} are allowed")
    check_payload(request.payload)
    _check_time("requested_at", request.requested_at)
    _check_texts(event_id=request.event_id, requested_by=request.requested_by or "")
    return call_back_gate(request.tenant_id, key or "")


def _lane_of_request(request: WebhookRequested, entry: SettingsEntry | None) -> OnExhausted | None:
    """The caller's option, else what the settings entry says. Without a model there is no key to be in order of."""
    ordering = request.options.get("ordering", entry.ordering if entry else "default")
    on_exhausted = request.options.get("on_exhausted", entry.on_exhausted if entry else "skip")
    if ordering not in ("default", "strict") or on_exhausted not in get_args(OnExhausted):
        raise Unroutable(
            f"ordering {ordering!r} with on_exhausted {on_exhausted!r}: they are default or strict, and skip or halt"
        )
    if ordering == "default" or request.model is None:
        return None
    return "halt" if on_exhausted == "halt" else "skip"


def check_payload(text: str) -> None:
    """Raise ``Unroutable`` where a payload is too large, too deep, or no JSON object."""
    data = text.encode()
    if len(data) > MAX_PAYLOAD_BYTES:
        raise Unroutable(f"the payload has {len(data)} bytes; at most {MAX_PAYLOAD_BYTES} are allowed")
    try:
        check_json_depth(text)
        value = orjson.loads(data)
    except ValueError as error:
        raise Unroutable(f"the payload is no usable JSON: {error}") from error
    if not isinstance(value, dict):
        raise Unroutable(f"the payload must be a JSON object, not {type(value).__name__}")


def _check_texts(**texts: str) -> None:
    """Texts go into several records, twice into a waiting one: bounded here, none outgrows its topic (R3)."""
    for name, text in texts.items():
        if len(text) > _LONGEST_TEXT:
            raise Unroutable(f"{name} has {len(text)} characters; at most {_LONGEST_TEXT} are allowed")


def _check_time(name: str, at: Micros) -> None:
    """A time in another unit would be no date that the projections can store."""
    if not _EARLIEST <= at < _LATEST:
        raise Unroutable(f"{name} is {at}; microseconds since 1970 are wanted, of a time from 2000 to 2100")


def _checked_delay(delay_s: int | None) -> int:
    if delay_s is None:
        return 0
    if not 0 <= delay_s <= LONGEST_DELAY_S:
        raise Unroutable(f"the delay of {delay_s} seconds is not between 0 and {LONGEST_DELAY_S}")
    return delay_s
