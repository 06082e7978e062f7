"""``webhook waiting`` and ``webhook why``: why events have not ended yet."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Annotated, Final

import typer

from projections.queries import MAX_LIMIT
from projections.waiting import Reason
from streams.broker.runtime import resolve
from streams.cli.console import Json, cell, note, say, short_time, show, show_json
from streams.cli.tiers import tier_names
from streams.database import opened_database
from streams.errors import SetupError
from streams.settings import Settings
from streams.waiting.reader import Asked, UnknownEvent, WaitingReader
from streams.waiting.reasons import WhyWaiting
from streams.waiting.sources import LISTEN_S, LiveSources

_COLUMNS: Final = {
    "event_id": "EVENT",
    "tenant_id": "TENANT",
    "tier": "TIER",
    "reason": "REASON",
    "since": "SINCE",
    "until": "UNTIL",
    "place": "PLACE",
    "detail": "WHY",
}
_TABLES_ONLY: Final = (
    "The brokers do not answer: what runs, what is paused and which keys are busy is listed as nth_in_tier."
)


def waiting(
    tenant: Annotated[str | None, typer.Option(help="Events of this tenant only: its website id.")] = None,
    tier: Annotated[str | None, typer.Option(help="Events of this tier only.")] = None,
    reason: Annotated[Reason | None, typer.Option(help="Events with this reason only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="Events shown at most.")] = 20,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this event of an earlier list.")] = None,
    as_json: Json = False,
) -> None:
    """List every event that has not ended, the longest accepted first, with the one reason why it is waiting.

    PLACE counts those of its tier that wait for their turn; in JSON `holder` names the event, worker, gate or tier
    that it waits for.

    [bold]Examples[/bold]

      webhook waiting

      webhook waiting --tier low --reason key_busy --limit 100 --json
    """
    tiers = [None] if tier is None else tier_names([tier])
    if len(tiers) != 1:
        raise SetupError("One tier at a time can be chosen.", "Leave --tier out for all of them.")
    asked = Asked(tenant_id=tenant, tier=tiers[0], reason=reason, after=after)
    with _reader() as reader:
        page = reader.page(asked, limit)
    rows = [asdict(each) if as_json else _row(each) for each in page.waiting]
    nothing = "Nothing waits" if reason is None else f"Nothing waits for {reason}"
    show(rows, _COLUMNS, as_json, f"{nothing}." if page.next is None else f"{nothing} as far as was looked.")
    if not page.live:
        note(_TABLES_ONLY)
    if page.next is not None:
        note(f"There may be more: --after {page.next}")


def why(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the event, as `webhook events` shows it.")],
    as_json: Json = False,
) -> None:
    """Say why one event has not ended: what it waits for, since when, and until when if that is known.

    [bold]Examples[/bold]

      webhook why 01890a5d-ac96-774b-bcce-b302099a8057

      webhook why 01890a5d-ac96-774b-bcce-b302099a8057 --json
    """
    with _reader() as reader:
        found = reader.event(event_id)
        live = reader.sources.look() is not None
    if as_json:
        show_json(asdict(found))
    elif found.waiting is None:
        say(f"{event_id} does not wait: it has ended as {found.status}. `webhook attempts` shows its tries.")
    else:
        _tell(found.waiting)
    if found.waiting is not None and not live:
        note(_TABLES_ONLY)


def _tell(event: WhyWaiting) -> None:
    say(f"{event.event_id} {event.reason}: {event.detail}.", "bold")
    for name, value in (
        ("tier", event.tier),
        ("step, attempt", f"{event.step}, {event.attempt}"),
        ("holder", event.holder),
        ("since", event.since),
        ("until", event.until),
    ):
        if value is not None:
            say(f"  {name:14} {cell(value)}")


def _row(event: WhyWaiting) -> dict[str, object]:
    until = None if event.until is None else short_time(event.until)
    return {**asdict(event), "since": short_time(event.since), "until": until}


@contextmanager
def _reader() -> Iterator[WaitingReader]:
    """A reader whose sources have heard every worker, where the brokers answer."""
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings, "projections", read_only=True) as engine, closing(LiveSources(settings)) as sources:
        if sources.look() is not None:
            time.sleep(LISTEN_S)
        try:
            yield WaitingReader(engine, sources)
        except UnknownEvent as error:
            raise SetupError(f"{error}.", "See `webhook events`; a new one takes a moment to show.") from None
