"""A load through the outbox, and what became of it: by the handlers' journal, by the log, and by the tables."""

from collections import Counter, defaultdict
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, NamedTuple

import orjson
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec
from sqlalchemy import Engine, select

from projections.fold import Rows
from projections.records import Dispatched, Fact, Scheduled
from projections.tables import PROJECTION_POSITIONS
from schemas.codec import decode_as, encode
from schemas.events import TaskEvent, TaskScheduled, WebhookRequested, now_micros
from schemas.identifiers import new_event_id
from schemas.kinds import KINDS
from streams.broker.connection import admin_client, consumer_config
from streams.capture.outbox import OutboxRow, append
from streams.headers import find_header
from streams.settings import Settings
from topics.catalogue import Catalogue
from topics.keys import partition_key

ENDPOINT: Final = "webhook/journal"
CONFIGURATION: Final = {
    "plugin_name": "journal",
    "plugin_route_prefix": "journal",
    "route_handlers": {ENDPOINT: "JournalWebhookHandler"},
}
"""A tenant whose events the journal's handler carries out."""

URGENT: Final = 9
_ROWS_A_TRANSACTION: Final = 500
_ANSWER_S: Final = 15
_READ_AT_ONCE: Final = 5000
_SHOWN: Final = 3


def append_load(
    engine: Engine, catalogue: Catalogue, tenant_id: str, events: int, keys: int, *, ordering: str = "default"
) -> list[str]:
    """Put requests into the outbox, in turn over ``keys`` rows of one model; the ids in order of their sequence."""
    options = {} if ordering == "default" else {"ordering": ordering}
    event_ids: list[str] = []
    for begin in range(0, events, _ROWS_A_TRANSACTION):
        rows = [
            _row(catalogue.requests, tenant_id, sequence, sequence % keys, options)
            for sequence in range(begin, min(begin + _ROWS_A_TRANSACTION, events))
        ]
        with engine.begin() as connection:
            append(connection, rows)
        event_ids.extend(row.record_id for row in rows)
    return event_ids


def _row(topic: str, tenant_id: str, sequence: int, key: int, options: dict[str, str]) -> OutboxRow:
    # Lengths differ, so that starts and ends of different keys mix.
    payload = {"sequence": sequence, "key": key, "sleep_s": (5 + sequence % 8 * 5) / 1000}
    request = WebhookRequested(
        event_id=new_event_id(),
        tenant_id=tenant_id,
        endpoint=ENDPOINT,
        event_type="webhook_journal",
        trigger="manual",
        requested_at=now_micros(),
        payload=orjson.dumps(payload).decode(),
        priority=URGENT,
        model="Order",
        model_id=str(key),
        options=options,
    )
    record_key = partition_key(tenant_id, request.model, request.model_id, request.event_id)
    return OutboxRow(topic, record_key, encode(request), "WebhookRequested", None, tenant_id, request.event_id)


class Start(NamedTuple):
    """One start of a handler; ``wall_us`` is the time of day, microseconds since 1970."""

    event_id: str
    key: int
    sequence: int
    pid: int
    wall_us: int


class Journal:
    """What the handlers wrote down, read on and on. Starts stand in the order in which they happened."""

    def __init__(self, path: Path) -> None:
        self.starts: list[Start] = []
        self.ended: set[str] = set()
        self._path = path
        self._position = 0

    def read(self) -> "Journal":
        """Take in what was appended since."""
        if not self._path.exists():
            return self
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        for line in whole.decode().splitlines():
            mark, event_id, key, sequence, pid, _monotonic_ns, wall_us = line.split()
            if mark == "S":
                self.starts.append(Start(event_id, int(key), int(sequence), int(pid), int(wall_us)))
            else:
                self.ended.add(event_id)
        return self

    def started_by(self, pid: int) -> int:
        """Number of starts in one process."""
        return sum(start.pid == pid for start in self.starts)

    def repeated(self) -> set[str]:
        """Events that were started more than once."""
        return {event_id for event_id, count in Counter(start.event_id for start in self.starts).items() if count > 1}

    def inversions(self) -> list[Start]:
        """First starts that came after the first start of a later event of their key."""
        latest: dict[int, int] = {}
        seen: set[str] = set()
        inverted = []
        for start in self.starts:
            if start.event_id in seen:
                continue
            seen.add(start.event_id)
            if latest.get(start.key, -1) > start.sequence:
                inverted.append(start)
            latest[start.key] = max(latest.get(start.key, -1), start.sequence)
        return inverted


def run_again_after_outcome(journal: Journal, facts: list[Fact]) -> list[Start]:
    """Starts of events whose outcome was in the log already: by then known to whoever takes the partition over.

    Of an event started once this is no question; of one started again the outcome must be the last run's.
    """
    repeated = journal.repeated()
    recorded_at: dict[str, int] = {}
    for fact in facts:
        if isinstance(fact, TaskEvent) and fact.event_id in repeated and KINDS[fact.kind].outcome:
            recorded_at[fact.event_id] = min(fact.recorded_at, recorded_at.get(fact.event_id, fact.recorded_at))
    return [start for start in journal.starts if start.wall_us > recorded_at.get(start.event_id, start.wall_us)]


def outcomes_by_event(facts: list[Fact]) -> dict[str, list[TaskEvent]]:
    """Every outcome record of each event, in the order of the log."""
    found: dict[str, list[TaskEvent]] = defaultdict(list)
    for fact in facts:
        if isinstance(fact, TaskEvent) and KINDS[fact.kind].outcome:
            found[fact.event_id].append(fact)
    return found


class Log:
    """The topics that the projector follows, on a real broker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalogue = settings.catalogue()
        topics = [self._catalogue.events, self._catalogue.scheduled, *self._catalogue.tier_by_topic]
        self._places = [(name, n) for name in topics for n in range(self._catalogue.specs[name].partitions)]
        self._admin = admin_client(settings)

    def ends(self) -> dict[tuple[str, int], int]:
        """Offset of the next record, by (topic, partition)."""
        asked = {TopicPartition(topic, partition): OffsetSpec.latest() for topic, partition in self._places}
        found = self._admin.list_offsets(asked, request_timeout=_ANSWER_S)
        return {(place.topic, place.partition): future.result().offset for place, future in found.items()}

    def facts(self) -> list[Fact]:
        """Everything to project, from the beginning up to the present end, decoded apart from the projector."""
        waiting = {place: end for place, end in self.ends().items() if end}
        consumer = Consumer(consumer_config(self._settings, "load-reader"))
        consumer.assign([TopicPartition(topic, partition, 0) for topic, partition in waiting])
        facts: list[Fact] = []
        try:
            while waiting:
                first = consumer.poll(_ANSWER_S)
                assert first is not None, f"the log was not read to its end: {waiting}"
                for message in [first, *consumer.consume(_READ_AT_ONCE, timeout=0)]:
                    assert message.error() is None, message.error()
                    place = message.topic(), message.partition()
                    if message.offset() + 1 >= waiting.get(place, 0):
                        waiting.pop(place, None)
                    fact = self._fact(message)
                    if fact is not None:
                        facts.append(fact)
        finally:
            consumer.close()
        return facts

    def _fact(self, message: Message) -> Fact | None:
        if message.topic() == self._catalogue.events:
            return decode_as(TaskEvent, message.value() or b"")
        if message.topic() == self._catalogue.scheduled:
            return Scheduled(decode_as(TaskScheduled, message.value() or b""), message.key() or b"", message.offset())
        schedule_id = find_header(message.headers(), "schedule_id")
        return Dispatched(schedule_id.decode(), message.timestamp()[1] * 1000) if schedule_id else None


def projected_positions(engine: Engine) -> dict[tuple[str, int], int]:
    """Offset of the next record to project, by (topic, partition)."""
    table = PROJECTION_POSITIONS
    with engine.connect() as connection:
        found = connection.execute(select(table.c.topic, table.c.partition, table.c.next_offset))
        return {(topic, partition): offset for topic, partition, offset in found}


def differences(stored: Rows, folded: Rows) -> list[str]:
    """The first few rows of each table that are not as the plain fold of the log has them."""
    found = []
    for table in fields(Rows):
        mine, theirs = getattr(stored, table.name), getattr(folded, table.name)
        if mine != theirs:
            wrong = [key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key)]
            shown = [f"{mine.get(key)} instead of {theirs.get(key)}" for key in wrong[:_SHOWN]]
            found.append(f"{table.name}: {len(wrong)} rows differ: {'; '.join(shown)}")
    return found


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run came to, in events.

    ``lost``: not completed exactly once in the history. ``repeated``: started more than once.
    ``run_again_after_outcome``: starts of events whose outcome the log held already. ``inversions``: first starts out
    of their key's order. ``seconds``: from the first row in the outbox to the last outcome in the history.
    """

    events: int
    lost: int
    repeated: int
    run_again_after_outcome: int
    more_than_one_outcome: int
    inversions: int
    seconds: float
