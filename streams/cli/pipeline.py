"""Every role in this one process: what ``webhook up`` and ``webhook demo`` run."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import Engine

from handlers.outbound import GuardedClient
from handlers.service import PluginService
from handlers.tenants.tokens import TokenRepository
from streams.background import run_in_background
from streams.broker.connection import admin_client
from streams.capture.budget import Budget, committed_offsets
from streams.capture.outbox import OutboxSink
from streams.capture.relay import Relay, RelayOptions
from streams.cli.composition import System, make_intake, make_tier, open_system
from streams.cli.reader import HistoryReader
from streams.engine.app import run_workers
from streams.projector import Projector
from streams.settings import Settings
from streams.web.app import Services, serve
from topics.tiers import TIERS

log = structlog.get_logger(__name__)

_END_S: Final = 20.0


@dataclass(slots=True)
class Pipeline:
    """A running pipeline. ``url`` is where its HTTP door listens; ``stop`` ends it, also when a role crashes."""

    system: System
    service: PluginService
    tokens: TokenRepository
    relay: Relay
    url: str
    stop: asyncio.Event
    failure: BaseException | None = None

    @property
    def engine(self) -> Engine:
        """The database of system, projections and outbox."""
        return self.system.engine

    def raise_failure(self) -> None:
        """Raise what crashed, if a role did."""
        if self.failure is not None:
            raise RuntimeError(f"a role crashed: {self.failure}") from self.failure


@asynccontextmanager
async def running_pipeline(settings: Settings, engine: Engine, epoch: str, embedded: bool) -> AsyncIterator[Pipeline]:
    """Run intake, the six tiers, relay, projector and the HTTP door, until the block ends.

    ``settings`` are resolved, ``engine`` is migrated and topics exist. ``epoch`` is the log's identity (R20).
    ``embedded``: producers keep to the embedded broker's room (R21). Raises ``SetupError`` where the door cannot open.
    """
    system = open_system(settings, engine)
    catalogue = system.catalogue
    budget = Budget(catalogue, committed_offsets(admin_client(settings), catalogue)) if embedded else None
    relay = Relay(settings, catalogue, [engine], engine, RelayOptions(epoch=epoch, budget=budget))
    sink = OutboxSink(engine, catalogue, relay.wake)
    loop, stop, halt = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(GuardedClient(settings.outbound_allow))
        service = PluginService(system.tenants, system.plugins, sink, http, settings.payload_limit_bytes)
        pipeline = Pipeline(system, service, TokenRepository(engine), relay, "", stop)

        def crashed(name: str, error: BaseException) -> None:
            log.critical("role crashed", role=name, error=repr(error))
            pipeline.failure = pipeline.failure or error
            loop.call_soon_threadsafe(stop.set)

        projector = Projector(settings, catalogue, engine, epoch)
        threads = [
            run_in_background("projector", lambda: projector.run(halt), crashed),
            run_in_background("relay", lambda: relay.run(halt), crashed),
        ]
        apps = [make_intake(system, crashed, budget), *(make_tier(system, tier, http, crashed) for tier in TIERS)]
        services = Services(engine, service, pipeline.tokens, HistoryReader(engine))
        listening: asyncio.Future[str] = loop.create_future()
        door = asyncio.create_task(serve(settings, services, stop, listening.set_result), name="serve")
        workers = run_in_background("workers", run_workers(apps, stop), crashed)
        try:
            # A door that cannot open raises what a person can act on, so it is awaited and not watched.
            await asyncio.wait([listening, door], return_when=asyncio.FIRST_COMPLETED)  # type: ignore[type-var]
            if not listening.done():
                await door
            pipeline.url = listening.result()
            yield pipeline
        finally:
            stop.set()
            await asyncio.wait([door, workers])
            halt.set()
            for thread in threads:
                await asyncio.to_thread(thread.join, _END_S)
