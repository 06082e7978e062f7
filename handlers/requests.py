"""A trigger before and after it is checked against what its tenant may ask for."""

from dataclasses import dataclass
from typing import Final

from handlers.contract import PluginManifest
from handlers.payloads import LONGEST_DELAY_S, Refused, one_of, payload_text, whole_number
from handlers.resolution import endpoint_name, resolve
from handlers.tenants.repository import Tenant
from schemas.errors import Permanent
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id

_ORDERINGS: Final = ("default", "strict")
_ON_EXHAUSTED: Final = ("skip", "halt")

DEDUPE_KEY: Final = "dedupe_key"
"""Option of a request: others of its tenant and endpoint with the same text are the same event."""

DEDUPE_FOR_S: Final = "dedupe_for_s"
"""Option of a request: for how long they are, seconds; without it until the event has ended."""

_LONGEST_KEY: Final = 200


@dataclass(frozen=True, slots=True)
class TriggerRequest:
    """What is asked for, before it is checked.

    ``priority`` is 1 to 10, ``delay_s`` whole seconds; ``model`` and ``model_id`` keep the order with that row's
    other events. ``ordering`` (``default``, ``strict``) and ``on_exhausted`` (``skip``, ``halt``) stand in for the
    setting's own (R12). Others with the same ``dedupe_key`` are the same event for ``dedupe_for_s`` whole seconds,
    without these until it has ended.
    """

    endpoint: str
    payload: object
    event_type: str = "manual_trigger"
    priority: object = None
    delay_s: object = None
    model: str | None = None
    model_id: str | None = None
    ordering: str | None = None
    on_exhausted: str | None = None
    dedupe_key: str | None = None
    dedupe_for_s: object = None


def checked_request(
    request: TriggerRequest, tenant: Tenant, manifest: PluginManifest, payload_limit_bytes: int
) -> WebhookRequested:
    """The event that a trigger becomes, with an id of its own. Raises ``Refused``."""
    payload = payload_text(request.payload, payload_limit_bytes)
    priority = whole_number("priority", request.priority, 1, 10)
    delay_s = whole_number("delay", request.delay_s, 0, LONGEST_DELAY_S)
    endpoint = _endpoint(request.endpoint, tenant, manifest)
    if not 0 < len(request.event_type) <= 200:
        raise Refused("bad_option", "event_type must be 1 to 200 characters")
    if (request.model is None) != (request.model_id is None):
        raise Refused("bad_option", "model and model_id belong together: give both or neither")
    if request.ordering == "strict" and request.model is None:
        raise Refused("bad_option", "strict ordering is that of a model's row: give model and model_id")
    choices = {"ordering": (request.ordering, _ORDERINGS), "on_exhausted": (request.on_exhausted, _ON_EXHAUSTED)}
    return WebhookRequested(
        event_id=new_event_id(),
        tenant_id=tenant.id,
        endpoint=endpoint,
        event_type=request.event_type,
        trigger="service",
        requested_at=now_micros(),
        payload=payload,
        priority=priority,
        delay_s=delay_s,
        model=request.model,
        model_id=request.model_id,
        options={name: one_of(name, *each) for name, each in choices.items() if each[0] is not None}
        | _dedupe_options(request),
    )


def _dedupe_options(request: TriggerRequest) -> dict[str, str]:
    key, for_s = request.dedupe_key, whole_number(DEDUPE_FOR_S, request.dedupe_for_s, 1, LONGEST_DELAY_S)
    if key is None and for_s is not None:
        raise Refused("bad_option", f"{DEDUPE_FOR_S} is for how long a {DEDUPE_KEY} holds: give one")
    if key is None:
        return {}
    if not 0 < len(key) <= _LONGEST_KEY or any(each < " " or each == "\x7f" for each in key):
        raise Refused("bad_option", f"{DEDUPE_KEY} must be 1 to {_LONGEST_KEY} characters, without control characters")
    return {DEDUPE_KEY: key} | ({} if for_s is None else {DEDUPE_FOR_S: str(for_s)})


def _endpoint(endpoint: str, tenant: Tenant, manifest: PluginManifest) -> str:
    configuration = tenant.configuration
    name = endpoint_name(endpoint, configuration)
    try:
        resolve(name, configuration, manifest)
    except Permanent as error:
        endpoints = {each.webhook_endpoint for each in configuration.webhook_settings}
        endpoints |= configuration.route_handlers.keys()
        listed = ", ".join(sorted(endpoints)) or "none"
        raise Refused("unknown_endpoint", f"{error}. Configured endpoints: {listed}") from None
    return name
