"""Every role in this one process: what ``webhook up`` and ``webhook demo`` run."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

import structlog
from sqlalchemy import Engine

from handlers.outbound import GuardedClient
from handlers.registry import PluginRegistry
from handlers.service import PluginService
from handlers.tenants.tokens import TokenRepository
from streams.agents.bounded import Room
from streams.agents.confirming import ProjectedIntents
from streams.agents.intents import Confirm
from streams.agents.tier import TierProcessor
from streams.agents.versions import versions_of
from streams.background import OnCrash, run_in_background
from streams.broker.connection import admin_client
from streams.capture.backlog import Backlog
from streams.capture.budget import Budget, committed_offsets
from streams.capture.gates import ControlledLimits
from streams.capture.outbox import OutboxSink
from streams.capture.relay import Relay, RelayOptions
from streams.cli.composition import System, make_intake, make_tier, open_inbound, open_system
from streams.cli.reader import HistoryReader
from streams.control.heartbeats import controlled
from streams.control.log import ControlWriter, follow_control
from streams.control.store import ControlStore
from streams.control.view import ControlView
from streams.database import create_database_engine
from streams.engine.app import WorkerApp, run_workers
from streams.engine.watchdog import EXIT_CODE
from streams.errors import SetupError
from streams.projector import Projector
from streams.settings import Settings
from streams.waiting.reader import WaitingReader
from streams.waiting.sources import LiveSources
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
        """Raise ``SetupError`` with exit code 70 where a role could not go on."""
        if self.failure is not None:
            text = f"A role could not go on: {self.failure}"
            hint = "Nothing is lost: what was under way goes on at the next start. The log says more."
            raise SetupError(text, hint, EXIT_CODE) from self.failure


@asynccontextmanager
async def running_pipeline(settings: Settings, engine: Engine, epoch: str, embedded: bool) -> AsyncIterator[Pipeline]:
    """Run intake, the six tiers, relay, projector and the HTTP door, until the block ends.

    ``settings`` are resolved, ``engine`` is migrated and topics exist. ``epoch`` is the log's identity (R20).
    ``embedded``: producers keep to the embedded broker's room (R21). Raises ``SetupError`` where the door cannot open.
    """
    system = open_system(settings, engine)
    catalogue = system.catalogue
    budget = Budget(catalogue, committed_offsets(admin_client(settings), catalogue)) if embedded else None
    view = ControlView()
    limits = ControlledLimits(view, settings.tenant_gate_limit, partial(_own_workers, system.plugins))
    relay = Relay(settings, catalogue, [engine], engine, RelayOptions(epoch=epoch, budget=budget, limits=limits))
    sink = OutboxSink(engine, catalogue, relay.wake, Backlog(engine, settings.outbox_limit_rows).is_full)
    loop, stop, halt = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(GuardedClient(settings.outbound_allow))
        history = HistoryReader(engine)
        limit = settings.payload_limit_bytes
        service = PluginService(system.tenants, system.plugins, sink, http, limit, history)
        pipeline = Pipeline(system, service, TokenRepository(engine), relay, "", stop)

        def crashed(name: str, error: BaseException) -> None:
            log.critical("role crashed", role=name, error=repr(error))
            pipeline.failure = pipeline.failure or error
            loop.call_soon_threadsafe(stop.set)

        await _follow(settings, view, ControlStore(engine) if embedded else None, crashed, stack)
        projector, confirm = _projection(system, epoch, embedded, stack)
        threads = [
            run_in_background("projector", lambda: projector.run(halt), crashed),
            run_in_background("relay", lambda: relay.run(halt), crashed),
        ]

        def make_apps() -> list[WorkerApp]:
            room = Room(budget, catalogue, crashed) if budget is not None else None
            return [
                make_intake(system, crashed, budget),
                *(make_tier(system, tier, http, crashed, confirm, room) for tier in TIERS),
            ]

        sources = LiveSources(settings, view)
        stack.push_async_callback(asyncio.to_thread, sources.close)
        waiting = WaitingReader(engine, sources)
        services = Services(engine, sink, service, pipeline.tokens, open_inbound(system), history, waiting)
        listening: asyncio.Future[str] = loop.create_future()
        door = asyncio.create_task(serve(settings, services, stop, listening.set_result), name="serve")
        workers = run_in_background("workers", _keep_working(make_apps, system, view, stop, crashed), crashed)
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


class _OwnWorker(NamedTuple):
    """A worker of this process, which needs no heartbeat to be known."""

    tier: str
    partitions: Sequence[int]
    versions: Mapping[str, str]
    accepts: Mapping[str, str]


def _own_workers(plugins: PluginRegistry) -> list[_OwnWorker]:
    return [_OwnWorker(tier, (0,), *versions_of(plugins)) for tier in TIERS]


def _projection(system: System, epoch: str, embedded: bool, stack: AsyncExitStack) -> tuple[Projector, Confirm | None]:
    """The projector, and in embedded mode what waits for it before an at-most-once handler acts (R6)."""
    if not embedded:
        return Projector(system.settings, system.catalogue, system.engine, epoch), None
    # A loss of power must not take an intent away again.
    durable = create_database_engine(system.engine.url.render_as_string(hide_password=False), durable=True)
    stack.callback(durable.dispose)
    intents = ProjectedIntents(system.catalogue.events)
    return Projector(system.settings, system.catalogue, durable, epoch, intents.written), intents.confirm


async def _follow(
    settings: Settings, view: ControlView, store: ControlStore | None, crashed: OnCrash, stack: AsyncExitStack
) -> None:
    """Keep in ``view`` what `.control` says, until ``stack`` ends."""
    if store is not None:
        # The broker's log is new: what holds is said again before anything is fetched (R18).
        writer = ControlWriter(settings)
        await asyncio.to_thread(writer.write, store.load())
        writer.close()
    control_log = follow_control(settings, view, crashed)
    await asyncio.to_thread(control_log.start)
    stack.push_async_callback(asyncio.to_thread, control_log.stop)


async def _keep_working(
    make_apps: Callable[[], Sequence[WorkerApp]],
    system: System,
    view: ControlView,
    stop: asyncio.Event,
    crashed: OnCrash,
) -> None:
    """Run the workers until ``stop``; at a request to restart they end in order and begin anew, all of them."""
    while not stop.is_set():
        apps = make_apps()
        workers = [(app, app.processor) for app in apps if isinstance(app.processor, TierProcessor)]
        leave = asyncio.Event()
        stopped = asyncio.create_task(_set_after(stop, leave))
        async with controlled(system.settings, workers, view, system.plugins, leave.set, crashed):
            await run_workers(apps, leave)
        stopped.cancel()
        if not stop.is_set():
            log.info("the workers have ended and begin anew")


async def _set_after(first: asyncio.Event, then: asyncio.Event) -> None:
    await first.wait()
    then.set()
