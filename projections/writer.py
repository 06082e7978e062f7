"""Writes a batch of the log into the tables and moves its positions, both or neither (R19)."""

import logging
import random
import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from projections import positions
from projections.attempts import resolve_attempts
from projections.changes import resolve_changes
from projections.derived import close_waits, collect_results
from projections.fold import Rows
from projections.history import resolve_events
from projections.records import LogRecord, Positions
from projections.schedule import resolve_schedule
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_CHANGES, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from projections.upsert import Target

_log = logging.getLogger(__name__)

EVENTS: Final = Target(WEBHOOK_EVENTS, resolve_events, frozenset({"results"}))
ATTEMPTS: Final = Target(WEBHOOK_ATTEMPTS, resolve_attempts)
CHANGES: Final = Target(WEBHOOK_CHANGES, resolve_changes)
SCHEDULE: Final = Target(WEBHOOK_SCHEDULE, resolve_schedule, frozenset({"closed_at"}))
_CONTENTION: Final = frozenset({"40P01", "40001"})
_TRIES: Final = 10


def write_batch(connection: Connection, records: Sequence[LogRecord], epoch: str) -> Positions:
    """Project records in the caller's transaction, and give the positions of their partitions.

    Records below a partition's position are skipped: they have been projected. Offsets rise within each partition.
    Raises ``EpochChanged`` where the log has been replaced (R20), ``Undecodable`` where ``check_fact`` would.
    """
    found = positions.lock(connection, epoch, {(record.topic, record.partition) for record in records})
    reached = dict(found)
    rows = Rows()
    for record in records:
        partition = record.topic, record.partition
        if record.offset < reached[partition]:
            continue
        if record.fact is not None:
            rows.add(record.fact)
        reached[partition] = record.offset + 1
    # The history first: its row locks put writers of one event in line, so that what is derived below sees both.
    EVENTS.write(connection, rows.events)
    ATTEMPTS.write(connection, rows.attempts)
    CHANGES.write(connection, rows.changes)
    SCHEDULE.write(connection, rows.schedule)
    collect_results(connection, rows)
    close_waits(connection, rows)
    moved = {partition: offset for partition, offset in reached.items() if offset != found[partition]}
    if moved:
        positions.store(connection, epoch, moved)
    return reached


def write(engine: Engine, records: Sequence[LogRecord], epoch: str) -> Positions:
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
            _log.info("batch of %d records collided with another writer, trying again", len(records))
            time.sleep(random.uniform(0.005, 0.05) * tried)  # noqa: S311
