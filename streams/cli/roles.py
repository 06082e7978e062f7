"""``webhook work``, ``intake``, ``relay``, ``project`` and ``serve``: each role as a process of its own."""

import asyncio
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Final

import structlog
import typer
from sqlalchemy import Engine

from handlers.outbound import GuardedClient
from handlers.service import PluginService
from handlers.tenants.tokens import TokenRepository
from streams.broker.connection import admin_client
from streams.broker.epoch import log_epoch
from streams.broker.runtime import require_real_broker, resolve
from streams.capture.outbox import OutboxSink
from streams.capture.relay import Relay, RelayOptions
from streams.cli.composition import (
    System,
    check_topics,
    make_intake,
    make_tier,
    open_database,
    open_system,
    use_registry_ids,
)
from streams.cli.reader import HistoryReader
from streams.database import check_migrations, create_database_engine
from streams.engine.app import WorkerApp, run_workers
from streams.errors import SetupError
from streams.logs import configure_logs
from streams.projector import Projector
from streams.settings import Settings
from streams.web.app import Services
from streams.web.app import serve as serve_http
from topics.tiers import TIERS

_log = structlog.get_logger(__name__)

EXIT_CODES: Final = (
    "\n\nIt stops in order at SIGTERM or Ctrl-C: what runs is finished or handed over, then it leaves.\n\n"
    "Exit codes: 0 stopped, 1 crashed, 2 set-up (broker, topics, database, migrations, settings), "
    "70 it could not go on and ended at once so that nothing is lost."
)
_SHORT_NAMES: Final = {name.removeprefix("webhook-"): name for name in TIERS}


def work(
    tiers: Annotated[list[str], typer.Argument(metavar="TIER...", help=f"Tiers: {', '.join(TIERS)}, or all.")],
) -> None:
    """Carry out the tasks of one or more tiers; start it as often as a tier needs workers."""
    names = _tier_names(tiers)
    settings = _prepare("webhook work")

    def apps(system: System, http: GuardedClient) -> Sequence[WorkerApp]:
        return [make_tier(system, name, http) for name in names]

    asyncio.run(_run_apps(settings, apps))


def intake() -> None:
    """Accept changes and requests: match them, decide each event's tier, and send it there."""
    settings = _prepare("webhook intake")
    asyncio.run(_run_apps(settings, lambda system, _http: [make_intake(system)]))


def relay() -> None:
    """Publish the outbox and what is due of the schedule; of several relays one publishes, the others stand by."""
    settings = _prepare("webhook relay")
    use_registry_ids(settings)
    engine = _migrated(open_database(settings))
    others = [create_database_engine(url.get_secret_value()) for url in settings.outbox_database_urls]
    sources = [engine, *(_migrated(each, "outbox") for each in others)]
    catalogue = settings.catalogue()
    epoch = log_epoch(settings, catalogue.events)
    publisher = Relay(settings, catalogue, sources, engine, RelayOptions(epoch=epoch))
    publisher.run(_stop_at_signal())


def project() -> None:
    """Fold the log into the history that `webhook events` and the views show."""
    settings = _prepare("webhook project")
    use_registry_ids(settings)
    engine = _migrated(open_database(settings))
    catalogue = settings.catalogue()
    Projector(settings, catalogue, engine, log_epoch(settings, catalogue.events)).run(_stop_at_signal())


def serve() -> None:
    """Take triggers by HTTP, show events, and answer the read API of a schema registry."""
    settings = resolve(Settings(), kafka=False)
    configure_logs(settings)
    require_real_broker(settings, "webhook serve")
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    engine = _migrated(open_database(settings))
    system = open_system(settings, engine)
    sink = OutboxSink(engine, system.catalogue)
    plugins = PluginService(system.tenants, system.plugins, sink, payload_limit_bytes=settings.payload_limit_bytes)
    services = Services(engine, plugins, TokenRepository(engine), HistoryReader(engine))
    await serve_http(settings, services, _stop_event(), lambda url: typer.echo(f"listening on {url}", err=True))


async def _run_apps(settings: Settings, make: Callable[[System, GuardedClient], Sequence[WorkerApp]]) -> None:
    """Run Faust apps until a signal. The database is looked at now; later it may be away."""
    system = open_system(settings, _migrated(open_database(settings)))
    for broken in system.plugins.broken:
        _log.error("a plugin is broken and left out", plugin=broken.name, reason=broken.reason)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(GuardedClient(settings.outbound_allow))
        await run_workers(make(system, http), _stop_event())


def _prepare(command: str) -> Settings:
    """Settings of a role that works on a real Kafka whose topics are there. Raises ``SetupError``."""
    settings = resolve(Settings())
    configure_logs(settings)
    require_real_broker(settings, command)
    check_topics(admin_client(settings), settings)
    return settings


def _migrated(engine: Engine, *branches: str) -> Engine:
    if branches:
        check_migrations(engine, branches)
    else:
        check_migrations(engine)
    return engine


def _tier_names(given: Sequence[str]) -> list[str]:
    if "all" in given:
        return list(TIERS)
    names = [_SHORT_NAMES.get(name, name) for name in given]
    unknown = [name for name in names if name not in TIERS]
    if unknown:
        raise SetupError(f"There is no tier {unknown[0]!r}.", f"Tiers are: {', '.join(TIERS)}, or `all`.")
    return list(dict.fromkeys(names))


def _stop_event() -> asyncio.Event:
    """Set by SIGTERM and SIGINT, on the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def _stop_at_signal() -> threading.Event:
    """The same for a role that runs in the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def add_roles(app: typer.Typer) -> None:
    """Add the five commands, each with its examples and exit codes."""
    examples: dict[Callable[..., None], Sequence[str]] = {
        work: ("webhook work webhook-high", "webhook work high beanstalk redis", "webhook work all"),
        intake: ("webhook intake",),
        relay: ("webhook relay", "WEBHOOK_OUTBOX_DATABASE_URLS=postgresql://shop@db/shop webhook relay"),
        project: ("webhook project",),
        serve: ("webhook serve", "WEBHOOK_HTTP_HOST=0.0.0.0 WEBHOOK_HTTP_PORT=8080 webhook serve"),
    }
    for command, lines in examples.items():
        shown = "".join(f"\n\n  {line}" for line in lines)
        app.command(help=f"{command.__doc__}\n\n[bold]Examples[/bold]{shown}{EXIT_CODES}")(command)
