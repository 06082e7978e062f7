"""Many programs that write one tracked table, and what PostgreSQL's log says that they committed."""

import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import OffsetSpec
from sqlalchemy import Engine, text

from schemas.codec import decode_as
from schemas.events import ModelChanged
from streams.audit.judging import OUTBOX_TABLE, Judge
from streams.audit.pgoutput import RowChange
from streams.audit.slot import WalAudit
from streams.broker.connection import admin_client, consumer_config
from streams.settings import Settings
from tests.faults import writer
from tests.support.waiting import eventually

Step = tuple[str, int]
"""What happened to a row: ``created`` or ``updated`` and its version then; ``deleted`` and 0."""

_OPERATIONS: Final = {"insert": "created", "update": "updated", "delete": "deleted"}
_TREE: Final = Path(__file__).parents[2]
_ANSWER_S: Final = 15
_READ_AT_ONCE: Final = 5000


class Writers:
    """``count`` processes of ``tests.faults.writer``, ``rate`` transactions a second together."""

    def __init__(self, settings: Settings, url: str, tenant_id: str, count: int) -> None:
        self._url = url
        self._tenant_id = tenant_id
        self._processes: list[subprocess.Popen[bytes]] = []
        self._count = count
        self.ended = 0
        self._rate = 0.0
        self._seeds = random.Random(count)
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(_TREE),
            "WEBHOOK_TOPIC_PREFIX": settings.topic_prefix,
        }

    def start(self, rate: float) -> None:
        """Begin."""
        self._rate = rate / self._count
        self._processes = [self._started() for _ in range(self._count)]

    def kill_one(self, chance: random.Random) -> None:
        """``kill -9`` of one of them; another takes its place."""
        place = chance.randrange(self._count)
        self._processes[place].kill()
        self._processes[place].wait(_ANSWER_S)
        self._processes[place] = self._started()

    def kill(self) -> None:
        """End all of them in the same way."""
        for process in self._processes:
            process.send_signal(signal.SIGKILL)
        for process in self._processes:
            process.wait(_ANSWER_S)

    def replace_ended(self) -> None:
        """Start those again that ended by themselves, and count them: a database that dies can take one with it."""
        for place, process in enumerate(self._processes):
            if process.poll() is not None:
                self.ended += 1
                self._processes[place] = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        seed = str(self._seeds.randrange(1 << 30))
        arguments = (self._url, self._tenant_id, seed, str(self._rate))
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.writer", *arguments], env=self._environment, cwd=_TREE
        )


def are_gone(engine: Engine) -> bool:
    """Whether no writer has a connection any more: a killed one's last commit may still be under way."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
    with engine.connect() as connection:
        return not connection.execute(query, {"name": writer.APPLICATION}).scalar_one()


def is_published(engine: Engine) -> bool:
    """Whether the outbox is empty."""
    with engine.connect() as connection:
        return not connection.execute(text(f"SELECT count(*) FROM {OUTBOX_TABLE}")).scalar_one()


@dataclass(slots=True)
class Committed:
    """What the log of the database says: by row, what happened to it, in the order of the commits.

    ``announced``: ids of the changes that were announced, in that order.
    """

    judge: Judge
    rows: dict[str, list[Step]] = field(default_factory=lambda: defaultdict(list))
    announced: list[str] = field(default_factory=list)

    @property
    def changes(self) -> int:
        return sum(map(len, self.rows.values()))


def committed(audit: WalAudit) -> Committed:
    """Read the database's log from the start of the audit; nothing is taken off it."""
    found = Committed(Judge(audit.state().tables))
    for message in audit.messages():
        found.judge.take(message)
        if not isinstance(message, RowChange):
            continue
        if message.table == OUTBOX_TABLE:
            found.announced.append(str(message.new["record_id"]))
        else:
            step = (_OPERATIONS[message.operation], int(message.new.get("version") or 0))
            found.rows[str((message.new or message.old)["id"])].append(step)
    return found


def published(settings: Settings) -> list[ModelChanged]:
    """Every change of the topic, each once, those of a row in their order."""
    topic = settings.catalogue().changes
    partitions = settings.catalogue().specs[topic].partitions
    admin = admin_client(settings)
    asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(partitions)}
    ends = {
        place.partition: future.result().offset
        for place, future in admin.list_offsets(asked, request_timeout=_ANSWER_S).items()
    }
    waiting = {partition: end for partition, end in ends.items() if end}
    consumer = Consumer(consumer_config(settings, "writers-reader"))
    consumer.assign([TopicPartition(topic, partition, 0) for partition in waiting])
    changes: dict[str, ModelChanged] = {}
    try:
        while waiting:
            messages = consumer.consume(_READ_AT_ONCE, timeout=_ANSWER_S)
            assert messages, f"the changes were not read to their end: {waiting}"
            for message in messages:
                assert message.error() is None, message.error()
                if (message.offset() or 0) + 1 >= waiting.get(message.partition() or 0, 0):
                    waiting.pop(message.partition() or 0, None)
                change = decode_as(ModelChanged, message.value() or b"")
                changes.setdefault(change.change_id, change)
    finally:
        consumer.close()
    return list(changes.values())


def steps_of(changes: Sequence[ModelChanged]) -> dict[str, list[Step]]:
    """What events say of each row."""
    found: dict[str, list[Step]] = defaultdict(list)
    for change in changes:
        version = 0 if change.model_event == "deleted" else int(orjson.loads(change.payload)["version"])
        found[change.model_id].append((change.model_event, version))
    return found


def differing(rows: Mapping[str, list[Step]], events: Mapping[str, list[Step]]) -> list[str]:
    """Rows whose events are not what happened to them, each once and in that order."""
    wrong = sorted(key for key in rows.keys() | events.keys() if rows.get(key) != events.get(key))
    return [f"row {key}: {rows.get(key)} happened, {events.get(key)} was announced" for key in wrong]


def ready(engine: Engine) -> None:
    """Make the writers' table."""
    writer.Base.metadata.create_all(engine)


def settle(engine: Engine, settle_s: float) -> None:
    """After ``kill``: until nothing of them is left, and all that they announced is in Kafka."""
    eventually(lambda: are_gone(engine), 60, "the writers' connections end")
    eventually(lambda: is_published(engine), settle_s, "the outbox is published")
