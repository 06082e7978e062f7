"""Writes outcomes and continuations: batched and idempotent, each with its delivery report (DESIGN §5, item 3)."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.codec import encode
from schemas.events import DeadLetter, Event, RecordHeader, Source, TaskEvent
from streams.background import OnCrash, run_in_background
from streams.broker.connection import producer_config
from streams.engine.contract import ConsumedRecord
from streams.headers import Headers, record_headers, task_identity
from streams.settings import Settings
from topics.catalogue import MIB

_log = structlog.get_logger(__name__)

Delivered = Callable[[int], None]
"""Called on the event loop with the record's offset when all in-sync replicas have it."""

POLL_S: Final = 0.003
ERROR_TEXT_CHARACTERS: Final = 8 * 1024
RECORD_ROOM_BYTES: Final = 4 * 1024
"""Left free below a topic's limit for key, headers and the batch's own frame."""

_DEAD_LETTER_ROOM: Final = 16 * 1024


class Outgoing(NamedTuple):
    """A record to be produced. ``partition`` -1: by the key."""

    topic: str
    value: bytes
    key: bytes | None
    headers: Headers
    partition: int = -1


class OutcomeWriter:
    """One producer of one worker.

    A report that says a record will never be written calls ``on_crash`` unless the caller gave ``refused``: what
    cannot be recorded must not be acknowledged, so the worker stops (R3).
    """

    def __init__(self, settings: Settings, on_crash: OnCrash) -> None:
        catalogue = settings.catalogue()
        self.events_topic = catalogue.events
        self.dead_letters_topic = catalogue.dead_letters
        self._dead_letter_bytes = catalogue.specs[catalogue.dead_letters].max_message_bytes
        self._on_crash = on_crash
        self._producer = Producer(
            {
                **producer_config(settings),
                "linger.ms": 5,
                # A broker that is away is waited for: what could not be delivered is never given up (R3).
                "message.timeout.ms": 0,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 256 * 1024,
            }
        )
        self._poller: asyncio.Task[None] | None = None
        self.undelivered = 0

    async def start(self) -> None:
        """Begin to take delivery reports, on the running loop."""
        self._poller = run_in_background("outcome-reports", self._poll(), self._on_crash)

    async def stop(self) -> None:
        """Wait up to ten seconds for what is under way, then stop."""
        undelivered = await asyncio.to_thread(self._producer.flush, 10)
        if self._poller is not None:
            self._poller.cancel()
        if not undelivered:
            # Closing would wait for ever for what cannot be delivered; open, it would go on looking for its brokers.
            await asyncio.to_thread(self._producer.close)

    def poll(self) -> None:
        """Take the delivery reports that are there."""
        self._producer.poll(0)

    def produce(
        self, record: Outgoing, delivered: Delivered, refused: Callable[[KafkaError], None] | None = None
    ) -> None:
        """Hand a record to the producer; ``refused`` is called where it will never be written."""

        def report(error: KafkaError | None, message: Message) -> None:
            self.undelivered -= 1
            if error is None:
                delivered(message.offset())
            elif refused is not None:
                refused(error)
            else:
                self._on_crash("outcome-writer", KafkaException(error))

        while True:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    record.partition,
                    on_delivery=report,
                    headers=record.headers,
                )
            except BufferError:
                # The queue is bounded and a full one must drain before anything else happens.
                self._producer.poll(0.05)
            except KafkaException as error:
                if refused is None:
                    self._on_crash("outcome-writer", error)
                else:
                    refused(error.args[0])
                return
            else:
                self.undelivered += 1
                return

    def record(
        self,
        event: TaskEvent,
        source: Source,
        key: bytes | None,
        delivered: Delivered,
        *,
        traceparent: bytes | None = None,
    ) -> None:
        """Write to the partition of `.events` that has the source's number (R2); an outcome too large is cut (R3)."""

        def refused(error: KafkaError) -> None:
            _log.error("an outcome was refused; a minimal one is written", error=str(error), event_id=event.event_id)
            self.produce(self._outgoing(minimal(event, str(error)), source, key, traceparent), delivered)

        try:
            record = self._outgoing(event, source, key, traceparent)
        except ValueError as error:
            _log.error("an outcome does not fit its schema", error=str(error), event_id=event.event_id)
            record = self._outgoing(minimal(event, str(error)), source, key, traceparent)
        self.produce(record, delivered, refused)

    async def write(
        self, event: TaskEvent, source: Source, key: bytes | None, *, traceparent: bytes | None = None
    ) -> int:
        """``record``, awaited: the offset in `.events`."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.record(event, source, key, resolver(future), traceparent=traceparent)
        return await future

    async def send(self, topic: str, event: Event, key: bytes | None, headers: Headers | None = None) -> int:
        """Produce an event by its key, awaited: its offset.

        Raises ``KafkaException`` where the brokers or the producer refuse it for good, ``ValueError`` where it does not
        fit its schema.
        """
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def refused(error: KafkaError) -> None:
            if not future.done():
                future.set_exception(KafkaException(error))

        self.produce(Outgoing(topic, encode(event), key, headers or record_headers(event)), resolver(future), refused)
        return await future

    def dead_letter(self, letter: DeadLetter, delivered: Delivered) -> None:
        """Write a record that nobody can read to `.dead-letters`, its value cut where it would not fit."""
        room = self._dead_letter_bytes - _DEAD_LETTER_ROOM
        if letter.value is not None and len(letter.value) > room:
            letter.value = letter.value[:room]
            letter.error = f"{letter.error} (the value is cut to {room} bytes)"
        self.produce(
            Outgoing(self.dead_letters_topic, encode(letter), letter.record_key, record_headers(letter)), delivered
        )

    def _outgoing(self, event: TaskEvent, source: Source, key: bytes | None, traceparent: bytes | None) -> Outgoing:
        headers = event_headers(event, source, traceparent)
        return Outgoing(self.events_topic, encode(event), key, headers, source.partition)

    async def _poll(self) -> None:
        while True:
            self._producer.poll(0)
            await asyncio.sleep(POLL_S)


def event_headers(event: TaskEvent, source: Source, traceparent: bytes | None) -> Headers:
    """Headers of a record on `.events`: what ledgers read without decoding it (R2)."""
    headers = record_headers(event, traceparent=traceparent)
    headers.append(("kind", event.kind.encode()))
    headers.append(("source", f"{source.topic}|{source.partition}|{source.offset}".encode()))
    headers.append(("identity", task_identity(event).encode()))
    if event.remaining_s is not None:
        headers.append(("remaining_s", b"%.3f" % event.remaining_s))
    return headers


def resolver(future: "asyncio.Future[int]") -> Delivered:
    """A ``Delivered`` that sets the result of a future, unless its awaiter was cancelled."""

    def delivered(offset: int) -> None:
        if not future.done():
            future.set_result(offset)

    return delivered


def minimal(event: TaskEvent, reason: str) -> TaskEvent:
    """What is still written of an outcome that could not be written: that its task failed for good, and why."""
    return TaskEvent(
        kind="failed_permanently",
        event_id=event.event_id,
        run=event.run,
        step=event.step,
        attempt=event.attempt,
        dispatch_seq=event.dispatch_seq,
        tenant_id=event.tenant_id,
        accepted_at=event.accepted_at,
        recorded_at=event.recorded_at,
        tier=event.tier,
        endpoint=event.endpoint[:200],
        handler=event.handler,
        worker=event.worker,
        started_at=event.started_at,
        finished_at=event.finished_at,
        source_topic=event.source_topic,
        source_partition=event.source_partition,
        source_offset=event.source_offset,
        error=f"The outcome ({event.kind}) could not be written: {reason[:1000]}",
        error_code="outcome_not_writable",
    )


def fits(value: bytes, key: bytes | None) -> bool:
    """Whether a record of that value and key is within every topic's limit."""
    return len(value) + len(key or b"") <= MIB - RECORD_ROOM_BYTES


def cut(text: str) -> str:
    """Free text within what an outcome may carry; only free text is ever cut (R3)."""
    return text if len(text) <= ERROR_TEXT_CHARACTERS else text[: ERROR_TEXT_CHARACTERS - 1] + "…"


def dead_letter_of(record: ConsumedRecord, group: str, reason: str, error: str, failed_at: int) -> DeadLetter:
    """The dead letter of a consumed record, with its original bytes."""
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        group=group,
        reason=reason,
        error=cut(error),
        failed_at=failed_at,
        record_key=record.key,
        value=record.value,
        headers=[RecordHeader(name=name, value=value) for name, value in record.headers or ()],
        record_timestamp=record.timestamp * 1000,
    )
