"""The projector: follows the log and keeps the tables at its end.

Where it reads from stands in the database, beside the rows, never in the group's offsets; those are committed only
so that the usual tools show the lag. A crash therefore repeats and loses nothing. While the database is away the
projector waits; it skips only what can never be written, and says so.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event as StopEvent
from typing import Any, Final, TypeAlias

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError

from projections import positions
from projections.positions import PositionBeyondLog
from projections.records import Dispatched, Fact, LogRecord, Positions, Scheduled
from projections.writer import Batch, Run, write
from schemas.codec import decode_as
from schemas.errors import Undecodable
from schemas.events import TaskEvent, TaskScheduled
from streams.broker.connection import consumer_config, log_ends
from streams.broker.runtime import is_embedded
from streams.database import is_away
from streams.headers import find_header
from streams.settings import Settings
from topics.catalogue import Catalogue

log = structlog.get_logger(__name__)

GROUP: Final = "webhook-projector"
OnWritten: TypeAlias = Callable[[Positions], None]

_POLL_S: Final = 0.2
_BROKER_TIMEOUT_S: Final = 15.0
_COMMIT_EVERY_S: Final = 1.0
_SHORTEST_BACKOFF_S: Final = 0.1
_LONGEST_BACKOFF_S: Final = 5.0
_SWITCH_S: Final = 0.0005
_FETCHED_KIB: Final = 32 * 1024
_EMBEDDED_FETCH_MS: Final = 10
"""The embedded broker tells of a record only when a fetch ends; intents and everyone who looks wait for this one."""

_OUT_OF_RANGE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})


@dataclass(slots=True)
class Counts:
    """What a projector has done since it started, in records that say or should say something for the tables."""

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
        # The thread that writes needs the interpreter for moments only, after each answer of the database; by default
        # it would wait for 5 ms each time while the other one decodes.
        sys.setswitchinterval(_SWITCH_S)
        consumer = Consumer(self._consumer_config())
        try:
            consumer.subscribe(self.topics, on_assign=self._assign)
            with ThreadPoolExecutor(1, "projector-writer") as writer:
                self._follow(consumer, writer)
            self._commit(consumer, at_once=True)
        finally:
            consumer.close()

    def _consumer_config(self) -> dict[str, Any]:
        config = {
            **consumer_config(self._settings, GROUP),
            # A position outside the log is an incident, never a reason to jump (R20, R21).
            "auto.offset.reset": "error",
            "queued.max.messages.kbytes": _FETCHED_KIB,
        }
        if is_embedded(self._settings):
            config["fetch.wait.max.ms"] = _EMBEDDED_FETCH_MS
        return config

    def _follow(self, consumer: Consumer, writer: ThreadPoolExecutor) -> None:
        """Read a batch while the database takes the one before it; never more than these two.

        This thread does all that needs the processor, the writer's waits for the database.
        """
        writing: Future[None] | None = None
        while not self._stop.is_set():
            batch = self._read(self._receive(consumer))
            if writing is not None and (batch.runs or writing.done()):
                writing.result()
                writing = None
            if batch.runs:
                writing = writer.submit(self._write, batch)
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
            ends = self._ends(consumer, topic, partition)
            if ends is None:
                return []
            sought.append(TopicPartition(topic, partition, _start(topic, partition, position, ends)))
        log.info("projector reads", partitions=len(sought))
        return sought

    def _ends(self, consumer: Consumer, topic: str, partition: int) -> tuple[int, int] | None:
        """First and next offset; asked again while the answer is one that passes. ``None``: stopped before."""
        backoff_s = _SHORTEST_BACKOFF_S
        while (found := log_ends(consumer, topic, partition, _BROKER_TIMEOUT_S, "projector")) is None:
            if self._stop.wait(backoff_s):
                return None
            backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
        return found

    def _write(self, batch: Batch) -> None:
        reached: Positions = {}

        def write_all() -> None:
            try:
                reached.update(write(self._engine, batch, self._epoch))
            except DataError:
                reached.update(self._write_singly(batch.records))

        if not self._insist(write_all):
            return
        self.counts.projected += sum(fact is not None for run in batch.runs for fact in run.facts)
        self._reached.put(reached)
        if self._on_written is not None:
            self._on_written(reached)

    def _write_singly(self, records: Iterable[LogRecord]) -> Positions:
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
        backoff_s = _SHORTEST_BACKOFF_S
        while True:
            try:
                work()
            except DBAPIError as error:
                if not is_away(error):
                    raise
                log.warning(
                    "the database is away, the projector waits", wait_s=backoff_s, error=str(error.orig).strip()
                )
                if self._stop.wait(backoff_s):
                    return False
                backoff_s = min(2 * backoff_s, _LONGEST_BACKOFF_S)
            else:
                return True

    def _read(self, messages: Sequence[Message]) -> Batch:
        """What the messages hold; of several in a row that hold nothing for the tables, the last."""
        batch = Batch()
        add, events = batch.rows.add, self._catalogue.events
        run = Run("", -1)
        fact: Fact | None
        for message in messages:
            if message.error() is not None:
                self._heed(message)
                continue
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if partition != run.partition or topic != run.topic:
                batch.close(run)
                run = Run(topic, partition)
            try:
                fact = decode_as(TaskEvent, message.value() or b"") if topic == events else self._wait(topic, message)
                if fact is not None:
                    add(fact)
            except Undecodable as error:
                self._skip(topic, partition, offset, error)
                fact = None
            run.append(offset, fact)
        batch.close(run)
        if self._engine.dialect.name == "postgresql":
            batch.encode()
        return batch

    def _heed(self, message: Message) -> None:
        """Stop for what the client cannot recover from."""
        error = message.error()
        if error.code() in _OUT_OF_RANGE:
            raise PositionBeyondLog(
                f"{message.topic()}[{message.partition()}] no longer holds offset {message.offset()}, which comes next "
                "in the projection: records were deleted before they were projected"
            )
        if error.fatal():
            raise KafkaException(error)
        log.warning("the projector's consumer reports", error=error.str(), topic=message.topic())

    def _wait(self, topic: str, message: Message) -> Fact | None:
        """What a record says about a wait: that it begins or, in a tier's topic, that it is over."""
        if topic == self._catalogue.scheduled:
            return Scheduled(decode_as(TaskScheduled, message.value() or b""), message.key() or b"", message.offset())
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
