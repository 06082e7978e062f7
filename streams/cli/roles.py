"""``webhook intake``, ``relay``, ``project``, ``monitor`` and ``serve``: each role as a process of its own."""

import asyncio

import typer

from handlers.service import PluginService
from handlers.tenants.tokens import TokenRepository
from streams.broker.epoch import log_epoch
from streams.broker.runtime import require_real_broker, resolve
from streams.capture.backlog import Backlog
from streams.capture.gates import ControlledLimits
from streams.capture.outbox import OutboxSink
from streams.capture.relay import Relay, RelayOptions
from streams.cli.composition import make_intake, open_inbound, open_system, use_registry_ids
from streams.cli.control import caller
from streams.cli.processes import (
    leave_at_signal,
    migrated,
    opened_system,
    prepare,
    stop_at_signal,
    stop_event,
    with_examples,
)
from streams.cli.reader import HistoryReader
from streams.control.log import ControlWriter, follow_control
from streams.control.signals import SignalView
from streams.control.view import ControlView
from streams.database import create_database_engine, open_database
from streams.engine.app import run_workers, settle_memory
from streams.engine.watchdog import end_process
from streams.health.meter import HealthMeter
from streams.health.monitor import Monitor
from streams.health.seat import Seat
from streams.health.snapshots import ControlHealth
from streams.logs import configure_logs
from streams.projector import Projector
from streams.settings import Settings
from streams.waiting.reader import WaitingReader
from streams.waiting.sources import LiveSources
from streams.web.app import Services
from streams.web.app import serve as serve_http


@with_examples("webhook intake")
def intake() -> None:
    """Accept changes and requests: match them, decide each event's tier, and send it there."""
    asyncio.run(_intake(prepare("webhook intake")))


async def _intake(settings: Settings) -> None:
    view = ControlView()
    control_log = follow_control(settings, view, end_process)
    await asyncio.to_thread(control_log.start)
    async with opened_system(settings) as (system, _):
        await run_workers([make_intake(system, health=ControlHealth(view))], stop_event())
    await asyncio.to_thread(control_log.stop)


@with_examples(
    "webhook relay",
    "WEBHOOK_OUTBOX_DATABASE_URLS=postgresql://shop@db/shop webhook relay",
    "WEBHOOK_RELAY_SLICES=4 webhook relay  # up to four of them share each outbox",
)
def relay() -> None:
    """Publish the outbox and what is due of the schedule; of several relays one publishes, the others stand by.

    With WEBHOOK_RELAY_SLICES above 1, the same for all, they share each outbox in PostgreSQL by keys: one that joins
    gets its part within seconds, and the part of one that has gone is taken by the others. The schedule stays with one.
    """
    settings = prepare("webhook relay")
    use_registry_ids(settings)
    engine = migrated(open_database(settings))
    others = [create_database_engine(url.get_secret_value()) for url in settings.outbox_database_urls]
    sources = [engine, *(migrated(each, "outbox") for each in others)]
    catalogue = settings.catalogue()
    epoch = log_epoch(settings, catalogue.events)
    view = ControlView()
    control_log = follow_control(settings, view, end_process)
    control_log.start()
    signals = SignalView(settings, end_process)
    signals.start()
    limits = ControlledLimits(view, settings.tenant_gate_limit, signals.heartbeats)
    Relay(settings, catalogue, sources, engine, RelayOptions(epoch=epoch, limits=limits)).run(stop_at_signal())
    signals.stop()
    control_log.stop()


@with_examples("webhook project")
def project() -> None:
    """Fold the log into the history that `webhook events` and the views show."""
    settings = prepare("webhook project")
    use_registry_ids(settings)
    engine = migrated(open_database(settings))
    catalogue = settings.catalogue()
    settle_memory()
    Projector(settings, catalogue, engine, log_epoch(settings, catalogue.events)).run(stop_at_signal())


@with_examples("webhook monitor")
def monitor() -> None:
    """Measure the six tiers and publish their health, by which routing goes; of several monitors one does."""
    settings = prepare("webhook monitor")
    use_registry_ids(settings)
    engine = migrated(open_database(settings))
    view = ControlView()
    control_log = follow_control(settings, view, end_process)
    control_log.start()
    signals = SignalView(settings, end_process)
    signals.start()
    meter, writer = HealthMeter(settings, signals.heartbeats, view, engine), ControlWriter(settings)
    Monitor(meter, Seat(settings), view, writer, caller()).run(stop_at_signal())
    writer.close()
    signals.stop()
    control_log.stop()


@with_examples("webhook serve", "WEBHOOK_HTTP_HOST=0.0.0.0 WEBHOOK_HTTP_PORT=8080 webhook serve")
def serve() -> None:
    """Take triggers by HTTP, show events, and answer the read API of a schema registry."""
    leave_at_signal()
    settings = resolve(Settings(), kafka=False)
    configure_logs(settings)
    require_real_broker(settings, "webhook serve")
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    engine = migrated(open_database(settings))
    system = open_system(settings, engine)
    backlog = Backlog(engine, settings.outbox_limit_rows)
    sink = OutboxSink(engine, system.catalogue, is_full=backlog.is_full)
    plugins = PluginService(system.tenants, system.plugins, sink, payload_limit_bytes=settings.payload_limit_bytes)
    sources = LiveSources(settings)
    reader, waiting = HistoryReader(engine), WaitingReader(engine, sources)
    services = Services(engine, sink, plugins, TokenRepository(engine), open_inbound(system), reader, waiting)
    await serve_http(settings, services, stop_event(), lambda url: typer.echo(f"listening on {url}", err=True))
    sources.close()
