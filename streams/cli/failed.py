"""``webhook queue failed|retry|forget|flush``: what has failed for good, and what is done about it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Final

import typer

from projections.queries import MAX_LIMIT
from schemas.events import now_micros, to_datetime
from streams.broker.runtime import resolve
from streams.cli.console import Json, note, say, short_time, show, show_json
from streams.cli.control import caller
from streams.cli.durations import duration_s
from streams.cli.tiers import tier_names
from streams.database import opened_database
from streams.errors import SetupError
from streams.replay.failed import Dealt, FailedEvents, FailedFilter
from streams.settings import Settings

_COLUMNS: Final = {
    "number": "NO.",
    "failed_at": "FAILED",
    "event_id": "EVENT",
    "tenant_id": "TENANT",
    "tier": "TIER",
    "handler": "HANDLER",
    "kind": "KIND",
    "error": "ERROR",
}
_ERROR_CHARACTERS: Final = 80

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids or numbers, as `queue failed` shows them.")]
IdsOrAll = Annotated[
    list[str], typer.Argument(metavar="ID...|all", help="Ids or numbers, as `queue failed` shows them, or all.")
]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant: its website id.")]
OfTier = Annotated[str | None, typer.Option("--queue", "--tier", help="Only what ended in this tier.")]
Error = Annotated[str | None, typer.Option(help="Only with this error code, or this text in the error.")]
Since = Annotated[str | None, typer.Option(metavar="DURATION", help="Failed within the last 90s, 15m, 2h, 1d.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say which ones, and change nothing.")]
Why = Annotated[str, typer.Option(help="Why, for those who look at the events.")]


def failed(
    tenant: OfTenant = None,
    tier: OfTier = None,
    error: Error = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="Events shown at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List the events that have failed for good, the latest first. Each has a number that always stands for it.

    [bold]Examples[/bold]

      webhook queue failed --since 1d

      webhook queue failed --tenant 1 --error timeout --json
    """
    with _opened() as events:
        found = events.listed(_filter(tenant, tier, error, since), limit)
    show([asdict(each) if as_json else _row(asdict(each)) for each in found], _COLUMNS, as_json, "No failed events.")


def retry(
    ids: IdsOrAll,
    tenant: OfTenant = None,
    tier: OfTier = None,
    error: Error = None,
    since: Since = None,
    not_done: Annotated[
        bool, typer.Option("--not-done", help="I have made sure that what is unclear was not done: do not look for it.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Let failed events try again: the same run goes on at the step that failed, with its tries anew.

    What ended `unknown` or `timed_out` may have been done: a handler that acts at most once looks for that first.

    Exit codes: 0 all of them try again, 1 some do not, and it is said why, 2 wrong use or set-up.

    [bold]Examples[/bold]

      webhook queue retry 5

      webhook queue retry all --tenant 1 --error timeout --dry-run

      webhook queue retry 01890a5d-ac96-774b-bcce-b302099a8057 --not-done
    """
    with _opened() as events:
        chosen = _chosen(events, ids, _filter(tenant, tier, error, since))
        dealt = Dealt(chosen) if dry_run else events.retry(chosen, by=caller(), not_done=not_done)
    _tell(dealt, "would try again" if dry_run else "tries again", as_json)


def forget(ids: Ids, reason: Why = "", dry_run: DryRun = False, as_json: Json = False) -> None:
    """Dismiss failed events: they are listed as failed no more, and their history stays.

    Exit codes: 0 all are dismissed, 1 some are not, and it is said why, 2 wrong use or set-up.

    [bold]Examples[/bold]

      webhook queue forget 5 --reason "the shop has closed"
    """
    with _opened() as events:
        chosen = events.ids_of(ids)
        dealt = Dealt(chosen) if dry_run else events.dismiss(chosen, by=caller(), reason=reason)
    _tell(dealt, "would be dismissed" if dry_run else "is dismissed", as_json)


def flush(
    hours: Annotated[int | None, typer.Option(min=0, help="Only what failed so many hours ago or earlier.")] = None,
    tenant: OfTenant = None,
    tier: OfTier = None,
    error: Error = None,
    reason: Why = "",
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Dismiss every failed event, or those that failed long ago. Nothing is deleted: `webhook replay` runs them anew.

    [bold]Examples[/bold]

      webhook queue flush --dry-run

      webhook queue flush --hours 720 --reason "too old to matter"
    """
    before = None if hours is None else to_datetime(now_micros()) - timedelta(hours=hours)
    which = FailedFilter(tenant_id=tenant, tier=_tier(tier), error=error, before=before)
    with _opened() as events:
        chosen = events.chosen(which)
        dealt = Dealt(chosen) if dry_run else events.dismiss(chosen, by=caller(), reason=reason)
    _tell(dealt, "would be dismissed" if dry_run else "is dismissed", as_json)


def _chosen(events: FailedEvents, ids: Sequence[str], which: FailedFilter) -> list[str]:
    if "all" in ids:
        return events.chosen(which)
    if which != FailedFilter():
        raise SetupError("Filters are for `all`.", "Give ids or numbers alone, or `all` with filters.")
    return events.ids_of(ids)


def _filter(tenant: str | None, tier: str | None, error: str | None, since: str | None) -> FailedFilter:
    moment = None if since is None else to_datetime(now_micros() - duration_s(since) * 1_000_000)
    return FailedFilter(tenant_id=tenant, tier=_tier(tier), error=error, since=moment)


def _tier(tier: str | None) -> str | None:
    return None if tier is None else tier_names([tier])[0]


def _row(event: dict[str, object]) -> dict[str, object]:
    failed_at, error = event["failed_at"], str(event["error"] or event["error_code"] or "")
    first_line = error.splitlines()[0] if error else ""
    shown = first_line if len(first_line) <= _ERROR_CHARACTERS else first_line[: _ERROR_CHARACTERS - 1] + "…"
    return {**event, "failed_at": short_time(failed_at) if failed_at is not None else "", "error": shown}  # type: ignore[arg-type]


def _tell(dealt: Dealt, done: str, as_json: bool) -> None:
    if as_json:
        show_json(asdict(dealt))
    else:
        for event_id in dealt.done[:MAX_LIMIT]:
            say(f"{event_id} {done}.")
        if len(dealt.done) > MAX_LIMIT or not (dealt.done or dealt.refused):
            say(f"Events: {len(dealt.done)}.")
        for event_id, why in dealt.refused.items():
            note(f"{event_id}: {why}.")
    if dealt.refused:
        raise typer.Exit(1)


@contextmanager
def _opened() -> Iterator[FailedEvents]:
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings) as engine:
        yield FailedEvents(engine, settings.catalogue())
