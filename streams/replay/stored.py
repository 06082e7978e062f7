"""Ended events as the history has them, with what a further task of theirs needs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, RowMapping, and_, select

from projections.attempts import FINISHED_STEP
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS


@dataclass(slots=True)
class Stored:
    """An event's row, and of its attempts: the tier of its run's first one, and the JSON results of steps by step.

    A step's result is that of the latest run that has finished it.
    """

    event: RowMapping
    tier: str
    results: dict[int, str] = field(default_factory=dict)

    def results_before(self, step: int) -> list[str] | None:
        """The results of all steps before ``step``; ``None`` where one of them is missing."""
        found = [self.results[each] for each in range(step) if each in self.results]
        return found if len(found) == step else None


def load(connection: Connection, events: Sequence[RowMapping]) -> list[Stored]:
    """The events of these rows, in the same order."""
    found = {event["event_id"]: Stored(event, event["tier"] or "") for event in events}
    attempts, history = WEBHOOK_ATTEMPTS.c, WEBHOOK_EVENTS.c
    # Over the events: the attempts' key begins with the acceptance.
    query = (
        select(attempts.event_id, attempts.run, attempts.step, attempts.tier, attempts.kind, attempts.result)
        .join(WEBHOOK_EVENTS, and_(history.accepted_at == attempts.accepted_at, history.event_id == attempts.event_id))
        .where(history.event_id.in_(list(found)))
        .order_by(attempts.event_id, attempts.run, attempts.step, attempts.attempt)
    )
    first_seen: set[tuple[str, int]] = set()
    finished: set[tuple[str, int, int]] = set()
    for event_id, run, step, tier, kind, result in connection.execute(query):
        stored = found[event_id]
        if (event_id, run) not in first_seen:
            first_seen.add((event_id, run))
            if run == stored.event["run"] and tier:
                stored.tier = tier
        if kind in FINISHED_STEP and (event_id, run, step) not in finished:
            # A step finished twice in a run counts with its first attempt.
            finished.add((event_id, run, step))
            stored.results[step] = result or "null"
    return list(found.values())


def rows_of(connection: Connection, event_ids: Iterable[str]) -> list[RowMapping]:
    """The rows of these events that there are, oldest first."""
    history = WEBHOOK_EVENTS
    query = select(history).where(history.c.event_id.in_(list(event_ids)))
    return list(connection.execute(query.order_by(history.c.accepted_at, history.c.event_id)).mappings())
