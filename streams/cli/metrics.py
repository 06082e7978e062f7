"""``webhook metrics``: events of the last days by date, tier and type."""

from typing import Annotated, Any, Final

import typer

from streams.cli.console import Json, say, show, show_json
from streams.cli.tiers import tier_names
from streams.health.daily import MOST_DAYS
from streams.health.service import WebhookQueueService
from streams.settings import Settings

_COLUMNS: Final = {
    "date": "DATE",
    "tier": "TIER",
    "dispatched": "DISPATCHED",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "top": "MOST FREQUENT",
}
_SHOWN_TYPES: Final = 3


def metrics(
    days: Annotated[int, typer.Option(min=1, max=MOST_DAYS, help="Days shown, today's included.")] = 7,
    tier: Annotated[str | None, typer.Option(help="Events of this tier only.")] = None,
    as_json: Json = False,
) -> None:
    """Count the events of the last days by date (of UTC), tier and type, the newest day first.

    DISPATCHED were accepted on that day; COMPLETED and FAILED of them have ended so by now. With --json a map of dates
    to tiers, days and tiers without events included. WEBHOOK_QUEUE_MONITORING=false switches it off.

    [bold]Examples[/bold]

      webhook metrics --days 7

      webhook metrics --days=30 --tier high --json
    """
    settings = Settings()
    names = None if tier is None else tier_names([tier])
    found = WebhookQueueService(settings).get_queue_metrics(days)
    if names is not None:
        found = {day: {name: each for name, each in tiers.items() if name in names} for day, tiers in found.items()}
    if as_json:
        show_json(found)
    elif not settings.queue_monitoring:
        say("Metrics are switched off by WEBHOOK_QUEUE_MONITORING.")
    else:
        rows = [_row(day, name, each) for day, tiers in found.items() for name, each in tiers.items()]
        nothing = f"No event was accepted in the last {days} days." if days > 1 else "No event was accepted today."
        show([row for row in rows if row["dispatched"]], _COLUMNS, False, nothing)


def _row(day: str, tier: str, counts: dict[str, Any]) -> dict[str, object]:
    most = list(counts["event_types"].items())[:_SHOWN_TYPES]
    top = ", ".join(f"{name or '(no type)'} {count}" for name, count in most)
    return {"date": day, "tier": tier, **counts, "top": top}
