"""``webhook trigger``: ask for a webhook by hand, and see what becomes of it."""

import getpass
import time
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
import typer
from sqlalchemy import Engine

from handlers.requests import TriggerRequest
from handlers.service import PluginService
from projections.queries import EventDetail, find_event
from schemas.kinds import KINDS
from streams.broker.runtime import read_runtime, resolve
from streams.capture.outbox import OutboxSink
from streams.cli.composition import open_system
from streams.cli.console import Json, note, say, show_json
from streams.cli.payloads import accepted_id, read_payload
from streams.database import opened_database
from streams.settings import Settings

_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Progress:
    """What is known of the event. ``event`` ``None``: nothing is recorded yet."""

    event_id: str
    event: EventDetail | None

    @property
    def is_final(self) -> bool:
        return self.event is not None and KINDS[self.event.kind].final


def trigger(
    endpoint: Annotated[str, typer.Argument(help="The endpoint as configured, for example webhook/order.")],
    tenant: Annotated[str, typer.Option(help="The tenant: its id or one of its hostnames.")],
    payload: Annotated[str, typer.Option(help="A JSON object, or @FILE, or @- for standard input.")] = "{}",
    event_type: Annotated[str, typer.Option(help="Name of what happened.")] = "manual_trigger",
    priority: Annotated[int | None, typer.Option(help="1 to 10; from 8 on it is urgent.")] = None,
    delay: Annotated[int | None, typer.Option(help="Seconds to wait before the first attempt.")] = None,
    dedupe_key: Annotated[str | None, typer.Option(help="Triggers with the same key are one event.")] = None,
    dedupe_for: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="How long they are; else until the event has ended.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the outcome and show it.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Ask for a webhook. Once the command says so it is durable, also while Kafka is away.

    [bold]Examples[/bold]

      webhook trigger webhook/order --tenant 1 --payload '{"id": 7}'

      webhook trigger webhook/order --tenant 1 --payload @order.json --priority 9 --wait

      webhook trigger webhook/order --tenant 1 --payload @order.json --dedupe-key order-7 --dedupe-for 3600

      cat order.json | webhook trigger webhook/order --tenant shop.example --payload @- --delay 60 --json

    Exit codes: 0 accepted (with --wait: completed), 1 with --wait: it failed, or has not ended in time, 2 refused:
    unknown tenant, no handler, payload, priority or delay that is not allowed, no database.
    """
    settings = resolve(Settings(), kafka=False)
    request = TriggerRequest(
        endpoint=endpoint,
        payload=read_payload(payload, settings.payload_limit_bytes),
        event_type=event_type,
        priority=priority,
        delay_s=delay,
        dedupe_key=dedupe_key,
        dedupe_for_s=dedupe_for,
    )
    with opened_database(settings) as engine:
        event_id = _accept(settings, engine, tenant, request)
        if not wait:
            _show_accepted(settings, event_id, as_json)
            return
        progress = _follow(engine, event_id, timeout)
    _show_progress(progress, timeout, as_json)
    if progress.event is None or progress.event.status != "completed":
        raise typer.Exit(1)


def _accept(settings: Settings, engine: Engine, tenant: str, request: TriggerRequest) -> str:
    """Id of the event, once it is in the outbox. Raises ``SetupError`` for what is refused."""
    system = open_system(settings, engine)
    sink = OutboxSink(engine, system.catalogue)
    service = PluginService(system.tenants, system.plugins, sink, payload_limit_bytes=settings.payload_limit_bytes)
    return accepted_id(
        lambda: service.load(tenant).accept(request, trigger="cli", requested_by=getpass.getuser()), "accepted"
    )


def _follow(engine: Engine, event_id: str, timeout_s: float) -> _Progress:
    """Look into the history until the event has ended or the time is up."""
    deadline = time.monotonic() + timeout_s
    while True:
        with engine.connect() as connection:
            progress = _Progress(event_id, find_event(connection, event_id))
        if progress.is_final or time.monotonic() >= deadline:
            return progress
        time.sleep(_POLL_S)


def _show_accepted(settings: Settings, event_id: str, as_json: bool) -> None:
    if as_json:
        show_json({"event_id": event_id, "status": "accepted"})
    else:
        say(f"accepted {event_id}")
    if read_runtime(settings.data_dir) is None and not settings.bootstrap_servers:
        note("Nothing runs here now; it is carried out after the next `webhook up`.")


def _show_progress(progress: _Progress, timeout_s: float, as_json: bool) -> None:
    shown = _as_rows(progress)
    if as_json:
        show_json(shown)
        return
    for name, value in shown.items():
        if value is not None:
            say(f"{name.removesuffix('_ms'):10} {_text(name, value)}")
    if not progress.is_final:
        note(f"It has not ended within {timeout_s:g} s; `webhook events` shows it later.")


def _text(name: str, value: object) -> str:
    if name.endswith("_ms"):
        return f"{value:.0f} ms"
    return orjson.dumps(value).decode() if isinstance(value, dict) else str(value)


def _as_rows(progress: _Progress) -> dict[str, Any]:
    event = progress.event
    if event is None:
        return {"event_id": progress.event_id, "status": "pending"}
    total_ms = None
    if progress.is_final and event.finished_at is not None:
        total_ms = (event.finished_at - event.accepted_at).total_seconds() * 1000
    return {
        "event_id": event.event_id,
        "tenant_id": event.tenant_id,
        "endpoint": event.endpoint,
        "tier": event.tier,
        "status": event.status,
        "outcome": event.kind,
        "handler": event.handler,
        "attempts": event.attempts,
        "duration_ms": event.duration_ms,
        "total_ms": total_ms,
        "result": None if event.result is None else orjson.loads(event.result),
        "error": event.error,
    }
