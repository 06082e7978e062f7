"""Failed events: listed under short numbers, tried again, or dismissed (``queue:failed`` and its kin)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Engine, RowMapping, Select, insert, or_, select

from projections.tables import WEBHOOK_EVENTS
from schemas.events import now_micros
from schemas.kinds import KINDS
from streams.replay.records import Asked, NotReplayable, end_rows, retry_rows
from streams.replay.stored import load, rows_of
from streams.replay.storing import store
from streams.replay.tables import FAILED_NUMBERS
from topics.catalogue import Catalogue

LISTED: Final = tuple(
    kind.name for kind in KINDS.values() if kind.final and kind.retryable and kind.status != "completed"
)
"""Kinds whose events are listed as failed."""

_EVENTS: Final = WEBHOOK_EVENTS.c
_CHUNK: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedFilter:
    """Which failed events are meant; ``None``: whatever there is. ``before``: ended before that time."""

    tenant_id: str | None = None
    tier: str | None = None
    error: str | None = None
    since: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent:
    """One failed event. ``number`` stands for its id in commands."""

    number: int
    event_id: str
    tenant_id: str
    tier: str | None
    endpoint: str | None
    handler: str | None
    kind: str
    attempt: int
    failed_at: datetime | None
    error: str | None
    error_code: str | None


@dataclass(slots=True)
class Dealt:
    """What became of the events asked for. ``refused`` says of each id why it was left as it is."""

    done: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


class FailedEvents:
    """The failed events of a database, and what is done about them. Blocks. Raises SQLAlchemy's ``DBAPIError``."""

    def __init__(self, engine: Engine, catalogue: Catalogue) -> None:
        self._engine = engine
        self._catalogue = catalogue

    def listed(self, which: FailedFilter, limit: int) -> list[FailedEvent]:
        """Failed events, the latest first; each is given its number with the first listing."""
        with self._engine.begin() as connection:
            rows = connection.execute(_failed(which, newest_first=True).limit(limit)).mappings().all()
            numbers = _numbered(connection, [row["event_id"] for row in rows])
        return [_listed(row, numbers[row["event_id"]]) for row in rows]

    def ids_of(self, asked: Sequence[str]) -> list[str]:
        """Event ids of ids and numbers, as they were asked. A number that nobody was given stays as it is."""
        numbers = [int(each) for each in asked if each.isdecimal() and len(each) < 19]
        with self._engine.connect() as connection:
            query = select(FAILED_NUMBERS.c.number, FAILED_NUMBERS.c.event_id)
            rows = connection.execute(query.where(FAILED_NUMBERS.c.number.in_(numbers)))
            found = {row[0]: row[1] for row in rows}
        return [found.get(int(each), each) if each.isdecimal() and len(each) < 19 else each for each in asked]

    def chosen(self, which: FailedFilter) -> list[str]:
        """Ids of all that are meant, the oldest first."""
        with self._engine.connect() as connection:
            return [row["event_id"] for row in connection.execute(_failed(which)).mappings()]

    def retry(self, event_ids: Sequence[str], *, by: str, not_done: bool = False) -> Dealt:
        """Let events try again, each with its step's tries anew; asked twice they try once.

        ``not_done``: somebody has made sure that what is unclear was not done, so nobody looks for it again.
        """
        asked = Asked(by, now_micros())

        def rows(connection: Connection, found: Sequence[RowMapping], dealt: Dealt) -> None:
            ready = []
            for stored in load(connection, _retryable(found, dealt)):
                event_id = stored.event["event_id"]
                try:
                    ready += retry_rows(stored, self._catalogue, asked, not_done=not_done)
                    dealt.done.append(event_id)
                except NotReplayable as error:
                    dealt.refused[event_id] = str(error)
            store(connection, ready)

        return self._deal(event_ids, rows)

    def dismiss(self, event_ids: Sequence[str], *, by: str, reason: str = "") -> Dealt:
        """List events no more as failed; nothing is deleted."""
        asked = Asked(by, now_micros(), reason)

        def rows(connection: Connection, found: Sequence[RowMapping], dealt: Dealt) -> None:
            ready = []
            for event in _retryable(found, dealt):
                ready += end_rows(event, "dismissed", self._catalogue, asked)
                dealt.done.append(event["event_id"])
            store(connection, ready)

        return self._deal(event_ids, rows)

    def _deal(self, event_ids: Sequence[str], work: Callable[[Connection, Sequence[RowMapping], Dealt], None]) -> Dealt:
        """In pieces, each in a transaction of its own: who is stopped has done whole events."""
        dealt = Dealt()
        unique = list(dict.fromkeys(event_ids))
        for start in range(0, len(unique), _CHUNK):
            chunk = unique[start : start + _CHUNK]
            with self._engine.begin() as connection:
                found = rows_of(connection, chunk)
                known = {row["event_id"] for row in found}
                dealt.refused |= dict.fromkeys((each for each in chunk if each not in known), "there is no such event")
                work(connection, found, dealt)
        return dealt


def _retryable(found: Iterable[RowMapping], dealt: Dealt) -> list[RowMapping]:
    """Those that have ended in a failure; of the others it is said why not."""
    chosen = []
    for event in found:
        kind = KINDS[event["kind"]]
        if kind.final and kind.retryable:
            chosen.append(event)
        elif kind.final:
            dealt.refused[event["event_id"]] = f"it has ended as {kind.name}; `webhook replay` begins a new run"
        elif kind.name in ("retried", "replayed"):
            dealt.refused[event["event_id"]] = f"it was {kind.name} already and has not ended since"
        else:
            dealt.refused[event["event_id"]] = f"it has not ended: it is {event['status']}, see `webhook why`"
    return chosen


def _failed(which: FailedFilter, newest_first: bool = False) -> Select[Any]:
    query = select(WEBHOOK_EVENTS).where(_EVENTS.kind.in_(LISTED), _EVENTS.finished_at.is_not(None))
    # The index is on the status.
    query = query.where(_EVENTS.status.in_(sorted({KINDS[kind].status or "" for kind in LISTED})))
    if which.tenant_id is not None:
        query = query.where(_EVENTS.tenant_id == which.tenant_id)
    if which.tier is not None:
        query = query.where(_EVENTS.tier == which.tier)
    if which.error is not None:
        text = _EVENTS.error.icontains(which.error, autoescape=True)
        query = query.where(or_(_EVENTS.error_code == which.error, text))
    if which.since is not None:
        query = query.where(_EVENTS.finished_at >= which.since)
    if which.before is not None:
        query = query.where(_EVENTS.finished_at < which.before)
    if newest_first:
        return query.order_by(_EVENTS.accepted_at.desc(), _EVENTS.event_id.desc())
    return query.order_by(_EVENTS.accepted_at, _EVENTS.event_id)


def _numbered(connection: Connection, event_ids: Sequence[str]) -> dict[str, int]:
    numbers = FAILED_NUMBERS
    query = select(numbers.c.event_id, numbers.c.number).where(numbers.c.event_id.in_(list(event_ids)))
    known = {row[0]: row[1] for row in connection.execute(query)}
    # The oldest of the new ones gets the lowest number.
    fresh = [{"event_id": each} for each in reversed(event_ids) if each not in known]
    if fresh:
        connection.execute(insert(numbers), fresh)
        known = {row[0]: row[1] for row in connection.execute(query)}
    return known


def _listed(row: RowMapping, number: int) -> FailedEvent:
    names = ("event_id", "tenant_id", "tier", "endpoint", "handler", "kind", "attempt", "error", "error_code")
    return FailedEvent(number=number, failed_at=row["finished_at"], **{name: row[name] for name in names})
