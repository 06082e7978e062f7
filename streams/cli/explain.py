"""``webhook explain``: what a change or a trigger would lead to, without sending anything."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import orjson
import typer

from handlers.contract import PluginManifest
from handlers.loading import PluginLoadError
from handlers.payloads import Refused
from handlers.requests import TriggerRequest, checked_request
from handlers.service import PluginService
from handlers.tenants.repository import Tenant, TenantsUnavailable
from schemas.events import ModelChanged, now_micros
from streams.agents.matching import Unroutable
from streams.broker.runtime import resolve
from streams.capture.outbox import OutboxSink
from streams.cli.composition import open_system
from streams.cli.console import Json, cell, say, show_json
from streams.cli.payloads import read_payload
from streams.database import opened_database
from streams.errors import SetupError
from streams.explaining import Explained, explain_change, explain_request
from streams.settings import Settings


def explain(
    tenant: Annotated[str, typer.Option(help="The tenant: its id or one of its hostnames.")],
    endpoint: Annotated[str | None, typer.Argument(help="A trigger's endpoint; leave it out for a change.")] = None,
    model: Annotated[str | None, typer.Option(help="The changed model, for example Order.")] = None,
    model_id: Annotated[str, typer.Option("--id", help="The changed row.")] = "1",
    event: Annotated[str, typer.Option(help="What happened: created, updated, deleted or restored.")] = "updated",
    payload: Annotated[str, typer.Option(help="A JSON object, or @FILE, or @- for standard input.")] = "{}",
    event_type: Annotated[str, typer.Option(help="Name of what a trigger is about.")] = "manual_trigger",
    priority: Annotated[int | None, typer.Option(help="A trigger's, or what the model's method says.")] = None,
    delay: Annotated[int | None, typer.Option(help="A trigger's, in seconds.")] = None,
    as_json: Json = False,
) -> None:
    """Say what would fire, which handlers carry it out, with which priority in which tier, and why. Sends nothing.

    [bold]Examples[/bold]

      webhook explain --tenant 1 --model Order --event created

      webhook explain webhook/order --tenant shop.example --payload @order.json --priority 9 --json

    Exit codes: 0 something would fire, 1 nothing would, 2 it would be refused.
    """
    if (endpoint is None) == (model is None):
        raise SetupError("Ask about an endpoint or about a model.", "Give ENDPOINT, or --model with --event.")
    settings = resolve(Settings(), kafka=False)
    body = read_payload(payload, settings.payload_limit_bytes)
    with _plugin(settings, tenant) as (found, manifest), _told():
        if endpoint is not None:
            asked = TriggerRequest(endpoint, body, event_type, priority, delay)
            request = checked_request(asked, found, manifest, settings.payload_limit_bytes)
            explained = [explain_request(request, found.configuration, manifest)]
        else:
            change = ModelChanged(
                change_id="explained",
                tenant_id=found.id,
                model=model or "",
                model_id=model_id,
                model_event=event,
                occurred_at=now_micros(),
                payload=orjson.dumps(body).decode(),
                priority=priority,
            )
            explained = explain_change(change, found.configuration, manifest)
    fires = any(each.fires for each in explained)
    if as_json:
        show_json([asdict(each) for each in explained])
    else:
        for each in explained:
            _tell(each)
        if not fires:
            say(f"Nothing would fire: no setting of tenant {found.id} names {model} {event}.")
    if not fires:
        raise typer.Exit(1)


@contextmanager
def _plugin(settings: Settings, tenant: str) -> Iterator[tuple[Tenant, PluginManifest]]:
    with opened_database(settings) as engine:
        system = open_system(settings, engine)
        service = PluginService(system.tenants, system.plugins, OutboxSink(engine, system.catalogue))
        try:
            plugin = service.load(tenant)
        except (PluginLoadError, TenantsUnavailable) as error:
            hint = "See `webhook tenants list` and `webhook tenants show`."
            raise SetupError(f"It would be refused: {error}.", hint) from error
        yield plugin.tenant, plugin.manifest


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (Refused, Unroutable) as error:
        raise SetupError(f"It would be refused: {error}.", "Correct it and ask again.") from error


def _tell(each: Explained) -> None:
    name = each.settings_entry or "no settings entry"
    if not each.fires:
        say(f"{each.endpoint} ({name}) does not fire: {each.why}.", "dim")
        return
    say(f"{each.endpoint} ({name}) fires {each.event_type}: {each.why}.", "bold")
    handlers = ", ".join(each.handlers) or "none"
    for title, value in (
        ("handlers", f"{handlers}: {each.handlers_why}"),
        ("priority", f"{each.priority}: {each.priority_why}"),
        ("tier", f"{each.tier}: {each.tier_why}"),
        ("waits", each.waits),
    ):
        if value is not None:
            say(f"  {title:10} {cell(value)}")
