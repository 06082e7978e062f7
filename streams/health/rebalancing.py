"""From the tiers' loads to commands that move waiting records: how many, of which partitions and keys (R16)."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas.codec import decode_as
from schemas.errors import Undecodable
from schemas.events import TaskReady
from streams.agents.acceptance import LANE
from streams.broker.connection import consumer_config
from streams.broker.jars import Report
from streams.control.moves import Move
from streams.engine.decide import RECONCILE
from streams.errors import SetupError
from streams.health.offsets import OffsetReader, Progress
from streams.settings import Settings
from topics.balance import SLICES, Shift, slice_of, targets

MOST_READ: Final = 100_000
"""Waiting records of one tier that are looked at; a rebalance that leaves some is run again."""

_BATCH: Final = 1000
_POLL_S: Final = 0.2
_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A command, and how many records it reaches at most: those that have been started or have ended stay."""

    move: Move
    records: int


@dataclass(slots=True)
class Waiting:
    """What waits in one partition of a tier: movable records by target and slice of their keys, all before ``end``."""

    partition: int
    end: int = 0
    movable: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def count(self, offset: int, key: bytes, may_go_to: frozenset[str]) -> None:
        """One more record."""
        self.end = max(self.end, offset + 1)
        for target in may_go_to:
            self.movable[target][slice_of(key)] += 1


def plan(settings: Settings, wanted: Sequence[Shift], report: Report) -> list[PlannedMove]:
    """The commands for ``wanted``. Reads what waits in the tiers that give, and commits nothing.

    Raises ``KafkaException`` where the brokers do not answer, ``SetupError`` where they stop sending.
    """
    planned: list[PlannedMove] = []
    reader = OffsetReader(settings)
    try:
        progress = reader.read()
    finally:
        reader.close()
    for source in dict.fromkeys(shift.source for shift in wanted):
        topic = settings.catalogue().topic(source)
        lags = {number: each for (name, number), each in progress[source].items() if name == topic and each.lag}
        waiting = _read(settings, source, lags, report)
        planned += moves_of(source, [shift for shift in wanted if shift.source == source], waiting)
    return planned


def moves_of(source: str, wanted: Sequence[Shift], waiting: Sequence[Waiting]) -> list[PlannedMove]:
    """The commands by which ``source`` gives what is wanted of what waits, never more. Pure.

    Keys go whole: a partition's slices are taken one after the other, as many as fit, and each goes to one target.
    """
    planned: list[PlannedMove] = []
    begun: Counter[int] = Counter()
    for shift in wanted:
        left = shift.records
        total = sum(sum(each.movable[shift.target].values()) for each in waiting)
        for each in waiting:
            here = sum(each.movable[shift.target].values())
            if not here:
                continue
            # Its part of the whole, so that every partition, and with it every worker, is relieved alike.
            share = min(left, -(-shift.records * here // total))
            first, end, records = _slices(each.movable[shift.target], begun[each.partition], share)
            if records:
                move = Move(source, each.partition, each.end, shift.target, first, end)
                planned.append(PlannedMove(move, records))
                begun[each.partition] = end
                left -= records
    return planned


def _slices(counts: Mapping[int, int], begin: int, most: int) -> tuple[int, int, int]:
    """The first run of slices from ``begin`` on that holds some records and at most so many; with their number."""
    first, records = begin, 0
    for number in range(begin, SLICES):
        count = counts.get(number, 0)
        if records + count <= most:
            records += count
        elif records:
            return first, number, records
        else:
            # A slice too large by itself, of one busy key perhaps, stays.
            first = number + 1
    return first, SLICES, records


def _read(settings: Settings, tier: str, lags: Mapping[int, Progress], report: Report) -> list[Waiting]:
    """What waits, up to the present ends."""
    found = {number: Waiting(number) for number in lags}
    total = min(MOST_READ, sum(each.lag for each in lags.values()))
    if not total:
        return []
    topic = settings.catalogue().topic(tier)
    consumer = Consumer(consumer_config(settings, "webhook-rebalance"))
    try:
        consumer.assign([TopicPartition(topic, number, each.next) for number, each in lags.items()])
        open_partitions, seen, heard_s = set(lags), 0, time.monotonic()
        while open_partitions and seen < total:
            for message in consumer.consume(_BATCH, _POLL_S):
                _check(message)
                number, offset = message.partition(), message.offset()
                if number not in open_partitions:
                    continue
                heard_s = time.monotonic()
                found[number].count(offset, message.key() or b"", _targets(message, tier))
                seen += 1
                if offset + 1 >= lags[number].end:
                    open_partitions.discard(number)
            report(f"reading what waits in {tier}", seen, total)
            if time.monotonic() - heard_s > _PATIENCE_S:
                raise SetupError(
                    f"What waits in {tier} could not be read: nothing came for {_PATIENCE_S:g} s.",
                    "Check the brokers, then run it again; nothing was moved.",
                    exit_code=1,
                )
    finally:
        consumer.close()
    return [each for each in found.values() if each.end]


def _check(message: Message) -> None:
    if message.error() is not None and message.error().fatal():
        raise KafkaException(message.error())


def _targets(message: Message, tier: str) -> frozenset[str]:
    """Where a record may go, as its worker will judge it: strict ones and those that a gate let go stay."""
    try:
        task = decode_as(TaskReady, message.value() or b"")
    except Undecodable:
        return frozenset()
    if task.gate is not None or LANE in task.options or RECONCILE in task.options:
        return frozenset()
    return targets(task.event_type, task.priority, tier)
