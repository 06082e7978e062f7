"""A partition during one assignment: what was fetched, what is finished, what may be committed."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from streams.engine.acker import PartitionAcker
from streams.engine.contract import ConsumedRecord
from streams.engine.ledger import LedgerMetadata, PartitionLedger

BOUND_STEP: Final = 5000
"""An idle partition's commit is written again when its ledger's bound has moved so far, in records."""


class CommitOffset(int):
    """An offset to commit with what rides beside it; an ``int`` because that is what Faust's commit path carries."""

    metadata: str = ""
    bound: int = 0


class Batch(NamedTuple):
    """Records of one fetch, on their way through Faust's stream."""

    partition: "Partition"
    records: Sequence[ConsumedRecord]


class Partition:
    """One partition during one assignment (``contract.AssignedPartition``).

    ``next_offset`` is what the next fetch must begin with (R23), ``in_transit`` the number of records between fetch
    and processor.
    """

    __slots__ = (
        "acker",
        "closed",
        "finished",
        "gap_seen",
        "generation",
        "in_transit",
        "ledger",
        "next_offset",
        "number",
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
        stored_bound: int | None,
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
        self.stored_bound = stored_bound
        self.finished = 0

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

    def commit(self, epoch: str) -> CommitOffset | None:
        """What to commit now with the ledger's bound (R2); ``None`` where nothing changed or the ledger is unread."""
        if not self.ledger.is_ready:
            return None
        commit = self.acker.commit()
        offset = CommitOffset(commit.offset if commit else self.acker.low)
        offset.bound = self.ledger.bound(self.topic, offset)
        if commit is None and self.stored_bound is not None and offset.bound - self.stored_bound < BOUND_STEP:
            return None
        offset.metadata = LedgerMetadata(offset.bound, epoch).encode()
        return offset

    def confirm(self, offset: CommitOffset) -> None:
        """The brokers have stored ``offset``."""
        self.acker.confirm(offset)
        self.stored_bound = offset.bound
        self.ledger.prune(self.topic, offset)
