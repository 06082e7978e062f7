"""``webhook emit``: tell of a change by hand, as a model's row would."""

import getpass
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from handlers.loading import PluginLoadError
from handlers.payloads import Refused, payload_text, whole_number
from handlers.service import PluginService
from handlers.tenants.configuration import SettingsEntry, bare_model_name
from handlers.tenants.repository import Tenant, TenantsUnavailable
from schemas.events import ModelChanged, now_micros
from streams.agents.matching import Unroutable, candidates_of_change
from streams.broker.runtime import read_runtime, resolve
from streams.capture.outbox import OutboxSink, OutboxUnavailable
from streams.cli.composition import open_system
from streams.cli.console import Json, note, say, show_json
from streams.cli.payloads import read_payload
from streams.database import opened_database
from streams.errors import SetupError
from streams.settings import Settings
from topics.keys import model_key_text


def emit(
    model: Annotated[str, typer.Argument(help="The changed model: Order, shop.models.Order or App\\Models\\Order.")],
    event: Annotated[str, typer.Argument(help="What happened: created, updated, deleted or restored.")],
    tenant: Annotated[str, typer.Option(help="The tenant: its id or one of its hostnames.")],
    model_id: Annotated[
        list[str], typer.Option("--id", help="The changed row; give it once for each part of a composite key.")
    ],
    payload: Annotated[
        str, typer.Option(help="The row's attributes: a JSON object, or @FILE, or @- for standard input.")
    ] = "{}",
    changed: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="An attribute that changed; may be repeated.")
    ] = None,
    previous: Annotated[str | None, typer.Option(help="Old values of these attributes, as a JSON object.")] = None,
    priority: Annotated[int | None, typer.Option(help="What the model's own method says, 1 to 10.")] = None,
    as_json: Json = False,
) -> None:
    """Tell of a change: every setting that matches it fires. Once the command says so it is durable.

    It works while Kafka is away too. `webhook explain` says beforehand what would fire.

    [bold]Examples[/bold]

      webhook emit Order created --tenant 1 --id 7 --payload '{"id": 7, "status": "paid"}'

      webhook emit Order updated --tenant shop.example --id 7 --payload @order.json --changed status --json

      webhook emit OrderLine deleted --tenant 1 --id 7 --id 2

    Exit codes: 0 accepted, also where no setting matches, 2 refused: unknown tenant, event, payload or priority that is
    not allowed, no database.
    """
    settings = resolve(Settings(), kafka=False)
    limit = settings.payload_limit_bytes
    body, before = read_payload(payload, limit), None if previous is None else read_payload(previous, limit)
    with opened_database(settings) as engine:
        system = open_system(settings, engine)
        sink = OutboxSink(engine, system.catalogue)
        with _refusals_told():
            found = PluginService(system.tenants, system.plugins, sink).load(tenant).tenant
            change = ModelChanged(
                change_id=str(uuid.uuid4()),
                tenant_id=found.id,
                model=bare_model_name(model),
                model_id=model_key_text(*model_id),
                model_event=event,
                occurred_at=now_micros(),
                payload=payload_text(body, limit),
                changed=list(changed or ()),
                previous=None if before is None else payload_text(before, limit, "previous"),
                priority=whole_number("priority", priority, 1, 10),
                source=f"cli: {getpass.getuser()}",
            )
            matching = _matching(change, found)
            sink.accept_changes(lambda _: [change])
    _show(change, matching, as_json)
    if read_runtime(settings.data_dir) is None and not settings.bootstrap_servers:
        note("Nothing runs here now; it is carried out after the next `webhook up`.")


@contextmanager
def _refusals_told() -> Iterator[None]:
    """Turn what is refused into a ``SetupError`` that says what to do."""
    try:
        yield
    except (PluginLoadError, TenantsUnavailable) as error:
        hint = "See `webhook tenants list` and `webhook tenants show`."
        raise SetupError(f"Not accepted: {error}.", hint) from error
    except OutboxUnavailable as error:
        raise SetupError(f"Not accepted: {error}.", "Try again when the database is back.") from error
    except (Refused, Unroutable) as error:
        raise SetupError(f"Not accepted: {error}.", "Correct it and try again.") from error


def _matching(change: ModelChanged, tenant: Tenant) -> Sequence[SettingsEntry]:
    """The settings that fire by now. Raises ``Unroutable`` for what intake would refuse."""
    candidates_of_change(change, tenant.configuration)
    return tenant.configuration.matching(change.model, change.model_event)


def _show(change: ModelChanged, matching: Sequence[SettingsEntry], as_json: bool) -> None:
    fires: list[dict[str, Any]] = [
        {"settings_entry": each.entry_id, "endpoint": each.webhook_endpoint} for each in matching
    ]
    if as_json:
        show_json({"change_id": change.change_id, "status": "accepted", "fires": fires})
        return
    say(f"accepted {change.change_id}")
    for each in fires:
        say(f"  fires {each['endpoint']} ({each['settings_entry']})")
    if not fires:
        note(f"No setting of tenant {change.tenant_id} names {change.model} {change.model_event}: nothing will fire.")
    note(f"`webhook trace {change.change_id}` tells what becomes of it.")
