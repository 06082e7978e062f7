"""Asks during a whole run why each event waits that has not ended: none may be without a reason, or have two."""

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from projections.queries import MAX_LIMIT
from projections.tables import WEBHOOK_EVENTS
from projections.waiting import REASONS, WaitingEvent, waiting_events
from schemas.kinds import FINAL_KINDS
from streams.settings import Settings
from streams.waiting.reasons import explain
from streams.waiting.sources import LiveSources

EVERY_S: Final = 2.0


class ReasonWatch:
    """Looks at the thousand events that wait longest, every two seconds, while the database is there.

    ``unexplained``: events that had no reason, or more than one. ``seen``: how often each reason was given.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.unexplained: set[str] = set()
        self.seen: Counter[str] = Counter()
        self.looks = 0
        self._engine = engine
        self._sources = LiveSources(settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reasons", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Look once more, and no longer."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._sources.close()

    def look(self) -> None:
        """Look once; nothing happens while the database is away."""
        live = self._sources.look()
        try:
            with self._engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                waiting = _not_ended(connection)
                rows = waiting_events(connection, limit=MAX_LIMIT)
        except DBAPIError:
            return
        self.looks += 1
        self.seen.update(explain(row, live).reason for row in rows)
        self.unexplained |= unexplained(waiting, rows)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self.look()
        self.look()


def _not_ended(connection: Connection) -> Sequence[str]:
    """By what the events are, not by how the view finds them."""
    events = WEBHOOK_EVENTS.c
    query = select(events.event_id).where(events.kind.not_in(FINAL_KINDS))
    return connection.execute(query.order_by(events.accepted_at, events.event_id).limit(MAX_LIMIT)).scalars().all()


def unexplained(waiting: Sequence[str], rows: Sequence[WaitingEvent]) -> set[str]:
    """Events that have not ended and are listed with no reason of the list, or with more than one."""
    given = Counter(row.event_id for row in rows if row.reason in REASONS)
    known = set(waiting)
    return {event_id for event_id in known | set(given) if given[event_id] != 1 or event_id not in known}
