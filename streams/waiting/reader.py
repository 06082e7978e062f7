"""Answers why events wait: page by page, or of one event."""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine

from projections.queries import MAX_LIMIT, find_event
from projections.waiting import (
    IN_TIER,
    Reason,
    Selection,
    WaitingEvent,
    ahead_in_tier,
    waiting_event,
    waiting_events,
)
from streams.waiting.reasons import Live, WhyWaiting, explain
from streams.waiting.sources import LiveSources


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which events are asked for; ``None``: all. ``after``: id of the last event of the page before."""

    tenant_id: str | None = None
    tier: str | None = None
    reason: Reason | None = None
    after: str | None = None


EVERYTHING: Final = Asked()

_MOST_LOOKS: Final = 20
"""Pages of the view that one answer takes: most of what is in a tier may have another reason than the one asked for."""


@dataclass(frozen=True, slots=True)
class Page:
    """Waiting events in order of acceptance. ``next`` is the ``after`` of the page that may follow, also a short one.

    ``live`` is false where only the tables could be asked.
    """

    waiting: list[WhyWaiting]
    next: str | None
    live: bool


@dataclass(frozen=True, slots=True)
class EventWaiting:
    """One event: ``waiting`` is ``None`` where it has ended."""

    event_id: str
    status: str
    waiting: WhyWaiting | None


class UnknownEvent(LookupError):
    """There is no such event within reach; the message is for people."""


class WaitingReader:
    """Answers why events wait. Blocks."""

    def __init__(self, engine: Engine, sources: LiveSources) -> None:
        self._engine = engine
        self.sources = sources

    def page(self, asked: Asked = EVERYTHING, limit: int = 20) -> Page:
        """At most ``limit`` events, 1..1000. Raises ``UnknownEvent`` for an ``after`` that is none."""
        live = self.sources.look()
        with self._engine.connect() as connection:
            search = _Search(asked, limit, live)
            search.run(connection)
        return Page(search.found, search.next, live is not None)

    def event(self, event_id: str, tenant_id: str | None = None) -> EventWaiting:
        """Why one event waits, with its place in its tier. Raises ``UnknownEvent``, also for another tenant's."""
        live = self.sources.look()
        with self._engine.connect() as connection:
            waiting = waiting_event(connection, event_id, tenant_id=tenant_id)
            known = _known(connection, event_id, tenant_id)
            if waiting is None:
                return EventWaiting(event_id, known.status, None)
            why = explain(waiting, live)
            if why.reason == IN_TIER:
                running = live.running if live is not None else ()
                why = explain(waiting, live, ahead_in_tier(connection, waiting, running) + 1)
        return EventWaiting(event_id, known.status, why)


class _Known(NamedTuple):
    accepted_at: datetime
    status: str


def _known(connection: Connection, event_id: str, tenant_id: str | None) -> _Known:
    event = find_event(connection, event_id, tenant_id=tenant_id)
    if event is None:
        raise UnknownEvent(f"no event {event_id:.80} is recorded")
    return _Known(event.accepted_at, event.status)


@dataclass(slots=True)
class _Search:
    """Reads pages of the view until enough events have the reason that is asked for, or it has looked for long."""

    asked: Asked
    limit: int
    live: Live | None
    found: list[WhyWaiting] = field(default_factory=list)
    places: Counter[str | None] = field(default_factory=Counter)
    next: str | None = None

    def run(self, connection: Connection) -> None:
        which = self._selection()
        if self.asked.after is not None:
            accepted_at = _known(connection, self.asked.after, self.asked.tenant_id).accepted_at
            which = replace(which, after=(accepted_at, self.asked.after))
        size = self.limit if self.asked.reason is None else MAX_LIMIT
        for _ in range(_MOST_LOOKS):
            rows = waiting_events(connection, which, size)
            for row in rows:
                self._take(row)
                if len(self.found) == self.limit:
                    self.next = row.event_id
                    return
            if len(rows) < size:
                return
            which = replace(which, after=(rows[-1].accepted_at, rows[-1].event_id))
        self.next = rows[-1].event_id

    def _take(self, row: WaitingEvent) -> None:
        place = None
        # Only from the first event of all tenants on is everybody counted who is before one.
        if self.asked.after is None and self.asked.tenant_id is None and row.reason == IN_TIER:
            if self.live is None or row.event_id not in self.live.running:
                self.places[row.tier] += 1
            place = self.places[row.tier]
        why = explain(row, self.live, place)
        if self.asked.reason in (None, why.reason):
            self.found.append(why)

    def _selection(self) -> Selection:
        """What of the view can have the reason: what only workers know is in a tier for the tables."""
        asked, live = self.asked, self.live
        tiers = None if asked.tier is None else [asked.tier]
        which = Selection(tenant_id=asked.tenant_id, tiers=tiers)
        if asked.reason is None:
            return which
        if asked.reason == "running":
            return replace(which, reasons=["running"], or_ids=live.running if live is not None else ())
        if asked.reason == "paused":
            paused = live.paused_tiers() if live is not None else []
            both = [tier for tier in paused if tiers is None or tier in tiers]
            return replace(which, reasons=[IN_TIER], tiers=both)
        return replace(which, reasons=[IN_TIER if asked.reason == "key_busy" else asked.reason])
