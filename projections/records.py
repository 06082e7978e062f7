"""What the writer is given: records of the log, already decoded, with the place they have in it."""

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from schemas.errors import Undecodable
from schemas.events import Micros, TaskEvent, TaskScheduled
from schemas.kinds import KINDS

Positions: TypeAlias = dict[tuple[str, int], int]
"""Offset of the next record to be projected, by (topic, partition)."""

MAX_ID_LENGTH: Final = 512
"""Longest identifier, in characters: PostgreSQL refuses index entries over a third of a page."""
_LAST_INSTANT: Final = 253_402_300_799_999_999  # the end of year 9999, in microseconds


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A ``TaskScheduled`` with the key of its record, which the relay gives to the task when it is due.

    ``offset`` is the record's place in its partition: the order of a lane.
    """

    event: TaskScheduled
    record_key: bytes
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A record of a tier's topic that came from the schedule: its row needs no publishing any more."""

    schedule_id: str
    dispatched_at: Micros


Fact: TypeAlias = TaskEvent | Scheduled | Dispatched


class LogRecord(NamedTuple):
    """One record of the log. ``fact`` is ``None`` where there is nothing to project: only the position moves on."""

    topic: str
    partition: int
    offset: int
    fact: Fact | None


def check_fact(fact: Fact) -> None:
    """Raise ``Undecodable`` for what no database would take, so that one bad record cannot stop a projection."""
    if isinstance(fact, TaskEvent):
        if fact.kind not in KINDS:
            raise Undecodable(f"kind {fact.kind!r} is unknown; known are {sorted(KINDS)}", code="unknown_kind")
        # Nearly all pass here, at a third of what it takes to look at each value.
        identifiers = f"{fact.event_id}{fact.tenant_id}{fact.model_id}"
        if (
            len(identifiers) > MAX_ID_LENGTH
            or "\x00" in identifiers
            # One look at the bits of all: none is negative, none beyond the year 6537.
            or (fact.accepted_at | fact.recorded_at | (fact.started_at or 0) | (fact.finished_at or 0)) >> 57
            or fact.next_due_at is not None
        ):
            _check(
                (fact.event_id, fact.tenant_id, fact.model_id),
                (fact.accepted_at, fact.recorded_at, fact.started_at, fact.finished_at, fact.next_due_at),
            )
    elif isinstance(fact, Dispatched):
        _check((fact.schedule_id,), (fact.dispatched_at,))
    else:
        event = fact.event
        _check((event.schedule_id, event.event_id), (event.due_at, event.accepted_at, event.created_at))


def _check(identifiers: tuple[str | None, ...], instants: tuple[Micros | None, ...]) -> None:
    for identifier in identifiers:
        if identifier is not None and (len(identifier) > MAX_ID_LENGTH or "\x00" in identifier):
            raise Undecodable(
                f"identifier of {len(identifier)} characters; at most {MAX_ID_LENGTH}, and none of them zero: "
                f"{identifier[:40]!r}...",
                code="bad_identifier",
            )
    for instant in instants:
        if instant is not None and not 0 <= instant <= _LAST_INSTANT:
            raise Undecodable(f"{instant} microseconds is no time between 1970 and 9999", code="bad_time")
