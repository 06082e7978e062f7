"""``GET /livez`` and ``/readyz``: for probes."""

import asyncio
from typing import Final

import orjson
from aiohttp import web
from sqlalchemy import Engine, select

from streams.web.blocking import BlockingCalls
from streams.web.openapi import object_of
from streams.web.problems import Problem
from streams.web.routes import Answer, Route

_READY_WITHIN_S: Final = 2.0
_OK: Final = {"const": "ok"}


class HealthResource:
    """Says whether the process lives, and whether it can take requests."""

    def __init__(self, engine: Engine, calls: BlockingCalls) -> None:
        self._engine = engine
        self._calls = calls

    def routes(self) -> list[Route]:
        """What this resource serves."""
        return [
            Route(
                method="GET",
                path="/livez",
                handler=self.livez,
                name="livez",
                tag="service",
                summary="Whether the process lives",
                answers={200: Answer("It does.", object_of({"status": _OK}))},
            ),
            Route(
                method="GET",
                path="/readyz",
                handler=self.readyz,
                name="readyz",
                tag="service",
                summary="Whether it can take requests",
                answers={200: Answer("It can.", object_of({"status": _OK, "database": _OK}))},
                problems=[503],
            ),
        ]

    async def livez(self, _: web.Request) -> web.Response:
        """200, always."""
        return _json({"status": "ok"})

    async def readyz(self, _: web.Request) -> web.Response:
        """200 where the database answers, else 503."""
        try:
            await asyncio.wait_for(self._calls.run(self._ask), _READY_WITHIN_S)
        except TimeoutError:
            raise Problem(503, "unavailable", "the database does not answer") from None
        return _json({"status": "ok", "database": "ok"})

    def _ask(self) -> None:
        with self._engine.connect() as connection:
            connection.execute(select(1))


def _json(body: dict[str, str]) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
