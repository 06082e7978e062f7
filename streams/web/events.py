"""``GET /v1/events/{id}``: one event with its attempts, for those whose tenant it is."""

from collections.abc import Mapping
from typing import Any, Protocol

import orjson
from aiohttp import web

from handlers.tenants.tokens import Scope
from projections.queries import AttemptView, EventDetail
from streams.web.authentication import Authenticator
from streams.web.blocking import BlockingCalls
from streams.web.fields import event_id_of
from streams.web.openapi import EVENT_ID, object_of, schema_of
from streams.web.problems import Problem
from streams.web.routes import Answer, Route


class EventReader(Protocol):
    """Reads the history."""

    def event(self, event_id: str, tenant_id: str | None) -> Mapping[str, Any] | None:
        """The event with its attempts, ready for JSON; only of that tenant, where one is named. Blocks."""


class EventResource:
    """Shows events."""

    def __init__(self, reader: EventReader, authenticator: Authenticator, calls: BlockingCalls) -> None:
        self._reader = reader
        self._authenticator = authenticator
        self._calls = calls

    def routes(self) -> list[Route]:
        """What this resource serves."""
        attempts = {"type": "array", "items": schema_of(AttemptView)}
        event = schema_of(EventDetail)
        shown = object_of({**event["properties"], "attempts": attempts})
        return [
            Route(
                method="GET",
                path="/v1/events/{event_id}",
                handler=self.get,
                name="get_event",
                tag="events",
                summary="What became of an event",
                scope=Scope.VIEWER,
                parameters=[EVENT_ID],
                answers={200: Answer("The event with its attempts.", shown)},
                problems=[404],
            )
        ]

    async def get(self, request: web.Request) -> web.Response:
        """200 with the event; 404 also for another tenant's, and shortly after acceptance for one not yet recorded."""
        token = await self._authenticator.token_of(request, Scope.VIEWER)
        event_id = event_id_of(request)
        found = await self._calls.run(lambda: self._reader.event(event_id, token.tenant_id))
        if found is None:
            raise Problem(404, "unknown_event", f"no event {event_id:.80} is recorded within this token's reach")
        return web.Response(body=orjson.dumps(found), content_type="application/json")
