"""``POST /v1/call-backs/{key}``: tell a handler that waits what it waits for."""

from typing import Any

import orjson
from aiohttp import web

from handlers.service import PluginService
from handlers.tenants.tokens import Scope, Token
from streams.web.accepting import accepted_for
from streams.web.authentication import Authenticator
from streams.web.blocking import BlockingCalls
from streams.web.bodies import read_object
from streams.web.fields import PRINTABLE, bad, is_printable
from streams.web.openapi import object_of
from streams.web.problems import Problem
from streams.web.routes import Answer, Parameter, Route
from topics.gates import LONGEST_KEY


class CallBackResource:
    """Takes call-backs; answers 202 once one is in the outbox, whether or not anybody waits for it yet."""

    def __init__(self, service: PluginService, authenticator: Authenticator, calls: BlockingCalls) -> None:
        self._service = service
        self._authenticator = authenticator
        self._calls = calls

    def routes(self) -> list[Route]:
        """What this resource serves."""
        key = Parameter(
            name="key",
            place="path",
            description="What the handler waits with: printable text.",
            schema={"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
        )
        tenant = Parameter(
            name="tenant",
            place="query",
            description="The tenant: its id or a hostname; needed with a token for all tenants.",
            schema={"type": "string", "pattern": PRINTABLE},
        )
        accepted = Answer("The call-back is in the outbox.", object_of({"call_back_id": {"type": "string"}}))
        return [
            Route(
                method="POST",
                path="/v1/call-backs/{key:.+}",
                handler=self.post,
                name="call_back",
                tag="triggers",
                summary="Tell a handler that waits what it waits for",
                scope=Scope.OPERATOR,
                parameters=[key, tenant],
                body={"type": "object", "description": "The result of the step that waits: at most 48 KiB."},
                answers={202: accepted},
                problems=[404, 422],
            )
        ]

    async def post(self, request: web.Request) -> web.Response:
        """202 ``{"call_back_id"}``; else a problem: 400 401 403 404 413 415 422 503. The body is the payload.

        The tenant is the token's own; with a token for all tenants, the query's ``tenant``: an id or a hostname.
        """
        token = await self._authenticator.token_of(request, Scope.OPERATOR)
        tenant = request.query.get("tenant", token.tenant_id)
        if not tenant:
            raise Problem(422, "missing_field", "this token is for all tenants: name one with ?tenant=")
        if not is_printable(tenant):
            raise bad("tenant must be an id or a hostname")
        payload = await read_object(request)
        call_back_id = await self._calls.run(lambda: self._accept(tenant, request.match_info["key"], payload, token))
        body = orjson.dumps({"call_back_id": call_back_id})
        return web.Response(status=202, body=body, content_type="application/json")

    def _accept(self, tenant: str, key: str, payload: dict[str, Any], token: Token) -> str:
        return accepted_for(
            self._service,
            tenant,
            token,
            lambda tenant_id: self._service.call_back(tenant_id, key, payload, requested_by=token.name),
        )
