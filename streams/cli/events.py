"""``webhook events``: the latest events and what became of them."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Final, NoReturn

import orjson
import typer
from rich.table import Table
from rich.text import Text
from sqlalchemy import Engine

from projections.queries import EVERYTHING, MAX_LIMIT, EventFilter, EventSummary, recent_events
from schemas.events import now_micros, to_datetime
from schemas.kinds import Status
from streams.broker.runtime import resolve
from streams.cli.console import cell, say, short_time, terminal
from streams.cli.durations import duration_s
from streams.cli.tiers import tier_names
from streams.database import opened_database
from streams.settings import Settings

_LOOK_EVERY_S: Final = 0.5
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
    tier: Annotated[str | None, typer.Option(help="Events that are, or ended, in this tier only.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Events of this endpoint only.")] = None,
    event_type: Annotated[str | None, typer.Option("--type", help="Events of this type only.")] = None,
    error: Annotated[str | None, typer.Option(help="Only with this error code, or this text in the error.")] = None,
    model: Annotated[str | None, typer.Option(help="Events about this model only, or about Model/id.")] = None,
    since: Annotated[str | None, typer.Option(metavar="DURATION", help="Of the last 90s, 15m, 2h, 1d.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl+C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the latest events, newest first: their tier, what became of them, and how long it took.

    With `--follow` a line for each event follows, with `--json` an object a line, and another one whenever its status
    changes.

    [bold]Examples[/bold]

      webhook events --limit 5 --json

      webhook events --tenant 1 --status failed_permanently --since 1d

      webhook events --follow --model Order/7
    """
    name, _, model_id = (model or "").partition("/")
    which = EventFilter(
        tenant_id=tenant,
        statuses=(status,) if status else (),
        tier=None if tier is None else tier_names([tier])[0],
        endpoint=endpoint,
        event_type=event_type,
        error=error,
        model=name or None,
        model_id=model_id or None,
        since=None if since is None else to_datetime(now_micros() - duration_s(since) * 1_000_000),
    )
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings, "projections", read_only=True) as engine:
        if follow:
            _follow(engine, which, limit, as_json)
        with engine.connect() as connection:
            found = recent_events(connection, which, limit)
    if as_json:
        typer.echo(orjson.dumps([_report(event) for event in found], option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z))
        return
    console = terminal()
    if not found:
        console.print(_nothing(which))
        return
    console.print(events_table(found))
    console.print()
    for event in found:
        if event.error and event.status != "completed":
            reason = cell(event.error.splitlines()[0])
            console.print(Text.assemble((event.event_id, "bold"), f" {event.status}: {reason}"))


def _nothing(which: EventFilter) -> str:
    if which == EVERYTHING:
        return "No events yet. `webhook trigger` makes one, `webhook demo` a thousand."
    return "No events of that kind."


def _report(event: EventSummary) -> dict[str, object]:
    return {**asdict(event), "duration_ms": event.duration_ms}


def _follow(engine: Engine, which: EventFilter, limit: int, as_json: bool) -> NoReturn:
    """Print the latest events, then each one that is new or has another status than before."""
    changes = StatusChanges()
    while True:
        with engine.connect() as connection:
            # What fell behind so many newer ones is not looked at any more.
            found = recent_events(connection, which, limit if changes.is_first else MAX_LIMIT)
        for event in changes.of(found):
            if as_json:
                typer.echo(orjson.dumps(_report(event), option=orjson.OPT_UTC_Z))
            else:
                say(_line(event))
        time.sleep(_LOOK_EVERY_S)


class StatusChanges:
    """Tells of lists of events, each the latest ones, what has changed from one to the next."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, int]] = {}
        self._since: datetime | None = None

    @property
    def is_first(self) -> bool:
        """Whether there was no list yet."""
        return self._since is None

    def of(self, found: Sequence[EventSummary]) -> list[EventSummary]:
        """Events that are new, or whose status or run is another, in order of acceptance; of the first list all.

        What was accepted before the first list's oldest event is old.
        """
        if self._since is None:
            self._since = found[-1].accepted_at if found else datetime.min.replace(tzinfo=UTC)
        current = {event.event_id: (event.status, event.run) for event in found}
        changed = [
            event
            for event in reversed(found)
            if event.accepted_at >= self._since and self._seen.get(event.event_id) != current[event.event_id]
        ]
        self._seen = current
        return changed


def _line(event: EventSummary) -> str:
    told = event.error.splitlines()[0] if event.error and event.status != "completed" else _duration(event.duration_ms)
    what = event.event_type or event.endpoint or ""
    run = f" run {event.run}" if event.run > 1 else ""
    place = f"{event.tenant_id} {what} {event.tier or ''}"
    return f"{short_time(event.updated_at)} {event.event_id} {place} {event.status}{run} {told}".rstrip()


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
