"""``webhook call-back``: tell a handler that waits what it waits for. ``webhook call-backs``: what was told."""

import getpass
from dataclasses import asdict
from typing import Annotated, Any, Final

import orjson
import typer

from handlers.service import PluginService
from projections.call_backs import CallBackView, recent_call_backs
from projections.queries import MAX_LIMIT
from schemas.limits import MAX_STEP_RESULT_BYTES
from streams.broker.runtime import resolve
from streams.capture.outbox import OutboxSink
from streams.cli.composition import open_system
from streams.cli.console import Json, say, show, show_json
from streams.cli.payloads import accepted_id, read_payload
from streams.database import opened_database
from streams.errors import SetupError
from streams.settings import Settings

_COLUMNS: Final = {
    "received_at": "RECEIVED",
    "key": "KEY",
    "tenant_id": "TENANT",
    "requested_by": "BY",
    "continued": "CONTINUED",
    "payload": "PAYLOAD",
}


def call_back(
    key: Annotated[str, typer.Argument(help="The key with which the handler waits.")],
    tenant: Annotated[str, typer.Option(help="The tenant: its id or one of its hostnames.")],
    payload: Annotated[str, typer.Option(help="A JSON object, or @FILE, or @- for standard input.")] = "{}",
    as_json: Json = False,
) -> None:
    """Call back a handler that waits. Once the command says so it is durable, also while Kafka is away.

    The payload, of at most 48 KiB, becomes the result of the step that waits. A call-back may come before anybody
    waits; of several with one key the first counts.

    [bold]Examples[/bold]

      webhook call-back order-7-paid --tenant 1 --payload '{"amount": 25}'

      webhook call-back order-7-paid --tenant shop.example --payload @payment.json --json

    Exit codes: 0 recorded, 2 refused: unknown tenant, key or payload that is not allowed, no database.
    """
    settings = resolve(Settings(), kafka=False)
    value = read_payload(payload, MAX_STEP_RESULT_BYTES)
    with opened_database(settings) as engine:
        system = open_system(settings, engine)
        service = PluginService(system.tenants, system.plugins, OutboxSink(engine, system.catalogue))
        call_back_id = accepted_id(
            lambda: service.call_back(tenant, key, value, requested_by=getpass.getuser()), "recorded"
        )
    if as_json:
        show_json({"call_back_id": call_back_id, "status": "recorded"})
    else:
        say(f"recorded {call_back_id}")


def call_backs(
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant: its website id.")] = None,
    key: Annotated[str | None, typer.Option(help="Only with this key; needs --tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="Call-backs shown at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the latest call-backs, newest first. CONTINUED counts the waits that one let go on: a second one none.

    [bold]Examples[/bold]

      webhook call-backs --limit 5

      webhook call-backs --tenant 1 --key order-7-paid --json
    """
    if key is not None and tenant is None:
        raise SetupError("A key is a tenant's own.", "Name the tenant too: --tenant.")
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings, "projections", read_only=True) as engine, engine.connect() as connection:
        found = recent_call_backs(connection, tenant_id=tenant, key=key, limit=limit)
    show([_row(each, as_json) for each in found], _COLUMNS, as_json, "Nobody has called back yet.")


def _row(call: CallBackView, as_json: bool) -> dict[str, Any]:
    """In JSON the payload is the value itself."""
    row = asdict(call)
    if as_json:
        row["payload"] = orjson.loads(call.payload)
    return row
