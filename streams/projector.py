"""The projector: follows the log and keeps the tables at its end.

Where it reads from stands in the database, beside the rows, never in the group's offsets; those are committed only
so that the usual tools show the lag. A crash therefore repeats and loses nothing. While the database is away the
projector waits; it skips only what can never be written, and says so.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event as StopEvent
from typing import Final, TypeAlias

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, InterfaceError, OperationalError

from projections import positions
from projections.positions import PositionBeyondLog
from projections.records import Dispatched, Fact, LogRecord, Positions, Scheduled, check_fact
from projections.writer import write
from schemas.codec import decode_as
from schemas.errors import Undecodable
from schemas.events import TaskEvent, TaskScheduled
from streams.broker.connection import consumer_config
from streams.headers import find_header
from streams.settings import Settings
from topics.catalogue import Catalogue

log = structlog.get_logger(__name__)

GROUP: Final = "webhook-projector"
OnWritten: TypeAlias = Callable[[Positions], None]

_POLL_S: Final = 0.2
_BROKER_TIMEOUT_S: Final = 15.0
_COMMIT_EVERY_S: Final = 1.0
_LONGEST_BACKOFF_S: Final = 5.0
_FETCHED_KIB: Final = 32 * 1024
_OUT_OF_RANGE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})


@dataclass(slots=True)
class Counts:
    """What a projector has done since it started, in records."""

    projected: int = 0
    skipped: int = 0


class Projector:
    """One member of the group ``webhook-projector``.

    ``epoch`` is the identity of the log (R20). ``on_written`` is called after each commit with the positions reached,
    in a thread of the projector.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        engine: Engine,
        epoch: str,
        on_written: OnWritten | None = None,
    ) -> None:
        self.counts = Counts()
        self._settings = settings
        self._catalogue = catalogue
        self._engine = engine
        self._epoch = epoch
        self._on_written = on_written
        self._failure: Exception | None = None
        self._stop = StopEvent()
        self._reached: SimpleQueue[Positions] = SimpleQueue()
        self._committed_at = 0.0

    @property
    def topics(self) -> list[str]:
        """The topics it follows: events, waits, and the tiers, whose headers tell which waits are over."""
        return [self._catalogue.events, self._catalogue.scheduled, *self._catalogue.tier_by_topic]

    def run(self, stop: StopEvent) -> None:
        """Project until ``stop`` is set. Blocks: meant for a thread of its own.

        Raises ``PositionBeyondLog`` where the log is not the one that was projected or was cut off, ``EpochChanged``
        where another projector has taken over, and ``KafkaException`` for what the client cannot recover from.
        """
        self._stop = stop
        consumer = Consumer(
            {
                **consumer_config(self._settings, GROUP),
                # A position outside the log is an incident, never a reason to jump (R20, R21).
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": _FETCHED_KIB,
            }
        )
        try:
            consumer.subscribe(self.topics, on_assign=self._assign)
            with ThreadPoolExecutor(1, "projector-writer") as writer:
                self._follow(consumer, writer)
            self._commit(consumer, at_once=True)
        finally:
            consumer.close()

    def _follow(self, consumer: Consumer, writer: ThreadPoolExecutor) -> None:
        """Read and decode a batch while the database takes the one before it; never more than these two."""
        writing: Future[None] | None = None
        while not self._stop.is_set():
            records = [self._read(message) for message in self._receive(consumer) if not self._is_error(message)]
            if writing is not None and (records or writing.done()):
                writing.result()
                writing = None
            if records:
                writing = writer.submit(self._write, records)
            self._commit(consumer)
        if writing is not None:
            writing.result()

    def _receive(self, consumer: Consumer) -> list[Message]:
        """The next records: as soon as there is one, with all that have arrived beside it."""
        first = consumer.poll(_POLL_S)
        if self._failure is not None:
            raise self._failure
        if first is None:
            return []
        return [first, *consumer.consume(self._settings.projector_batch - 1, timeout=0)]

    def _assign(self, consumer: Consumer, assigned: list[TopicPartition]) -> None:
        """Read on from the positions in the database; an exception here would be lost in the client, so it is kept."""
        try:
            consumer.assign(self._seek(consumer, assigned) if assigned else [])
        except (PositionBeyondLog, KafkaException) as error:
            self._failure = error
            consumer.unassign()

    def _seek(self, consumer: Consumer, assigned: Sequence[TopicPartition]) -> list[TopicPartition]:
        found: Positions = {}

        def claim() -> None:
            with self._engine.begin() as connection:
                found.update(
                    positions.claim(connection, self._epoch, [(each.topic, each.partition) for each in assigned])
                )

        if not self._insist(claim):
            return []
        sought = []
        for (topic, partition), position in found.items():
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_BROKER_TIMEOUT_S)
            sought.append(TopicPartition(topic, partition, _start(topic, partition, position, (low, high))))
        log.info("projector reads", partitions=len(sought))
        return sought

    def _write(self, records: Sequence[LogRecord]) -> None:
        reached: Positions = {}

        def write_all() -> None:
            try:
                reached.update(write(self._engine, records, self._epoch))
            except DataError:
                reached.update(self._write_singly(records))

        if not self._insist(write_all):
            return
        self.counts.projected += len(records)
        self._reached.put(reached)
        if self._on_written is not None:
            self._on_written(reached)

    def _write_singly(self, records: Sequence[LogRecord]) -> Positions:
        """After a batch with something in it that the database refuses: everything but that."""
        reached: Positions = {}
        for record in records:
            try:
                reached.update(write(self._engine, [record], self._epoch))
            except DataError as error:
                self._skip(record.topic, record.partition, record.offset, error)
                bare = LogRecord(record.topic, record.partition, record.offset, None)
                reached.update(write(self._engine, [bare], self._epoch))
        return reached

    def _insist(self, work: Callable[[], None]) -> bool:
        """Do it, again and again while the database is away. False where the projector was stopped before."""
        backoff_s = 0.1
        while True:
            try:
                work()
            except (OperationalError, InterfaceError) as error:
                log.warning(
                    "the database is away, the projector waits", wait_s=backoff_s, error=str(error.orig).strip()
                )
                if self._stop.wait(backoff_s):
                    return False
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
            else:
                return True

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        if error.code() in _OUT_OF_RANGE:
            raise PositionBeyondLog(
                f"{message.topic()}[{message.partition()}] no longer holds offset {message.offset()}, which comes next "
                "in the projection: records were deleted before they were projected"
            )
        if error.fatal():
            raise KafkaException(error)
        log.warning("the projector's consumer reports", error=error.str(), topic=message.topic())
        return True

    def _read(self, message: Message) -> LogRecord:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        try:
            fact = self._fact(topic, message)
            if fact is not None:
                check_fact(fact)
        except Undecodable as error:
            self._skip(topic, partition, offset, error)
            fact = None
        return LogRecord(topic, partition, offset, fact)

    def _fact(self, topic: str, message: Message) -> Fact | None:
        if topic == self._catalogue.events:
            return decode_as(TaskEvent, message.value() or b"")
        if topic == self._catalogue.scheduled:
            return Scheduled(decode_as(TaskScheduled, message.value() or b""), message.key() or b"")
        schedule_id = find_header(message.headers(), "schedule_id")
        if schedule_id is None:
            return None
        return Dispatched(schedule_id.decode(errors="replace"), message.timestamp()[1] * 1000)

    def _skip(self, topic: str, partition: int, offset: int, error: Exception) -> None:
        self.counts.skipped += 1
        log.error(
            "a record cannot be projected and is passed over",
            topic=topic,
            partition=partition,
            offset=offset,
            error=str(error).splitlines()[0],
        )

    def _commit(self, consumer: Consumer, *, at_once: bool = False) -> None:
        """Tell the group how far it is, for those who look at its lag; nothing reads it back."""
        now = time.monotonic()
        if self._reached.empty() or (now - self._committed_at < _COMMIT_EVERY_S and not at_once):
            return
        self._committed_at = now
        reached: Positions = {}
        while not self._reached.empty():
            reached |= self._reached.get()
        offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in reached.items()]
        try:
            consumer.commit(offsets=offsets, asynchronous=not at_once)
        except KafkaException as error:
            log.debug("the group's offsets were not committed", error=str(error))


def _start(topic: str, partition: int, position: int, ends: tuple[int, int]) -> int:
    """Where to read from. Raises ``PositionBeyondLog`` where the log has not what comes next (R20, R21)."""
    low, high = ends
    if position > high:
        raise PositionBeyondLog(
            f"{topic}[{partition}] ends at {high}, but was projected up to {position}: it is another log, or lost its "
            "end; restore it, or rebuild the projections"
        )
    if 0 < position < low:
        raise PositionBeyondLog(
            f"{topic}[{partition}] begins at {low}, but was projected up to {position} only: records were deleted "
            "before they were projected; rebuild the projections from what there is"
        )
    if position < low:
        log.warning("the log's beginning is gone, projecting what is left", topic=topic, partition=partition, low=low)
        return low
    return position
