"""The HTTP door: triggers, events, health, and the schema registry's read side."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import orjson
import structlog
from aiohttp import web
from sqlalchemy import Engine, select

from handlers.service import PluginService
from handlers.tenants.tokens import TokenRepository
from streams.errors import SetupError
from streams.settings import Settings
from streams.web.authentication import Authenticator
from streams.web.blocking import BlockingCalls
from streams.web.events import EventReader, EventResource
from streams.web.problems import BODY_LIMIT_BYTES, Problem, answer_problems
from streams.web.registry import registry_routes
from streams.web.triggers import ENVELOPE_BYTES, TriggerResource

_log = structlog.get_logger(__name__)

_READY_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Services:
    """What the door needs from the rest of the house; composed by the command line. All of it may block."""

    engine: Engine
    plugins: PluginService
    tokens: TokenRepository
    events: EventReader


def create_app(settings: Settings, services: Services) -> web.Application:
    """The application. Its registry is left out where an external one gives the ids."""
    calls = BlockingCalls()
    authenticator = Authenticator(services.tokens, calls)
    triggers = TriggerResource(services.plugins, authenticator, calls)
    events = EventResource(services.events, authenticator, calls)
    # The cap holds while the body is read: what is over it is never parsed, nor kept.
    limit = settings.payload_limit_bytes + ENVELOPE_BYTES
    app = web.Application(middlewares=[answer_problems], client_max_size=limit)
    app[BODY_LIMIT_BYTES] = limit

    async def livez(_: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        try:
            await asyncio.wait_for(calls.run(lambda: _ask(services.engine)), _READY_WITHIN_S)
        except TimeoutError:
            raise Problem(503, "unavailable", "the database does not answer") from None
        return _json({"status": "ok", "database": "ok"})

    async def close(_: web.Application) -> AsyncIterator[None]:
        yield
        calls.close()

    app.add_routes(
        [
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.post("/v1/webhooks", triggers.post),
            web.get("/v1/events/{event_id}", events.get),
        ]
    )
    if settings.schema_registry_url is None:
        app.add_routes(registry_routes(settings.catalogue()))
    app.cleanup_ctx.append(close)
    return app


async def serve(
    settings: Settings, services: Services, stop: asyncio.Event, on_listening: Callable[[str], None] | None = None
) -> None:
    """Serve until ``stop`` is set; ``on_listening`` gets the URL once requests are taken.

    Raises ``SetupError`` where the address cannot be listened on.
    """
    runner = web.AppRunner(create_app(settings, services), access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.http_host, settings.http_port)
        try:
            await site.start()
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise SetupError(
                f"The address {settings.http_host}:{settings.http_port} cannot be listened on: {reason}.",
                "Stop what listens there, or set WEBHOOK_HTTP_PORT (0 takes a free port).",
            ) from error
        host, port = runner.addresses[0][:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _log.info("listening", url=url)
        if on_listening is not None:
            on_listening(url)
        await stop.wait()
    finally:
        await runner.cleanup()


def _ask(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(select(1))


def _json(body: dict[str, str]) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
