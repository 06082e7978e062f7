"""``GET /v1/waiting`` and ``GET /v1/events/{id}/waiting``: why events have not ended, for those whose they are."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import orjson
from aiohttp import web

from handlers.tenants.tokens import Scope, Token
from projections.queries import MAX_LIMIT
from projections.waiting import REASONS
from streams.waiting.reader import Asked, EventWaiting, Page, UnknownEvent, WaitingReader
from streams.web.authentication import Authenticator
from streams.web.blocking import BlockingCalls
from streams.web.fields import PRINTABLE, event_id_of, is_printable
from streams.web.openapi import EVENT_ID, schema_of
from streams.web.problems import Problem
from streams.web.routes import Answer, Parameter, Route
from topics.tiers import TIERS

_PARAMETERS: Final = ("tenant", "tier", "reason", "limit", "after")
_LIMIT: Final = 100
_DOCUMENTED: Final = [
    Parameter(name=name, place="query", description=description, schema=schema)
    for name, description, schema in (
        ("tenant", "Only of this tenant, by id.", {"type": "string", "pattern": PRINTABLE}),
        ("tier", "Only of this tier.", {"enum": list(TIERS)}),
        ("reason", "Only with this reason.", {"enum": list(REASONS)}),
        ("limit", "At most so many.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": _LIMIT}),
        ("after", "The `next` of the page before.", {"type": "string", "pattern": PRINTABLE}),
    )
]


class WaitingResource:
    """Shows events that have not ended; a token of a tenant sees its own."""

    def __init__(self, reader: WaitingReader, authenticator: Authenticator, calls: BlockingCalls) -> None:
        self._reader = reader
        self._authenticator = authenticator
        self._calls = calls

    def routes(self) -> Sequence[Route]:
        """What this resource serves."""
        return [
            Route(
                method="GET",
                path="/v1/events/{event_id}/waiting",
                handler=self.get,
                name="get_waiting_event",
                tag="events",
                summary="Why an event has not ended",
                scope=Scope.VIEWER,
                parameters=[EVENT_ID],
                answers={200: Answer("Its one reason; null for an event that has ended.", schema_of(EventWaiting))},
                problems=[404],
            ),
            Route(
                method="GET",
                path="/v1/waiting",
                handler=self.list,
                name="list_waiting_events",
                tag="events",
                summary="Events that have not ended, each with its one reason",
                scope=Scope.VIEWER,
                parameters=_DOCUMENTED,
                answers={200: Answer("A page, in order of acceptance.", schema_of(Page))},
                problems=[400, 404],
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """200 ``{"waiting", "next", "live"}``, in order of acceptance; ``next`` is the next page's ``after``.

        A page of one reason may be short, or empty, although others follow.
        ``live`` is false where only the history could be asked. 400 for what no parameter can be, 404 for an ``after``
        or a tenant out of reach.
        """
        token = await self._authenticator.token_of(request, Scope.VIEWER)
        asked, limit = _asked(request, token), _limit(request)
        try:
            page = await self._calls.run(lambda: self._reader.page(asked, limit))
        except UnknownEvent as error:
            raise Problem(404, "unknown_event", f"{error} within this token's reach") from None
        return _json(asdict(page))

    async def get(self, request: web.Request) -> web.Response:
        """200 ``{"event_id", "status", "waiting"}``, ``waiting`` null for one that has ended; 404 as for the event."""
        token = await self._authenticator.token_of(request, Scope.VIEWER)
        event_id = event_id_of(request)
        try:
            found = await self._calls.run(lambda: self._reader.event(event_id, token.tenant_id))
        except UnknownEvent as error:
            raise Problem(404, "unknown_event", f"{error} within this token's reach") from None
        return _json(asdict(found))


def _asked(request: web.Request, token: Token) -> Asked:
    query = request.query
    unknown = sorted(set(query) - set(_PARAMETERS))
    if unknown:
        raise _bad(f"unknown parameter {unknown[0]!r:.80}; known are {', '.join(_PARAMETERS)}")
    odd = next((name for name, value in query.items() if not is_printable(value)), None)
    if odd is not None:
        raise _bad(f"{odd} must be text without control characters")
    tenant, tier, reason = query.get("tenant", token.tenant_id), query.get("tier"), query.get("reason")
    if tenant is not None and not token.reaches(tenant):
        raise Problem(404, "unknown_tenant", f"no tenant {tenant!r:.80} is within this token's reach")
    if tier is not None and tier not in TIERS:
        raise _bad(f"no tier {tier!r:.80}; tiers are {', '.join(TIERS)}")
    if reason is not None and reason not in REASONS:
        raise _bad(f"no reason {reason!r:.80}; reasons are {', '.join(REASONS)}")
    return Asked(tenant_id=tenant, tier=tier, reason=reason, after=query.get("after"))


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise _bad(f"limit must be a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _bad(detail: str) -> Problem:
    return Problem(400, "bad_parameter", detail)


def _json(body: object) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
