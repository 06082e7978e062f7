"""``webhook demo``: a day of a small print shop through the whole system, and an audit of it."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Final

import typer
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from projections.migrate import upgrade
from projections.queries import recent_events
from streams.broker import local, provision
from streams.broker.connection import admin_config
from streams.broker.epoch import log_epoch
from streams.cli.console import say, show, show_json
from streams.cli.demo_audit import Audit, audit, finished_events, tier_counts
from streams.cli.embedded import embedded_installation, shop_upstream
from streams.cli.pipeline import Pipeline, running_pipeline
from streams.cli.print_shop import Journal, open_shop, run_shop
from streams.database import create_database_engine
from streams.logs import configure_logs
from streams.settings import Settings

ORDERS: Final = 1000
TRIGGERS: Final = 100
_WITHOUT_PROGRESS_S: Final = 30.0
_POLL_S: Final = 0.1
_SHOWN: Final = 6


@dataclass
class Day:
    """What was done: the shop's journal, and the ids of the manual triggers."""

    journal: Journal = field(default_factory=Journal)
    triggered: list[str] = field(default_factory=list)


def demo(
    local_services: Annotated[
        bool,
        typer.Option("--local", help="Run on a real Kafka and PostgreSQL, started for it under the data directory."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")] = False,
) -> None:
    """Run the main job once: 1,000 orders of a print shop, 100 manual triggers, and an audit of what became of them.

    Exit codes: 0 nothing is missing and nothing unexpected happened, 1 the audit failed.

    [bold]Examples[/bold]

      webhook demo

      webhook demo --json | jq .audit

      webhook demo --local
    """
    base = Settings()
    settings = base.model_copy(
        update={
            "data_dir": base.data_dir / ("demo-local" if local_services else "demo"),
            "http_port": 0,
            "bootstrap_servers": None,
            "database_url": None,
        }
    )
    configure_logs(settings.model_copy(update={"log_level": "error"}))
    began = time.monotonic()
    found, rows, tiers = asyncio.run(_run(settings, local_services, as_json))
    _report(found, rows, tiers, time.monotonic() - began, as_json)
    if not found.passed:
        raise typer.Exit(1)


async def _run(
    settings: Settings, local_services: bool, quiet: bool
) -> tuple[Audit, list[Mapping[str, object]], list[Mapping[str, object]]]:
    opened = _local_shop(settings) if local_services else _embedded_shop(settings)
    async with opened as (pipeline, tenant_id):
        day = Day()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, disable=quiet) as progress:
            await asyncio.to_thread(_work, pipeline, tenant_id, day, progress)
            await _wait(pipeline, len(day.journal.committed) + len(day.triggered), progress)
        engine = pipeline.engine
        found = await asyncio.to_thread(audit, engine, day.journal, day.triggered)
        with engine.connect() as connection:
            events = recent_events(connection, limit=_SHOWN)
        return found, [_row(event) for event in events], [asdict(count) for count in tier_counts(engine)]


@asynccontextmanager
async def _embedded_shop(settings: Settings) -> AsyncIterator[tuple[Pipeline, str]]:
    shutil.rmtree(settings.data_dir, ignore_errors=True)
    async with embedded_installation(settings, sample=True) as installation:
        yield installation.pipeline, str(installation.tenant_id)


@asynccontextmanager
async def _local_shop(settings: Settings) -> AsyncIterator[tuple[Pipeline, str]]:
    await asyncio.to_thread(local.stop, settings.data_dir)
    shutil.rmtree(settings.data_dir, ignore_errors=True)
    runtime = await asyncio.to_thread(local.start, settings.data_dir)
    try:
        settings = settings.model_copy(
            update={
                "bootstrap_servers": runtime.bootstrap_servers,
                "database_url": SecretStr(runtime.database_url),
            }
        )
        catalogue = settings.catalogue()
        await asyncio.to_thread(provision.apply, AdminClient(admin_config(settings)), catalogue)
        engine = create_database_engine(runtime.database_url)
        upgrade(engine)
        epoch = log_epoch(settings, catalogue.events)
        async with (
            shop_upstream(settings, engine, wanted=True) as (settings, tenant_id),
            running_pipeline(settings, engine, epoch, embedded=False) as pipeline,
        ):
            yield pipeline, str(tenant_id)
        engine.dispose()
    finally:
        await asyncio.to_thread(local.stop, settings.data_dir)


def _work(pipeline: Pipeline, tenant_id: str, day: Day, progress: Progress) -> None:
    """Do the shop's business and the manual triggers; blocks."""
    engine: Engine = pipeline.engine
    open_shop(engine)
    orders = progress.add_task("orders", total=ORDERS)
    for number in run_shop(engine, tenant_id, ORDERS, day.journal):
        progress.update(orders, completed=number)
        pipeline.relay.wake()
    triggers = progress.add_task("manual triggers", total=TRIGGERS)
    plugin = pipeline.service.load(tenant_id)
    for number in range(1, TRIGGERS + 1):
        event_type, priority = ("data_sync", 2) if number % 4 == 0 else ("manual_trigger", 1 + number % 10)
        items = [{"sku": f"POSTER-{number % 3}", "quantity": 10 * number}]
        payload = {"id": 100_000 + number, "total": 10.0 * number, "status": "pending", "items": items}
        result = plugin.trigger_webhook("webhook/order", payload, event_type, options={"priority": priority})
        if not result:
            raise RuntimeError(f"a manual trigger was refused: {result.reason}")
        day.triggered.append(str(result.event_id))
        progress.update(triggers, completed=number)


async def _wait(pipeline: Pipeline, expected: int, progress: Progress) -> None:
    """Wait until so many events have a final outcome, or nothing moves any more."""
    task: TaskID = progress.add_task("outcomes", total=expected)
    done, moved_at = -1, time.monotonic()
    while time.monotonic() - moved_at < _WITHOUT_PROGRESS_S:
        pipeline.raise_failure()
        now_done = await asyncio.to_thread(finished_events, pipeline.engine)
        if now_done != done:
            done, moved_at = now_done, time.monotonic()
        progress.update(task, completed=done)
        if done >= expected:
            return
        await asyncio.sleep(_POLL_S)


def _row(event: Any) -> Mapping[str, object]:
    shown = ("event_id", "event_type", "model_id", "tier", "handler", "status", "attempt", "duration_ms")
    row = {name: getattr(event, name) for name in shown}
    return row | {"duration_ms": None if event.duration_ms is None else round(event.duration_ms, 1)}


def _report(
    found: Audit,
    events: Sequence[Mapping[str, object]],
    tiers: Sequence[Mapping[str, object]],
    took_s: float,
    as_json: bool,
) -> None:
    if as_json:
        show_json({"audit": asdict(found), "tiers": tiers, "events": events, "took_s": round(took_s, 1)})
        return
    columns = {
        "tier": "Tier",
        "events": "Events",
        "completed": "Completed",
        "attempts": "Attempts",
        "median_ms": "Median ms",
    }
    show(tiers, columns, False, "no tier did anything")
    say("")
    columns = {
        "event_type": "Event",
        "model_id": "Order",
        "tier": "Tier",
        "handler": "Handler",
        "status": "Status",
        "attempt": "Attempt",
        "duration_ms": "ms",
    }
    show(events, columns, False, "no events")
    say("")
    say(
        f"Audit: {found.committed_changes} committed changes + {found.manual_triggers} manual triggers = "
        f"{found.requested} events = {found.outcomes} outcomes; {found.rolled_back} orders rolled back."
    )
    verdict = f"{found.missing} missing, {found.unexpected} unexpected, in {took_s:.1f} s."
    say(verdict, "bold green" if found.passed else "bold red")
    say("Look further: start `webhook up`; it prints a first trigger to try in another shell.")
