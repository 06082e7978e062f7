"""The HTTP door: triggers, events, health, and the schema registry's read side."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
from aiohttp import web
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from handlers.service import OutcomeReader, PluginService
from handlers.tenants.inbound_sources import SourceRepository
from handlers.tenants.tokens import TokenRepository
from streams.background import run_in_background
from streams.capture import dedupe
from streams.capture.outbox import OutboxSink
from streams.errors import SetupError
from streams.settings import Settings
from streams.waiting.reader import WaitingReader
from streams.web.authentication import Authenticator
from streams.web.blocking import BlockingCalls
from streams.web.call_backs import CallBackResource
from streams.web.changes import ChangeResource
from streams.web.events import EventReader, EventResource
from streams.web.foreground import Foreground
from streams.web.health import HealthResource
from streams.web.idempotency import prune
from streams.web.inbound import InboundResource
from streams.web.inbound_deliveries import prune_deliveries
from streams.web.openapi import documented
from streams.web.problems import BODY_LIMIT_BYTES, Problem, answer_problems
from streams.web.rate_limit import Rates
from streams.web.registry import registry_routes
from streams.web.triggers import ENVELOPE_BYTES, TriggerResource
from streams.web.waiting import WaitingResource

_log = structlog.get_logger(__name__)

_PRUNE_EVERY_S = 600.0


class History(EventReader, OutcomeReader, Protocol):
    """Reads the history: events, and how they have ended."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the door needs from the rest of the house; composed by the command line. All of it may block."""

    engine: Engine
    sink: OutboxSink
    plugins: PluginService
    tokens: TokenRepository
    sources: SourceRepository
    history: History
    waiting: WaitingReader


def create_app(settings: Settings, services: Services) -> web.Application:
    """The application. Its registry is left out where an external one gives the ids."""
    calls = BlockingCalls()
    authenticator = Authenticator(services.tokens, calls, Rates("token", settings.http_token_rate_per_s))
    foreground = Foreground(services.history, calls, settings.http_foreground_s)
    triggers = TriggerResource(services.plugins, services.sink, authenticator, calls, foreground)
    changes = ChangeResource(services.plugins, services.sink, authenticator, calls, settings.payload_limit_bytes)
    call_backs = CallBackResource(services.plugins, authenticator, calls)
    rates = Rates("source", settings.http_source_rate_per_s)
    inbound = InboundResource(services.plugins, services.sink, services.sources, calls, rates)
    events = EventResource(services.history, authenticator, calls)
    waiting = WaitingResource(services.waiting, authenticator, calls)
    # The cap holds while the body is read: what is over it is never parsed, nor kept.
    limit = settings.payload_limit_bytes + ENVELOPE_BYTES
    app = web.Application(middlewares=[answer_problems], client_max_size=limit)
    app[BODY_LIMIT_BYTES] = limit

    async def close_foreground(_: web.Application) -> None:
        foreground.close()

    async def attend(_: web.Application) -> AsyncIterator[None]:
        work = _prune_regularly(services.engine, calls)
        # Without it they are kept too long: no reason to take nothing more.
        pruning = run_in_background("prune keys and deliveries", work, lambda *_: None)
        yield
        pruning.cancel()
        calls.close()

    routes = [*HealthResource(services.engine, calls).routes()]
    for resource in (triggers, changes, call_backs, inbound, events, waiting):
        routes += resource.routes()
    if settings.schema_registry_url is None:
        routes += registry_routes(settings.catalogue())
    app.add_routes([route.served() for route in documented(routes)])
    app.on_shutdown.append(close_foreground)
    app.cleanup_ctx.append(attend)
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


async def _prune_regularly(engine: Engine, calls: BlockingCalls) -> None:
    while True:
        await asyncio.sleep(_PRUNE_EVERY_S)
        try:
            await calls.run(lambda: prune(engine))
            await calls.run(lambda: prune_deliveries(engine))
            await calls.run(lambda: dedupe.prune(engine))
        except (SQLAlchemyError, Problem) as error:
            # What was not forgotten now is forgotten the next time.
            _log.warning("old keys and deliveries were not removed", error=str(error))
