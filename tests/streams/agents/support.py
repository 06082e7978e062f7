"""Records, a ledger and a log in memory, behind the protocols that intake works with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from handlers.tenants.configuration import TenantConfiguration, parse_configuration
from schemas.codec import decode_as, encode
from schemas.events import Event, ModelChanged, Source, TaskEvent, TaskReady, WebhookRequested
from streams.engine.contract import LedgerEntry
from streams.engine.outcomes import Outgoing
from streams.headers import find_header
from topics.catalogue import build_catalogue

CATALOGUE = build_catalogue()
NOW = 1_790_000_100_000_000
AT = 1_790_000_000_000_000


def configuration(*entries: dict[str, Any]) -> TenantConfiguration:
    """A tenant's configuration with these settings entries."""
    return parse_configuration({"plugin_name": "dwd", "plugin_route_prefix": "dwd", "webhook_settings": list(entries)})


ORDERS = {"id": "orders", "models": ["Order"], "events": ["created", "updated"], "webhook_endpoint": "webhook/order"}


def change(**values: Any) -> ModelChanged:
    """A change of an order of tenant 1."""
    known: dict[str, Any] = {
        "change_id": "c1",
        "tenant_id": "1",
        "model": "Order",
        "model_id": "7",
        "model_event": "created",
        "occurred_at": AT,
        "payload": '{"id": 7}',
    }
    return ModelChanged(**(known | values))


def request(**values: Any) -> WebhookRequested:
    """A request of tenant 1."""
    known: dict[str, Any] = {
        "event_id": "0199-e",
        "tenant_id": "1",
        "endpoint": "webhook/order",
        "event_type": "manual_trigger",
        "trigger": "http",
        "requested_at": AT,
        "payload": '{"id": 7}',
    }
    return WebhookRequested(**(known | values))


@dataclass
class Record:
    """A consumed record."""

    value: bytes | None
    offset: int = 0
    topic: str = CATALOGUE.changes
    partition: int = 3
    timestamp: int = AT // 1000
    key: bytes | None = b"key"
    headers: Sequence[tuple[str, bytes | None]] = ()


def record(event: Event, offset: int = 0, **values: Any) -> Record:
    """An event as a record of its own topic."""
    topic = CATALOGUE.requests if isinstance(event, WebhookRequested) else CATALOGUE.changes
    return Record(encode(event), offset, **({"topic": topic} | values))


@dataclass
class Log:
    """A publisher that acknowledges at once, and keeps everything in the order in which it came."""

    records: list[Outgoing] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)

    async def start(self) -> None:
        """See ``RecordPublisher``."""

    async def stop(self) -> None:
        """See ``RecordPublisher``."""

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        """See ``RecordPublisher``."""
        first = len(self.records)
        self.records.extend(records)
        self.batches.append(len(records))
        return range(first, len(self.records))

    def topics(self) -> list[str]:
        """Topics of all records, in order."""
        return [each.topic for each in self.records]

    def events(self) -> list[TaskEvent]:
        """Everything written to `.events`."""
        return [decode_as(TaskEvent, each.value) for each in self.records if each.topic == CATALOGUE.events]

    def tasks(self, tier: str) -> list[TaskReady]:
        """Everything written to a tier."""
        return [decode_as(TaskReady, each.value) for each in self.records if each.topic == CATALOGUE.topic(tier)]


@dataclass
class LogLedger:
    """The ledger of one partition number, kept as a list of records of `.events`."""

    records: list[Outgoing] = field(default_factory=list)
    noted: list[LedgerEntry] = field(default_factory=list)

    def note(self, entry: LedgerEntry) -> None:
        """See ``Ledger``."""
        self.noted.append(entry)

    def watch(self, identity: str, wake: Callable[[], None]) -> None:
        """See ``Ledger``; intake never watches."""
        raise LookupError(f"{identity} {wake}")

    def by_source(self, source: Source) -> Sequence[LedgerEntry]:
        """See ``Ledger``."""
        wanted = f"{source.topic}|{source.partition}|{source.offset}".encode()
        return [
            LedgerEntry(
                (find_header(each.headers, "kind") or b"").decode(),
                offset,
                source,
                (find_header(each.headers, "identity") or b"").decode(),
            )
            for offset, each in enumerate(self.records)
            if find_header(each.headers, "source") == wanted
        ]

    def knows(self, source: Source, identity: str) -> bool:
        """See ``Ledger``; intake never asks."""
        raise LookupError(f"{source} {identity}")

    def outcome(self, identity: str) -> LedgerEntry | None:
        """See ``Ledger``; intake never asks."""
        raise LookupError(identity)

    def read_until(self, topic: str) -> int:
        """See ``Ledger``: nothing was known before."""
        return 0

    def has_ended(self, source: Source) -> bool:
        """See ``Ledger``; nobody asks where nothing was known before."""
        raise LookupError(str(source))

    def went_on(self, identity: str, dispatch_seq: int) -> bool:
        """See ``Ledger``; intake never asks."""
        raise LookupError(f"{identity} {dispatch_seq}")

    async def ready(self) -> None:
        """See ``Ledger``."""

    async def read(self, offset: int) -> TaskEvent:
        """See ``Ledger``."""
        return decode_as(TaskEvent, self.records[offset].value)

    async def search(self, from_offset: int, identity: str, dispatch_seq: int) -> LedgerEntry | None:
        """See ``Ledger``; intake never asks."""
        raise LookupError(f"{from_offset} {identity} {dispatch_seq}")


@dataclass(eq=False)
class Partition:
    """An assigned partition that remembers what was finished."""

    ledger: LogLedger = field(default_factory=LogLedger)
    topic: str = CATALOGUE.changes
    number: int = 3
    generation: int = 1
    closed: bool = False
    is_careful: bool = False
    finished_offsets: list[int] = field(default_factory=list)

    @property
    def finished(self) -> int:
        """See ``AssignedPartition``."""
        return len(self.finished_offsets)

    def finish(self, offset: int) -> None:
        """See ``AssignedPartition``."""
        self.finished_offsets.append(offset)
