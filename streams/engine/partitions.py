"""A partition during one assignment: what was fetched, what is finished, what may be committed."""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from streams.engine.acker import PartitionAcker
from streams.engine.contract import ConsumedRecord
from streams.engine.ledger import LedgerMetadata, PartitionLedger

BOUND_STEP: Final = 5000
"""An idle partition's commit is written again when its ledger's bound has moved so far, in records."""


CAREFUL_FROM: Final = 3
"""Assignments without progress from which a partition is treated with care (R4)."""

IDLE_S: Final = 5.0
"""A partition without records for so long is no reason for a crash."""


class CommitOffset(int):
    """An offset to commit with what rides beside it; an ``int`` because that is what Faust's commit path carries.

    ``bound`` ``None``: only the number of assignments is news, the ledger's bound is the one known before.
    """

    metadata: str = ""
    bound: int | None = None
    assignments: int = 0


class Batch(NamedTuple):
    """Records of one fetch, on their way through Faust's stream."""

    partition: "Partition"
    records: Sequence[ConsumedRecord]


class Partition:
    """One partition during one assignment (``contract.AssignedPartition``).

    ``next_offset`` is what the next fetch must begin with (R23), ``in_transit`` the number of records between fetch
    and processor. ``assignments`` counts this one and those before it that ended without progress (R4).
    """

    __slots__ = (
        "_assignments_before",
        "_busy_at",
        "acker",
        "assignments",
        "closed",
        "finished",
        "gap_seen",
        "generation",
        "in_transit",
        "is_careful",
        "ledger",
        "next_offset",
        "number",
        "stored_assignments",
        "stored_bound",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        number: int,
        generation: int,
        first_offset: int,
        ledger: PartitionLedger,
        stored: LedgerMetadata | None,
    ) -> None:
        self.topic = topic
        self.number = number
        self.generation = generation
        self.closed = False
        self.ledger = ledger
        self.acker = PartitionAcker(first_offset)
        self.next_offset = first_offset
        self.gap_seen = -1
        self.in_transit = 0
        self.stored_bound = stored.bound if stored is not None else None
        self.stored_assignments = 0
        self.assignments = 0
        self._assignments_before = 0
        self.finished = 0
        self.is_careful = False
        self._busy_at = time.monotonic()

    def __str__(self) -> str:
        return f"{self.topic}/{self.number}"

    def finish(self, offset: int) -> None:
        """See ``contract.AssignedPartition.finish``."""
        self.acker.finish(offset)
        self.finished += 1

    def accept(self, records: Sequence[ConsumedRecord]) -> Sequence[ConsumedRecord] | None:
        """The fetched records that are wanted; ``None`` where records are missing before them: seek back (R23).

        A gap that is still there when it is fetched again is real (retention, compaction), so it is let pass.
        """
        first = records[0].offset
        if first > self.next_offset and self.gap_seen != self.next_offset:
            self.gap_seen = self.next_offset
            return None
        if first < self.next_offset:
            records = [record for record in records if record.offset >= self.next_offset]
        if records:
            self.next_offset = records[-1].offset + 1
        return records

    def take_first(self, records: Sequence[ConsumedRecord], count: int) -> Sequence[ConsumedRecord]:
        """The first of accepted records; the others have to be fetched again."""
        first = records[:count]
        self.next_offset = first[-1].offset + 1
        return first

    def count_assignment(self, before: int) -> None:
        """Count this assignment with ``before`` earlier ones; from the third on tasks run one at a time (R4).

        A hand-over takes back what the assignment added, for it was no crash; it says nothing of those before.
        """
        self.stored_assignments = before
        self._assignments_before = before
        self.assignments = before + 1
        self.is_careful = self.assignments >= CAREFUL_FROM

    def mark(self, epoch: str) -> CommitOffset:
        """What to commit at the assignment, before the first start: its count, and nothing else new (R4)."""
        return self._at(self.acker.committed, None, self.assignments, epoch)

    def commit(self, epoch: str) -> CommitOffset | None:
        """What to commit now with the ledger's bound (R2); ``None`` where nothing changed or the ledger is unread."""
        if not self.ledger.is_ready:
            assignments = self._assignments_before
            is_news = self.closed and assignments != self.stored_assignments
            return self._at(self.acker.committed, None, assignments, epoch) if is_news else None
        commit = self.acker.commit()
        assignments = self.assignments
        if commit or self._is_idle():
            assignments = 0
        elif self.closed:
            assignments = min(assignments, self._assignments_before)
        offset = commit.offset if commit else self.acker.low
        bound = self.ledger.bound(self.topic, offset)
        is_far = self.stored_bound is None or bound - self.stored_bound >= BOUND_STEP
        if commit is None and not is_far and assignments == self.stored_assignments:
            return None
        return self._at(offset, bound, assignments, epoch)

    def confirm(self, offset: CommitOffset) -> None:
        """The brokers have stored ``offset``."""
        self.acker.confirm(offset)
        self.stored_assignments = self.assignments = offset.assignments
        if offset.bound is not None:
            self.stored_bound = offset.bound
            self.ledger.prune(self.topic, offset)

    def settle_down(self) -> None:
        """Before a batch is dispatched: where nothing is left that was offered with care, care may end (R4)."""
        if self.is_careful and not self.assignments and not self.acker.unfinished:
            self.is_careful = False

    def _at(self, offset: int, bound: int | None, assignments: int, epoch: str) -> CommitOffset:
        commit = CommitOffset(offset)
        commit.bound, commit.assignments = bound, assignments
        known = bound if bound is not None else self.stored_bound
        commit.metadata = LedgerMetadata(known or 0, epoch, assignments).encode()
        return commit

    def _is_idle(self) -> bool:
        now = time.monotonic()
        if self.acker.unfinished or self.in_transit:
            self._busy_at = now
        return now - self._busy_at > IDLE_S
