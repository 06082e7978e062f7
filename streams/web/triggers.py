"""``POST /v1/webhooks``: ask for a webhook by HTTP."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import web

from handlers.payloads import LONGEST_DELAY_S
from handlers.requests import TriggerRequest
from handlers.service import EventSink, PluginService, TriggerResult
from handlers.tenants.tokens import Scope, Token
from streams.capture.outbox import OutboxSink
from streams.web.accepting import accepted_for
from streams.web.authentication import Authenticator
from streams.web.blocking import BlockingCalls
from streams.web.bodies import parsed_object, read_bytes, require_json
from streams.web.fields import bad, known_fields, model_id, number, tenant_of, text
from streams.web.foreground import Foreground
from streams.web.idempotency import ClaimingSink, claimed_key
from streams.web.openapi import IDEMPOTENCY_KEY, MODEL_ID, TENANT, object_of
from streams.web.openapi import text as text_schema
from streams.web.routes import Answer, Route

FIELDS: Final = frozenset(
    {
        *("tenant", "endpoint", "payload", "event_type", "priority", "delay"),
        *("model", "model_id", "ordering", "on_exhausted", "dedupe", "run_async"),
    }
)
ENVELOPE_BYTES: Final = 16 * 1024
"""What a body may have beside its payload."""


_BODY: Final = {
    "type": "object",
    "required": ["endpoint", "payload"],
    "additionalProperties": False,
    "properties": {
        "tenant": TENANT,
        "endpoint": text_schema("The endpoint as configured, for example webhook/order."),
        "payload": {"type": "object", "description": "What the handler gets: at most 256 KiB, 32 levels deep."},
        "event_type": text_schema("Name of what happened; manual_trigger where it is left out.", nullable=True),
        "priority": {"type": ["integer", "null"], "minimum": 1, "maximum": 10},
        "delay": {"type": ["integer", "null"], "minimum": 0, "maximum": LONGEST_DELAY_S, "description": "Seconds."},
        "model": text_schema("Keeps the order with this row's other events; needs model_id.", nullable=True),
        "model_id": {"anyOf": [MODEL_ID, {"type": "null"}]},
        "ordering": {"enum": ["default", "strict", None], "description": "strict needs model and model_id."},
        "on_exhausted": {"enum": ["skip", "halt", None]},
        "dedupe": {
            "type": ["object", "null"],
            "description": "Triggers of the endpoint with the same key are one event, whose id all get.",
            "required": ["key"],
            "additionalProperties": False,
            "properties": {
                "key": text_schema("What they are alike in."),
                "for_s": {
                    "type": ["integer", "null"],
                    "minimum": 1,
                    "maximum": LONGEST_DELAY_S,
                    "description": "For how many seconds; left out, until the event has ended.",
                },
            },
        },
        "run_async": {"type": ["boolean", "null"], "description": "false: answer when the event has ended."},
    },
    "anyOf": [
        {
            "required": ["model", "model_id"],
            "properties": {"model": {"type": "string"}, "model_id": MODEL_ID},
        },
        {
            "properties": {
                "model": {"type": "null"},
                "model_id": {"type": "null"},
                "ordering": {"enum": ["default", None]},
            },
        },
    ],
    "examples": [{"endpoint": "webhook/order", "payload": {"id": 7}, "event_type": "order_created", "priority": 8}],
}


_ENDED: Final = Answer(
    "In the foreground: how the event has ended. `reason` says why it failed.",
    object_of(
        {
            "event_id": {"type": "string"},
            "status": {"enum": ["completed", "failed_permanently", "unknown"]},
            "result": {"type": ["object", "null"]},
            "reason": {"type": ["string", "null"]},
        }
    ),
    {"Location": {"type": "string"}},
)


class TriggerResource:
    """Takes requests for webhooks; answers 202 once a request is in the outbox, whatever Kafka is doing."""

    def __init__(
        self,
        service: PluginService,
        sink: OutboxSink,
        authenticator: Authenticator,
        calls: BlockingCalls,
        foreground: Foreground,
    ) -> None:
        self._service = service
        self._sink = sink
        self._authenticator = authenticator
        self._calls = calls
        self._foreground = foreground

    def routes(self) -> list[Route]:
        """What this resource serves."""
        accepted = Answer(
            "The request is in the outbox, whatever Kafka is doing.",
            object_of({"event_id": {"type": "string"}}),
            {"Location": {"type": "string"}},
        )
        return [
            Route(
                method="POST",
                path="/v1/webhooks",
                handler=self.post,
                name="trigger_webhook",
                tag="triggers",
                summary="Ask for a webhook",
                scope=Scope.OPERATOR,
                parameters=[IDEMPOTENCY_KEY],
                body=_BODY,
                answers={200: _ENDED, 202: accepted},
                problems=[404, 409, 422],
            )
        ]

    async def post(self, request: web.Request) -> web.Response:
        """202 ``{"event_id"}``; else a problem: 400 401 403 404 408 409 413 415 422 429 503.

        In the foreground 200 ``{"event_id", "status", "result", "reason"}``, or 202 where it has not ended in time.
        With an ``Idempotency-Key`` the same request is accepted once, and answered as it was the first time.
        """
        since = asyncio.get_running_loop().time()
        token = await self._authenticator.token_of(request, Scope.OPERATOR)
        require_json(request)
        data = await read_bytes(request)
        key, body = claimed_key(request, token, data), parsed_object(data)
        wanted, tenant = _trigger_request(body), tenant_of(body, token)
        sink = ClaimingSink(self._sink, key)
        run_async = body.get("run_async")
        if run_async is not None and not isinstance(run_async, bool):
            raise bad("run_async must be true or false")
        in_foreground, event_id = await self._calls.run(
            lambda: self._accept(_Wanted(wanted, run_async is not False), tenant, token, sink)
        )
        outcome = await self._foreground.outcome(event_id, since) if in_foreground else None
        answer = {"event_id": event_id} if outcome is None else {"event_id": event_id, **asdict(outcome)}
        return web.Response(
            status=202 if outcome is None else 200,
            body=orjson.dumps(answer),
            content_type="application/json",
            headers={"Location": f"/v1/events/{event_id}"},
        )

    def _accept(self, wanted: "_Wanted", tenant: str, token: Token, sink: EventSink) -> tuple[bool, str]:
        """Whether the outcome is awaited, and the event's id."""
        in_foreground = False

        def accept(tenant_id: str) -> TriggerResult:
            nonlocal in_foreground
            plugin = self._service.load(tenant_id)
            in_foreground = plugin.in_foreground(wanted.request.endpoint, wanted.run_async)
            return plugin.accept(wanted.request, trigger="http", requested_by=token.name, sink=sink)

        event_id = accepted_for(self._service, tenant, token, accept)
        return in_foreground, event_id


class _Wanted(NamedTuple):
    request: TriggerRequest
    run_async: bool


_TEXTS: Final = ("endpoint", "event_type", "model", "ordering", "on_exhausted")


def _trigger_request(body: Mapping[str, Any]) -> TriggerRequest:
    known_fields(body, FIELDS, ("endpoint", "payload"))
    if body["endpoint"] is None:
        raise bad("endpoint must be text")
    texts = {name: text(body, name) for name in _TEXTS}
    return TriggerRequest(
        endpoint=texts["endpoint"] or "",
        payload=body["payload"],
        event_type=texts["event_type"] or "manual_trigger",
        priority=number(body, "priority"),
        delay_s=number(body, "delay"),
        model=texts["model"],
        model_id=model_id(body),
        ordering=texts["ordering"],
        on_exhausted=texts["on_exhausted"],
        **_dedupe(body),
    )


def _dedupe(body: Mapping[str, Any]) -> dict[str, Any]:
    dedupe = body.get("dedupe")
    if dedupe is None:
        return {}
    if not isinstance(dedupe, dict):
        raise bad("dedupe must be an object with a key")
    known_fields(dedupe, ("key", "for_s"), ("key",))
    key = text(dedupe, "key")
    if key is None:
        raise bad("the key of dedupe must be text")
    return {"dedupe_key": key, "dedupe_for_s": number(dedupe, "for_s")}
