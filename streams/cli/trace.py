"""``webhook trace``: the whole story of an event, a change, or a row of a model."""

from dataclasses import asdict
from typing import Annotated, Final

import typer

from streams.broker.runtime import resolve
from streams.cli.console import Json, show
from streams.database import opened_database
from streams.errors import SetupError
from streams.settings import Settings
from streams.tracing import MOST
from streams.tracing import trace as trace_of

_COLUMNS: Final = {"at": "WHEN", "what": "WHAT", "subject": "EVENT OR CHANGE", "detail": "HOW"}


def trace(
    asked: Annotated[str, typer.Argument(metavar="ID|MODEL/ID", help="An event's id, a change's, or Order/7.")],
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only: its website id.")] = None,
    as_json: Json = False,
) -> None:
    """Tell the story of an event: stored, published, matched, accepted, scheduled, tried, and how it ended.

    Of a change, also which settings it matched, none included; of a row of a model, its latest changes and events.

    [bold]Examples[/bold]

      webhook trace 01890a5d-ac96-774b-bcce-b302099a8057

      webhook trace Order/7 --tenant 1 --json
    """
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings, read_only=True) as engine, engine.connect() as connection:
        steps = trace_of(connection, asked, tenant)
    if not steps:
        raise SetupError(
            f"Nothing is known of {asked}.",
            "What was just sent takes a moment; what could not be read or routed is in `webhook dead-letters list`. "
            f"A row is named as Order/7; of one, the latest {MOST} changes and events are told.",
        )
    show([asdict(each) for each in steps], _COLUMNS, as_json, "")
