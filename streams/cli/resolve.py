"""``webhook resolve``: end an event that nothing else ends."""

from typing import Annotated, Literal

import typer

from streams.broker.runtime import resolve
from streams.cli.console import Json, say, show_json
from streams.cli.control import caller
from streams.database import opened_database
from streams.errors import SetupError
from streams.replay.resolving import Resolving, UnknownEvent
from streams.settings import Settings


def resolve_event(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the event, as `webhook events` shows it.")],
    resolution: Annotated[Literal["failed", "completed"], typer.Option("--as", help="How it has ended.")],
    reason: Annotated[str, typer.Option(help="Why, for those who look at the event.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would be about.")] = False,
    as_json: Json = False,
) -> None:
    """End an event from whatever state it is in. The end is a record of the log, so it survives a rebuild.

    What of the event waits is dropped, and its strict lane goes on. A handler that runs is not stopped, and what is in
    a tier already still runs once; nothing that they say changes the event any more. `webhook replay` runs it anew.

    Exit codes: 0 ended, 1 no such event, 2 wrong use or set-up.

    [bold]Examples[/bold]

      webhook resolve 01890a5d-ac96-774b-bcce-b302099a8057 --as failed --reason "the customer cancelled by phone"

      webhook resolve 01890a5d-ac96-774b-bcce-b302099a8057 --as completed --reason "ordered by hand" --dry-run
    """
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings) as engine:
        resolving = Resolving(engine, settings.catalogue())
        try:
            if dry_run:
                status = resolving.status(event_id)
            else:
                status = resolving.resolve(event_id, resolution, by=caller(), reason=reason)
        except UnknownEvent as error:
            raise SetupError(f"{error}.", "See `webhook events`; a new one takes a moment to show.", 1) from None
    if as_json:
        show_json({"event_id": event_id, "was": status, "resolved_as": resolution, "dry_run": dry_run})
    elif dry_run:
        say(f"{event_id} is {status}; it would end as {resolution}. Nothing was changed.")
    else:
        say(f"{event_id} was {status} and ends as {resolution}; the history shows it in a moment.")
