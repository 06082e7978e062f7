"""Writes outcomes and continuations: batched and idempotent, each with its delivery report (DESIGN §5, item 3)."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.codec import encode
from schemas.events import DeadLetter, Event, RecordHeader, Source, TaskEvent
from streams.background import OnCrash, run_in_background
from streams.broker.connection import producer_config
from streams.engine.contract import ConsumedRecord
from streams.headers import Headers, event_headers, record_headers
from streams.settings import Settings
from topics.catalogue import MIB

_log = structlog.get_logger(__name__)

Delivered = Callable[[int], None]
"""Called on the event loop with the record's offset when all in-sync replicas have it."""

POLL_S: Final = 0.003
_STOP_S: Final = 10.0
ERROR_TEXT_CHARACTERS: Final = 8 * 1024
RECORD_ROOM_BYTES: Final = 4 * 1024
"""Left free below a topic's limit for key, headers and the batch's own frame."""

_DEAD_LETTER_ROOM: Final = 16 * 1024
_NOT_IN_MINIMAL: Final = (
    "result",
    "model",
    "model_id",
    "settings_entry",
    "failover_from",
    "next_topic",
    "next_step",
    "next_attempt",
    "next_due_at",
    "plugin_version",
    "pipeline_hash",
    "gate",
)


class Outgoing(NamedTuple):
    """A record to be produced. ``partition`` -1: by the key."""

    topic: str
    value: bytes
    key: bytes | None
    headers: Headers
    partition: int = -1


Refused = Callable[[KafkaError], None]
"""Called on the event loop where a record will never be written."""


UNTOLD: Final = -1
"""Offset of a record that is in the log without anybody saying where."""


def offset_of(message: Message) -> int:
    """Where a delivered record lies; ``UNTOLD`` where it was sent again and the brokers had it already."""
    offset = message.offset()
    return offset if offset is not None else UNTOLD


class Delivery(Protocol):
    """A record under way."""

    def report(self, error: KafkaError | None, message: Message) -> None:
        """Its delivery report; takes it off the writer's ``undelivered``."""

    def refuse(self, error: KafkaError) -> None:
        """The producer itself does not take it."""


class _Delivery:
    """A record under way; ``report`` is its delivery report. Cheaper than a closure for each record."""

    __slots__ = ("delivered", "refused", "writer")

    def __init__(self, writer: "OutcomeWriter", delivered: Delivered, refused: Refused | None) -> None:
        self.writer = writer
        self.delivered = delivered
        self.refused = refused

    def report(self, error: KafkaError | None, message: Message) -> None:
        self.writer.undelivered -= 1
        if error is None:
            self.delivered(offset_of(message))
        else:
            self.refuse(error)

    def refuse(self, error: KafkaError) -> None:
        if self.refused is None:
            self.writer.on_crash("outcome-writer", KafkaException(error))
        else:
            self.refused(error)


class _OutcomeDelivery(_Delivery):
    """An outcome under way: where it is refused, a minimal one follows (R3)."""

    __slots__ = ("event", "key", "source")

    def __init__(
        self, writer: "OutcomeWriter", delivered: Delivered, event: TaskEvent, source: Source, key: bytes | None
    ) -> None:
        self.writer = writer
        self.delivered = delivered
        self.event = event
        self.source = source
        self.key = key

    def refuse(self, error: KafkaError) -> None:
        event, source = self.event, self.source
        _log.error("an outcome was refused; a minimal one is written", error=str(error), event_id=event.event_id)
        make_minimal(event, str(error))
        record = Outgoing(
            self.writer.events_topic, encode(event), self.key, event_headers(event, source), source.partition
        )
        self.writer.produce(record, self.delivered)


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
        self.on_crash = on_crash
        self._producer = Producer(
            {
                **producer_config(settings),
                "linger.ms": settings.linger_ms,
                # A broker that is away is waited for: what could not be delivered is never given up (R3).
                "message.timeout.ms": 0,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 256 * 1024,
            }
        )
        self._poller: asyncio.Task[None] | None = None
        self.undelivered = 0
        self.after_poll: Callable[[], None] = _nothing
        """Called on the event loop each time delivery reports may have come in."""

    async def start(self) -> None:
        """Begin to take delivery reports, on the running loop."""
        self._poller = run_in_background("outcome-reports", self._poll(), self.on_crash)

    async def stop(self) -> None:
        """Wait up to ten seconds for what is under way, then stop."""
        # Not ``flush`` in a thread: what delivery reports lead to belongs on the event loop.
        end = time.monotonic() + _STOP_S
        while len(self._producer) and time.monotonic() < end:
            await asyncio.sleep(POLL_S)
            self._producer.poll(0)
            self.after_poll()
        if self._poller is not None:
            self._poller.cancel()
        if not len(self._producer):
            # Closing would wait for ever for what cannot be delivered; open, it would go on looking for its brokers.
            await asyncio.to_thread(self._producer.close)

    def flush(self, timeout_s: float) -> None:
        """Block until all that was produced is delivered, ``timeout_s`` at most; for a worker that is about to end."""
        self._producer.flush(timeout_s)

    def poll(self) -> None:
        """Take the delivery reports that are there."""
        self._producer.poll(0)

    def produce(self, record: Outgoing, delivered: Delivered, refused: Refused | None = None) -> None:
        """Hand a record to the producer; ``refused`` is called where it will never be written."""
        self._produce(_Delivery(self, delivered, refused), *record)

    def hand_over(self, delivery: Delivery, value: bytes, key: bytes | None, partition: int, headers: Headers) -> None:
        """Produce an encoded record of `.events`, whose report goes to ``delivery``."""
        self._produce(delivery, self.events_topic, value, key, headers, partition)

    def _produce(
        self, delivery: Delivery, topic: str, value: bytes, key: bytes | None, headers: Headers, partition: int
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, delivery.report, None, 0, headers)
            except BufferError:
                # The queue is bounded and a full one must drain before anything else happens.
                self._producer.poll(0.05)
            except KafkaException as error:
                delivery.refuse(error.args[0])
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
        """Write to the partition of `.events` that has the source's number (R2).

        An outcome that the schema, the producer or the brokers refuse is made ``minimal`` and written so (R3).
        """
        try:
            value = encode(event)
        except ValueError as error:
            _log.error("an outcome does not fit its schema", error=str(error), event_id=event.event_id)
            make_minimal(event, str(error))
            value = encode(event)
        delivery = _OutcomeDelivery(self, delivered, event, source, key)
        headers = event_headers(event, source, traceparent)
        self._produce(delivery, self.events_topic, value, key, headers, source.partition)

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

    async def _poll(self) -> None:
        while True:
            self._producer.poll(0)
            self.after_poll()
            await asyncio.sleep(POLL_S)


def _nothing() -> None:
    """What there is to do after a poll where nobody asked."""


def resolver(future: "asyncio.Future[int]") -> Delivered:
    """A ``Delivered`` that sets the result of a future, unless its awaiter was cancelled."""

    def delivered(offset: int) -> None:
        if not future.done():
            future.set_result(offset)

    return delivered


def make_minimal(event: TaskEvent, reason: str) -> None:
    """Leave of an outcome that could not be written only that its task failed for good, without sequel, and why."""
    event.error = f"The outcome ({event.kind}) could not be written: {reason[:1000]}"
    event.error_code = "outcome_not_writable"
    event.kind = "failed_permanently"
    event.endpoint = event.endpoint[:200]
    for name in _NOT_IN_MINIMAL:
        setattr(event, name, None)


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
