"""Writes a batch of the log into the tables and moves its positions, both or neither (R19)."""

import logging
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from projections import positions
from projections.attempts import resolve_attempts
from projections.call_backs import gates_of, hand_out_call_backs, resolve_call_backs
from projections.changes import resolve_changes
from projections.derived import close_waits, collect_results
from projections.fold import Rows
from projections.history import resolve_events
from projections.records import Fact, LogRecord, Positions
from projections.schedule import resolve_schedule
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_CALL_BACKS, WEBHOOK_CHANGES, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from projections.upsert import Encoded, Target

_log = logging.getLogger(__name__)

EVENTS: Final = Target(WEBHOOK_EVENTS, resolve_events, frozenset({"results"}), begins=attrgetter("begun"))
ATTEMPTS: Final = Target(WEBHOOK_ATTEMPTS, resolve_attempts, begins=lambda _: True)
CHANGES: Final = Target(WEBHOOK_CHANGES, resolve_changes)
SCHEDULE: Final = Target(WEBHOOK_SCHEDULE, resolve_schedule, frozenset({"closed_at", "call_back_id"}))
CALL_BACKS: Final = Target(WEBHOOK_CALL_BACKS, resolve_call_backs)
_CONTENTION: Final = frozenset({"40P01", "40001"})
_TRIES: Final = 10


@dataclass(slots=True)
class Run:
    """Records of one partition, one after the other, with their offsets, which rise."""

    topic: str
    partition: int
    offsets: list[int] = field(default_factory=list)
    facts: list[Fact | None] = field(default_factory=list)

    def append(self, offset: int, fact: Fact | None) -> None:
        """Add the next record. Of records in a row that hold nothing for the tables, the last one stands for all."""
        if fact is None and self.facts and self.facts[-1] is None:
            self.offsets[-1] = offset
        else:
            self.offsets.append(offset)
            self.facts.append(fact)


class Batch:
    """Records of the log with the rows they make, folded before the database is asked.

    Offsets rise within each partition.
    """

    def __init__(self, records: Iterable[LogRecord] = ()) -> None:
        self.runs: list[Run] = []
        self.first: Positions = {}
        self.reached: Positions = {}
        self.rows = Rows()
        self.encoded: dict[str, Encoded] = {}
        for record in records:
            self.add(record)

    @property
    def records(self) -> Iterator[LogRecord]:
        """All records."""
        for run in self.runs:
            for offset, fact in zip(run.offsets, run.facts, strict=True):
                yield LogRecord(run.topic, run.partition, offset, fact)

    def add(self, record: LogRecord) -> None:
        """Fold a record in. Raises ``Undecodable`` for what cannot be projected, and is then as it was."""
        topic, partition, offset, fact = record
        if fact is not None:
            self.rows.add(fact)
        self.close(Run(topic, partition, [offset], [fact]))

    def close(self, run: Run) -> None:
        """Take in records whose facts have been added to ``rows``."""
        if not run.offsets:
            return
        place = run.topic, run.partition
        self.runs.append(run)
        self.first.setdefault(place, run.offsets[0])
        self.reached[place] = run.offsets[-1] + 1

    def encode(self) -> None:
        """Do ahead what PostgreSQL's COPY needs."""
        for target, rows in _targets(self.rows):
            if rows:
                self.encoded[target.table.name] = target.encode(rows)


def _targets(rows: Rows) -> list[tuple[Target, Mapping[Any, object]]]:
    # The history first: its row locks put writers of one event in line, so that what is derived below sees both.
    return [
        (EVENTS, rows.events),
        (ATTEMPTS, rows.attempts),
        (CHANGES, rows.changes),
        (SCHEDULE, rows.schedule),
        (CALL_BACKS, rows.call_backs),
    ]


def write_batch(connection: Connection, records: Batch | Sequence[LogRecord], epoch: str) -> Positions:
    """Project records in the caller's transaction, and give the positions of their partitions.

    Records below a partition's position are skipped: they have been projected. Offsets rise within each partition.
    Raises ``EpochChanged`` where the log has been replaced (R20), ``Undecodable`` where ``Batch.add`` does.
    """
    batch = records if isinstance(records, Batch) else Batch(records)
    found = positions.lock(connection, epoch, batch.first)
    if any(found[each] > offset for each, offset in batch.first.items()):
        batch = Batch(each for each in batch.records if each.offset >= found[each.topic, each.partition])
    for target, rows in _targets(batch.rows):
        target.write(connection, rows, batch.encoded.get(target.table.name))
    collect_results(connection, batch.rows)
    hand_out_call_backs(connection, gates_of(batch.rows.call_backs.values(), batch.rows.schedule.values()))
    close_waits(connection, batch.rows)
    if batch.reached:
        positions.store(connection, epoch, batch.reached)
    return found | batch.reached


def write(engine: Engine, records: Batch | Sequence[LogRecord], epoch: str) -> Positions:
    """Project records in a transaction of its own, again where it collided with another writer (40P01, 40001).

    Raises what ``write_batch`` raises, and ``DBAPIError`` for what trying again at once cannot mend.
    """
    tried = 0
    while True:
        try:
            with engine.begin() as connection:
                return write_batch(connection, records, epoch)
        except DBAPIError as error:
            tried += 1
            if getattr(error.orig, "pgcode", None) not in _CONTENTION or tried == _TRIES:
                raise
            _log.info("batch collided with another writer, trying again: %s", error.orig)
            time.sleep(random.uniform(0.005, 0.05) * tried)  # noqa: S311
