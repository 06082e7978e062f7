"""What the driver promises a processor of records, and what it asks of it. Tier agents and intake both are one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from schemas.events import Source, TaskEvent
from streams.engine.fence import Fence


class ConsumedRecord(Protocol):
    """One record as aiokafka hands it out. ``timestamp`` in milliseconds; ``headers`` in their order on the wire."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


@dataclass(slots=True)
class LedgerEntry:
    """One record of ``.events`` whose source has not been committed yet.

    ``offset`` is its place in the partition of ``.events``, ``identity`` the ``str(TaskId)``. ``parked_until`` is a
    reading of this process's monotonic clock, in seconds, up to which a claim or an intent holds; 0 for all others.
    """

    kind: str
    offset: int
    source: Source
    identity: str
    parked_until: float = 0.0


@dataclass(slots=True)
class Dispatch(LedgerEntry):
    """A record of ``.events`` that says that its source went on as another dispatch of its task.

    ``target`` is the topic to which it was moved, empty for one that was deferred.
    """

    dispatch_seq: int = 0
    target: str = ""


class Ledger(Protocol):
    """What the log already says about the records of one partition number (R2)."""

    def by_source(self, source: Source) -> Sequence[LedgerEntry]:
        """Every known record of ``.events`` that was caused by ``source``, oldest first."""

    def knows(self, source: Source, identity: str) -> bool:
        """Whether there is anything caused by ``source``, or an outcome of the task: what a record is asked first."""

    def read_until(self, topic: str) -> int:
        """Offset of a topic from which on nothing was known when its records first came in this assignment."""

    def has_ended(self, source: Source) -> bool:
        """Whether the run of what ``source`` carried is over: the record needs nothing any more, and no look at it."""

    def outcome(self, identity: str) -> LedgerEntry | None:
        """First known outcome of a task, by ``str(TaskId)``."""

    def went_on(self, identity: str, dispatch_seq: int) -> bool:
        """Whether a later dispatch of the task than ``dispatch_seq`` is known (R16)."""

    async def ready(self) -> None:
        """Return when everything written before the assignment has been read. The driver waits for it itself."""

    def watch(self, identity: str, wake: Callable[[], None]) -> None:
        """Call ``wake`` once, when the ledger learns of the next record about this task."""

    def note(self, entry: LedgerEntry) -> None:
        """Enter a record that this worker wrote to ``.events`` itself, its delivery report just in.

        Saves the tail from reading its headers; what is not noted is found by the tail all the same.
        """

    async def read(self, offset: int) -> TaskEvent:
        """The whole record of ``.events`` at ``offset`` of this partition: read anew, so for rare paths only.

        Raises ``LookupError`` where the log no longer holds it.
        """

    async def search(self, from_offset: int, identity: str, dispatch_seq: int) -> LedgerEntry | None:
        """What settles a task at or after ``from_offset`` of this partition, up to its present end (R1).

        Its first outcome, or a later ``Dispatch`` than ``dispatch_seq`` (R16).
        """


class AssignedPartition(Protocol):
    """One partition during one assignment. After ``closed`` nothing of it may start."""

    @property
    def topic(self) -> str:
        """Topic of the partition."""

    @property
    def number(self) -> int:
        """Number of the partition; its records finish in the partition of ``.events`` with the same number."""

    @property
    def generation(self) -> int:
        """Generation of the consumer group in which it was assigned."""

    @property
    def closed(self) -> bool:
        """True from the beginning of its hand-over on."""

    @property
    def finished(self) -> int:
        """How many of its records this worker has finished."""

    @property
    def is_careful(self) -> bool:
        """True while its tasks must run one at a time, each announced: its owners have crashed again and again (R4)."""

    @property
    def ledger(self) -> Ledger:
        """The ledger of its number, shared by the worker's topics."""

    def finish(self, offset: int) -> None:
        """Everything that had to be written about the record at ``offset`` has been acknowledged by the brokers."""


class RecordProcessor(Protocol):
    """Takes records from the driver and finishes each exactly once, in whatever order. Runs on the app's event loop."""

    async def start(self) -> None:
        """Called once, before the first record."""

    def offer(self, partition: AssignedPartition, records: Sequence[ConsumedRecord]) -> None:
        """Take records, in offset order, of a partition whose ledger is ready. Never blocks, never refuses."""

    def has_room(self, partition: AssignedPartition) -> bool:
        """Whether more records of this partition may be fetched now (R13)."""

    def is_idle(self) -> bool:
        """Whether nothing is running, waiting or unacknowledged."""

    async def hand_over(self, partitions: Sequence[AssignedPartition], grace_s: float) -> None:
        """Let go of partitions, which are closed already (R5).

        Drop what has not started, wait up to ``grace_s`` seconds for what runs, claim what still runs and return
        when the claims are acknowledged. The driver then commits.
        """

    async def stop(self) -> None:
        """Called once, after the group was left: wait for what still runs, or cancel it, and let go of resources."""


@runtime_checkable
class Excusing(Protocol):
    """A processor whose records may wait for long although nothing is wrong (R8)."""

    def is_excused(self, partition: AssignedPartition) -> bool:
        """Whether a task is within its timeout, a live claim holds records back, or the partition is paused."""


@runtime_checkable
class Fenced(Protocol):
    """A processor that starts nothing while its fence is up (R5); the driver reports heartbeats to it."""

    @property
    def fence(self) -> Fence:
        """The worker's fence."""
