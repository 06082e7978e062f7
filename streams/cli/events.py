"""``webhook events``: the latest events and what became of them."""

from dataclasses import asdict
from typing import Annotated

import orjson
import typer
from rich.table import Table
from rich.text import Text

from projections.queries import MAX_LIMIT, EventSummary, recent_events
from schemas.kinds import Status
from streams.broker.runtime import resolve
from streams.cli.console import cell, short_time, terminal
from streams.database import opened_database
from streams.settings import Settings

_STYLES: dict[str, str] = {
    "pending": "cyan",
    "processing": "blue",
    "completed": "green",
    "failed": "yellow",
    "failed_permanently": "red",
    "unknown": "magenta",
}


def events(
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="Events shown at most.")] = 20,
    tenant: Annotated[str | None, typer.Option(help="Events of this tenant only: its website id.")] = None,
    status: Annotated[Status | None, typer.Option(help="Events of this status only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the latest events, newest first: their tier, what became of them, and how long it took.

    [bold]Examples[/bold]

      webhook events --limit 5 --json

      webhook events --tenant 1 --status failed_permanently
    """
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings, "projections", read_only=True) as engine, engine.connect() as connection:
        found = recent_events(connection, tenant_id=tenant, statuses=(status,) if status else (), limit=limit)
    if as_json:
        report = [{**asdict(event), "duration_ms": event.duration_ms} for event in found]
        typer.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z))
        return
    console = terminal()
    if not found:
        console.print("No events yet. `webhook trigger` makes one, `webhook demo` a thousand.")
        return
    console.print(events_table(found))
    console.print()
    for event in found:
        if event.error and event.status != "completed":
            reason = cell(event.error.splitlines()[0])
            console.print(Text.assemble((event.event_id, "bold"), f" {event.status}: {reason}"))


def events_table(found: list[EventSummary]) -> Table:
    """The events as a table that fits 120 columns; times in the local zone."""
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("Accepted", no_wrap=True)
    table.add_column("Event", no_wrap=True, min_width=36)
    table.add_column("Tenant", no_wrap=True, max_width=8)
    # The one column that gives way: Rich narrows those that may wrap before the others.
    table.add_column("Type", overflow="ellipsis")
    table.add_column("Tier", no_wrap=True)
    table.add_column("Status", no_wrap=True)
    table.add_column("Tries", justify="right", no_wrap=True)
    table.add_column("Took", justify="right", no_wrap=True)
    for event in found:
        table.add_row(
            short_time(event.accepted_at),
            event.event_id,
            Text(cell(event.tenant_id)),
            Text(cell(event.event_type or event.endpoint or "")),
            event.tier or "",
            Text(event.status, style=_STYLES[event.status]),
            str(event.attempts),
            _duration(event.duration_ms),
        )
    return table


def _duration(duration_ms: float | None) -> str:
    if duration_ms is None:
        return ""
    return f"{duration_ms:.0f} ms" if duration_ms < 1000 else f"{duration_ms / 1000:.1f} s"
