"""Call-backs: what somebody outside tells a handler that waits for it (``handlers.results.Wait``)."""

from typing import Final

from handlers.payloads import Refused, payload_text
from schemas.events import WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from schemas.limits import MAX_STEP_RESULT_BYTES
from topics.gates import call_back_key_fault

CALL_BACK_TRIGGER: Final = "call_back"
"""Trigger of a request that is a call-back."""

CALL_BACK_KEY: Final = "key"
"""Option of such a request: the key that the handler waits with."""


def call_back_request(
    tenant_id: str, key: object, payload: object, requested_by: str | None, call_back_id: str | None = None
) -> WebhookRequested:
    """The request that says it; its payload becomes the result of the step that waits, so it is bounded as one.

    Raises ``Refused``. ``call_back_id`` (a UUID) lets a caller that had no answer say the same again.
    """
    fault = call_back_key_fault(key)
    if fault is not None:
        raise Refused("bad_option", fault)
    return WebhookRequested(
        event_id=call_back_id or new_event_id(),
        tenant_id=tenant_id,
        endpoint="",
        event_type=CALL_BACK_TRIGGER,
        trigger=CALL_BACK_TRIGGER,
        requested_at=now_micros(),
        payload=payload_text(payload, MAX_STEP_RESULT_BYTES),
        options={CALL_BACK_KEY: str(key)},
        requested_by=requested_by,
    )
