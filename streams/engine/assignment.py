"""The partitions that a worker has now, with their ledgers, between driver and processor."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from faust.types.tuples import TP

from streams.engine.contract import RecordProcessor
from streams.engine.ledger import LedgerMetadata, PartitionLedger
from streams.engine.partitions import Batch, CommitOffset, Partition
from streams.engine.tail import LedgerTail


class Position(NamedTuple):
    """Where a partition begins; ``metadata`` is the commit's, ``None`` where nothing was ever committed."""

    offset: int
    metadata: str | None


class Assignment:
    """All partitions of one worker's present generation. Lives on the event loop."""

    def __init__(self, processor: RecordProcessor, tail: LedgerTail, topics: frozenset[str]) -> None:
        self.processor = processor
        self._tail = tail
        self._topics = topics
        self._partitions: dict[TP, Partition] = {}
        self._kept: dict[int, PartitionLedger] = {}
        self.finished_before = 0

    def take(self, positions: Mapping[TP, Position], generation: int) -> dict[TP, int]:
        """Begin an assignment; returns the offset to read on from, by partition.

        Called again for the same assignment it changes nothing, and the offsets are those not fetched yet.
        """
        present = self._partitions
        if present.keys() == positions.keys() and all(
            each.generation == generation and not each.closed for each in present.values()
        ):
            return self.next_offsets()
        self.finished_before = self.finished
        metadata = {tp: LedgerMetadata.parse(position.metadata) for tp, position in positions.items()}
        ledgers: dict[int, tuple[PartitionLedger, LedgerMetadata | None]] = {}
        for number in sorted({tp.partition for tp in positions}):
            committed = {tp.topic: position.offset for tp, position in positions.items() if tp.partition == number}
            known = [metadata[tp] for tp in positions if tp.partition == number]
            ledgers[number] = self._kept_ledger(number, committed) or self._new_ledger(number, committed, known)
        self._kept = {}
        self._partitions = {}
        for tp, position in positions.items():
            found = metadata[tp]
            stored = found if found is not None and found.epoch == self._tail.epoch else None
            ledger = ledgers[tp.partition][0]
            partition = Partition(tp.topic, tp.partition, generation, position.offset, ledger, stored)
            partition.count_assignment(found.assignments if found is not None else 0)
            self._partitions[tp] = partition
        self._tail.assign(ledgers)
        return self.next_offsets()

    def _kept_ledger(
        self, number: int, committed: Mapping[str, int]
    ) -> tuple[PartitionLedger, LedgerMetadata | None] | None:
        """That of the assignment before, to be read on from where it was read to; ``None`` where it lacks something."""
        ledger = self._kept.get(number)
        if ledger is None or not all(ledger.covers(topic, offset) for topic, offset in committed.items()):
            return None
        ledger.reopen()
        return ledger, LedgerMetadata(ledger.position, self._tail.epoch)

    def _new_ledger(
        self, number: int, committed: Mapping[str, int], known: Sequence[LedgerMetadata | None]
    ) -> tuple[PartitionLedger, LedgerMetadata | None]:
        ledger = PartitionLedger(number, self._topics, self._tail)
        for topic, offset in committed.items():
            ledger.cover(topic, offset)
        believed = [each for each in known if each is not None and each.epoch == self._tail.epoch]
        # One topic without a bound: its outcomes may lie anywhere, so the partition is read from its beginning.
        return ledger, min(believed) if len(believed) == len(known) else None

    def find(self, tp: TP) -> Partition | None:
        """The open partition; ``None`` where it is not assigned or is being handed over."""
        partition = self._partitions.get(tp)
        return None if partition is None or partition.closed else partition

    @property
    def partitions(self) -> list[Partition]:
        """Every partition of the assignment."""
        return list(self._partitions.values())

    @property
    def by_tp(self) -> Mapping[TP, Partition]:
        """The same, by topic and number."""
        return self._partitions

    @property
    def finished(self) -> int:
        """How many records this worker has finished."""
        return self.finished_before + sum(each.finished for each in self._partitions.values())

    def has_room(self, partition: Partition) -> bool:
        """Whether more of a partition may be fetched."""
        if partition.is_careful and partition.acker.unfinished:
            return False
        return partition.ledger.is_ready and self.processor.has_room(partition)

    def next_offsets(self) -> dict[TP, int]:
        """What each partition's next fetch must begin with."""
        return {tp: each.next_offset for tp, each in self._partitions.items() if not each.closed}

    def dispatch(self, batch: Batch) -> None:
        """Hand a fetched batch to the processor; what was fetched for a closed partition is dropped.

        Nothing is fetched before the ledger is ready (``has_room``), so its answers are complete here.
        """
        partition = batch.partition
        partition.in_transit -= len(batch.records)
        if not partition.closed:
            partition.settle_down()
            partition.acker.start_all([record.offset for record in batch.records])
            self.processor.offer(partition, batch.records)

    def marks(self) -> dict[TP, CommitOffset]:
        """What there is to commit at an assignment, before the first start (R4)."""
        return {tp: each.mark(self._tail.epoch) for tp, each in self._partitions.items()}

    def commits(self) -> dict[TP, CommitOffset]:
        """What there is to commit, with the ledger's bounds."""
        found = {tp: each.commit(self._tail.epoch) for tp, each in self._partitions.items()}
        return {tp: offset for tp, offset in found.items() if offset is not None}

    def confirm(self, offsets: Mapping[TP, CommitOffset]) -> None:
        """The brokers have stored these commits."""
        for tp, offset in offsets.items():
            partition = self._partitions.get(tp)
            if partition is not None:
                partition.confirm(offset)

    def close(self) -> list[Partition]:
        """Close every partition: nothing of it starts any more. Returns those that were open."""
        closed = [each for each in self._partitions.values() if not each.closed]
        for each in closed:
            each.closed = True
        return closed

    def forget(self) -> None:
        """Let go of the closed partitions. Their ledgers are kept until it is known which of them come back."""
        self.finished_before = self.finished
        # Those of a worker's long tasks reach far back, and the group stands still while they are read.
        self._kept = {each.number: each.ledger for each in self._partitions.values() if each.ledger.is_ready}
        self._partitions = {}
        self._tail.assign({})
