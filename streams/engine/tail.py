"""Reads `.events` for the ledgers: one consumer that only assigns, in a thread of its own, headers only (R2)."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.codec import decode_as
from schemas.events import Source, TaskEvent
from schemas.kinds import KINDS
from streams.background import OnCrash, run_in_background
from streams.broker.connection import admin_config, consumer_config, log_ends
from streams.broker.runtime import embedded_epoch
from streams.engine.contract import LedgerEntry
from streams.engine.ledger import GOING_ON, LedgerMetadata, PartitionLedger, TailRecord
from streams.engine.search_index import SearchIndex
from streams.settings import Settings

_log = structlog.get_logger(__name__)

AnswerT = TypeVar("AnswerT")

_BATCH: Final = 2000
_POLL_S: Final = 0.03
_ANSWER_S: Final = 20.0
_LOOK_S: Final = 5.0
_LONGEST_PAUSE_S: Final = 1.0


class _Ending(Exception):
    """The worker ends, so nobody waits for an answer any more."""


class LedgerTail:
    """The tail of one worker. ``topics`` are the worker's own: records caused by others only move the position.

    ``on_crash`` is called in the thread with what stopped it.
    """

    def __init__(self, settings: Settings, group: str, topics: frozenset[str], on_crash: OnCrash) -> None:
        self._config = {
            **consumer_config(settings, f"{group}-ledger"),
            "fetch.wait.max.ms": 50,
            "fetch.queue.backoff.ms": 50,
            "queued.max.messages.kbytes": 8 * 1024,
        }
        self._admin_config = admin_config(settings)
        self._embedded_epoch = embedded_epoch(settings)
        self._topic = settings.catalogue().events
        self._topics = topics
        self._on_crash = on_crash
        self._commands: queue.Queue[tuple[int, dict[int, tuple[PartitionLedger, LedgerMetadata | None]]] | None] = (
            queue.Queue()
        )
        self._version = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._single = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-read")
        self._reader: Consumer | None = None
        self._place: tuple[int, int] | None = None
        self._index = SearchIndex()
        self._ending = threading.Event()
        self.epoch = ""

    async def start(self) -> None:
        """Learn the log's epoch and start reading. Raises ``KafkaException`` where the brokers do not answer."""
        self._loop = asyncio.get_running_loop()
        self.epoch = await self._loop.run_in_executor(self._single, self._find_epoch)
        self._thread = run_in_background("ledger-tail", self._run, self._on_crash)

    async def stop(self) -> None:
        """Stop reading and close both consumers; who still asks for something is cancelled."""
        self._ending.set()
        self._commands.put(None)
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, _ANSWER_S)
        if self._reader is not None:
            await asyncio.get_running_loop().run_in_executor(self._single, self._reader.close)
        self._single.shutdown(wait=False)

    def assign(self, ledgers: Mapping[int, tuple[PartitionLedger, LedgerMetadata | None]]) -> None:
        """Read for these ledgers, by partition number, and for no others. Metadata of another epoch is not believed."""
        self._version += 1
        self._commands.put((self._version, dict(ledgers)))
        if not self._ending.is_set():
            self._single.submit(self._index.forget)

    async def read(self, number: int, offset: int) -> TaskEvent:
        """See ``contract.Ledger.read``."""
        return await self._ask(self._read, number, offset)

    async def search(self, number: int, from_offset: int, identity: str, dispatch_seq: int) -> LedgerEntry | None:
        """See ``contract.Ledger.search``."""
        return await self._ask(self._search, number, from_offset, identity, dispatch_seq)

    async def _ask(self, question: Callable[..., AnswerT], *arguments: object) -> AnswerT:
        if self._ending.is_set():
            raise asyncio.CancelledError
        try:
            return await asyncio.get_running_loop().run_in_executor(self._single, question, *arguments)
        except _Ending:
            raise asyncio.CancelledError from None

    def _find_epoch(self) -> str:
        """Identity of the log: cluster and topic (R20); the cluster alone where the brokers tell no topic id."""
        if self._embedded_epoch is not None:
            # The embedded broker answers no such question: each start would wait for its answer.
            return self._embedded_epoch
        admin = AdminClient(self._admin_config)
        cluster = admin.list_topics(self._topic, timeout=_ANSWER_S).cluster_id or ""
        try:
            described = admin.describe_topics(TopicCollection([self._topic]), request_timeout=5)[self._topic].result()
        except KafkaException as error:
            _log.debug("the brokers tell no topic id", topic=self._topic, error=str(error))
            return cluster
        return f"{cluster}/{described.topic_id}"

    def _run(self) -> None:
        consumer = Consumer(self._config)
        try:
            self._follow(consumer)
        except _Ending:
            pass
        finally:
            consumer.close()

    def _follow(self, consumer: Consumer) -> None:
        while True:
            command = self._commands.get()
            if command is None:
                return
            version, wanted = command
            ledgers = self._take_positions(consumer, wanted)
            unread: list[Message] = []
            while ledgers and self._commands.empty():
                # One round later: by then most delivery reports of the worker's own records have come in (``own``).
                unread, arrived = consumer.consume(_BATCH, _POLL_S), unread
                self._read_headers(arrived, version, ledgers)

    def _take_positions(
        self, consumer: Consumer, wanted: dict[int, tuple[PartitionLedger, LedgerMetadata | None]]
    ) -> dict[int, PartitionLedger]:
        positions: list[TopicPartition] = []
        for number, (ledger, metadata) in wanted.items():
            low, high = self._ends(consumer, number)
            bound = metadata.bound if metadata is not None and metadata.epoch == self.epoch else low
            if bound < low:
                _log.warning(
                    "the log no longer reaches back to the ledger's bound", partition=number, bound=bound, low=low
                )
            position = max(low, min(bound, high))
            positions.append(TopicPartition(self._topic, number, position))
            self._tell(ledger.begin, position, high)
        if positions:
            consumer.assign(positions)
        else:
            consumer.unassign()
        return {number: ledger for number, (ledger, _) in wanted.items()}

    def _read_headers(self, messages: list[Message], version: int, ledgers: dict[int, PartitionLedger]) -> None:
        found: dict[int, list[TailRecord]] = {}
        positions: dict[int, int] = {}
        for message in messages:
            if message.error() is not None:
                if message.error().fatal():
                    raise KafkaException(message.error())
                _log.warning("reading the ledger", error=str(message.error()))
                continue
            number, offset = message.partition(), message.offset()
            ledger = ledgers.get(number)
            if ledger is None:
                continue
            positions[number] = offset + 1
            if _is_own(ledger.own, offset):
                continue
            record = _parse(message)
            if record is not None and record.source.topic in self._topics:
                found.setdefault(number, []).append(record)
        if positions:
            self._tell(self._apply, version, ledgers, found, positions)

    def _apply(
        self,
        version: int,
        ledgers: dict[int, PartitionLedger],
        found: dict[int, list[TailRecord]],
        positions: dict[int, int],
    ) -> None:
        if version == self._version:
            for number, position in positions.items():
                ledgers[number].apply(found.get(number, ()), position)

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        assert self._loop is not None  # noqa: S101  set by start(), before the thread exists
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _single_reader(self) -> Consumer:
        if self._reader is None:
            self._reader = Consumer(self._config)
        return self._reader

    def _seek(self, number: int, offset: int) -> Consumer:
        reader = self._single_reader()
        if self._place != (number, offset):
            reader.assign([TopicPartition(self._topic, number, offset)])
        self._place = None
        return reader

    def _ends(self, consumer: Consumer, number: int) -> tuple[int, int]:
        """First and next offset of a partition. Brokers that do not answer are asked again, for as long as it takes.

        Raises ``_Ending``, and ``KafkaException`` for what does not pass by itself.
        """
        pause_s = _POLL_S
        while not self._ending.is_set():
            found = log_ends(consumer, self._topic, number, _LOOK_S, "ledger")
            if found is not None:
                return found
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        raise _Ending

    def _read(self, number: int, offset: int) -> TaskEvent:
        reader = self._seek(number, offset)
        while not self._ending.is_set():
            found = [each for each in reader.consume(1, _LOOK_S) if each.error() is None]
            if found and found[0].offset() == offset:
                return decode_as(TaskEvent, found[0].value())
            # Silence may be a leader that is away; only the log's own ends say that a record is gone.
            low, high = self._ends(reader, number)
            if not low <= offset < high:
                raise LookupError(
                    f"{self._topic} partition {number} no longer holds offset {offset}; its retention is too short"
                )
            if found:
                reader = self._seek(number, offset)
        raise _Ending

    def _search(self, number: int, from_offset: int, identity: str, dispatch_seq: int) -> LedgerEntry | None:
        known = self._index.find(number, from_offset, identity, dispatch_seq)
        if known is not None:
            return known
        low, high = self._ends(self._single_reader(), number)
        from_offset = max(low, from_offset)
        position = self._index.read_from(number, from_offset, low)
        reader = self._seek(number, position) if position < high else None
        while reader is not None and position < high:
            if self._ending.is_set():
                raise _Ending
            for message in reader.consume(_BATCH, _POLL_S):
                if message.error() is None:
                    position = message.offset() + 1
                    self._index.add(number, message.offset(), _parse(message))
            self._place = number, position
        return self._index.find(number, from_offset, identity, dispatch_seq)


def _is_own(own: deque[int], offset: int) -> bool:
    """Whether this worker wrote the record and has entered it already; the deque is shared with the event loop."""
    while own:
        if own[0] > offset:
            return False
        if own.popleft() == offset:
            return True
    return False


def _parse(message: Any) -> TailRecord | None:
    """The ledger's headers of a record; ``None`` where it has none or unknown ones."""
    headers = dict(message.headers() or ())
    try:
        topic, partition, offset = headers["source"].decode().rsplit("|", 2)
        kind = headers["kind"].decode()
        if kind not in KINDS:
            return None
        record = TailRecord(
            message.offset(),
            kind,
            Source(topic, int(partition), int(offset)),
            headers["identity"].decode(),
            float(headers.get("remaining_s") or 0),
        )
        if kind not in GOING_ON:
            return record
        return record._replace(
            dispatch_seq=int(headers["ce_id"].rsplit(b"|", 2)[1]), target=headers.get("moved_to", b"").decode()
        )
    except (KeyError, ValueError, AttributeError, IndexError):
        return None
