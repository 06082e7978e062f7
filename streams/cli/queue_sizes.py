"""``webhook queue monitor``: how much each tier has open, and which have too much."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Final

import typer

from projections.waiting import Reason, WaitingCount, count_waiting
from streams.broker.runtime import resolve
from streams.cli.console import Json, short_time, show
from streams.cli.tiers import TIERS_HELP, tier_names
from streams.database import opened_database
from streams.settings import Settings

_RESERVED: Final[frozenset[Reason]] = frozenset({"running"})
_DELAYED: Final[frozenset[Reason]] = frozenset({"due_at", "retry_at", "call_back"})
_COLUMNS: Final = {
    "tier": "TIER",
    "status": "STATUS",
    "size": "SIZE",
    "pending": "PENDING",
    "delayed": "DELAYED",
    "reserved": "RESERVED",
    "oldest_pending": "OLDEST PENDING",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSize:
    """Events of a tier that have not ended. ``oldest_pending`` is the acceptance of the first that could start."""

    tier: str
    queue: str
    size: int
    pending: int
    delayed: int
    reserved: int
    oldest_pending: datetime | None
    status: str


def monitor(
    tiers: Annotated[list[str] | None, typer.Argument(metavar="[TIER]...", help=TIERS_HELP)] = None,
    most: Annotated[
        int, typer.Option("--max", min=1, help="A tier with so many open events or more is an ALERT.")
    ] = 1000,
    as_json: Json = False,
) -> None:
    """Say how many events of each tier are open, waiting for their time, and running, and which tiers have too many.

    Runs are counted as far as the history knows of them; `webhook why ID` asks the workers. The exit code is 0 also
    where there is an ALERT: programs read the status.

    [bold]Examples[/bold]

      webhook queue monitor

      webhook queue monitor high low --max 100 --json
    """
    settings = resolve(Settings(), kafka=False)
    names = tier_names(tiers or ["all"])
    with opened_database(settings, "projections", read_only=True) as engine, engine.connect() as connection:
        counts = count_waiting(connection)
    sizes = [queue_size(name, settings.catalogue().topic(name), counts, most) for name in names]
    rows = [asdict(each) for each in sizes]
    if not as_json:
        rows = [{**each, "oldest_pending": _shown(each["oldest_pending"])} for each in rows]
    show(rows, _COLUMNS, as_json, "There are no tiers.")


def queue_size(tier: str, queue: str, counts: Sequence[WaitingCount], most: int) -> QueueSize:
    """What the counts of open events by tier and reason say of one tier. Pure."""
    own = [each for each in counts if each.tier == tier]
    could_start = [each for each in own if each.reason not in _RESERVED | _DELAYED]
    size = _sum(own)
    return QueueSize(
        tier=tier,
        queue=queue,
        size=size,
        pending=_sum(could_start),
        delayed=_sum(each for each in own if each.reason in _DELAYED),
        reserved=_sum(each for each in own if each.reason in _RESERVED),
        oldest_pending=min((each.oldest_accepted_at for each in could_start), default=None),
        status="ALERT" if size >= most else "OK",
    )


def _sum(counts: Iterable[WaitingCount]) -> int:
    return sum(each.events for each in counts)


def _shown(moment: datetime | None) -> str:
    return "" if moment is None else short_time(moment)
