"""The log as the ledger: what `.events` already says about the uncommitted records of one partition number (R2)."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple, Protocol

import orjson

from schemas.events import Source, TaskEvent
from schemas.kinds import KINDS, OUTCOME_KINDS
from streams.engine.contract import Dispatch, LedgerEntry

_OUTCOMES: Final = frozenset(OUTCOME_KINDS)

_HOLDING: Final = frozenset({"claimed", "intent"})

GOING_ON: Final = frozenset({"deferred", "moved"})
"""Kinds that settle their source and not its task: the record goes on as another dispatch."""

CLAIM_MARGIN_S: Final = 10.0
"""Added to what a claim or an intent says it still holds: it is counted from the reading, not from the writing (R5)."""


class LedgerMetadata(NamedTuple):
    """What rides with a commit: from where of `.events` its next owner must read, and of which log that is said.

    ``assignments`` counts those since the partition last made progress (R4).
    """

    bound: int
    epoch: str
    assignments: int = 0

    def encode(self) -> str:
        """As text for the commit."""
        return orjson.dumps(self._asdict()).decode()

    @classmethod
    def parse(cls, text: str | None) -> "LedgerMetadata | None":
        """The metadata of a commit; ``None`` where another program committed without."""
        try:
            # The embedded broker gives it back with a zero byte behind.
            found = orjson.loads((text or "null").rstrip("\0"))
            return cls(int(found["bound"]), str(found["epoch"]), int(found.get("assignments", 0)))
        except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
            return None


class TailRecord(NamedTuple):
    """The headers of one record of `.events` that matter to a ledger.

    ``dispatch_seq`` and ``target`` only where its kind is one of ``GOING_ON``; see ``contract.Dispatch``.
    """

    offset: int
    kind: str
    source: Source
    identity: str
    remaining_s: float
    dispatch_seq: int = 0
    target: str = ""

    def entry(self) -> LedgerEntry:
        """What a ledger keeps of it."""
        place = self.kind, self.offset, self.source, self.identity
        if self.kind in GOING_ON:
            return Dispatch(*place, dispatch_seq=self.dispatch_seq, target=self.target)
        held = time.monotonic() + self.remaining_s + CLAIM_MARGIN_S if self.kind in _HOLDING else 0.0
        return LedgerEntry(*place, held)


class LedgerReader(Protocol):
    """Reads single records of `.events`; ``streams.engine.tail`` has the one on Kafka."""

    async def read(self, number: int, offset: int) -> TaskEvent:
        """See ``contract.Ledger.read``."""

    async def search(self, number: int, from_offset: int, identity: str, dispatch_seq: int) -> LedgerEntry | None:
        """See ``contract.Ledger.search``."""


class PartitionLedger:
    """Known outcomes, claims and acceptances of one partition number during one assignment.

    Lives on the event loop: the tail hands its findings over with ``apply``, the worker's own records come in by
    ``note`` with their delivery reports. Entries go when their source has been committed (``prune``).
    """

    __slots__ = (
        "_covered",
        "_end",
        "_read_until",
        "_reader",
        "_ready",
        "_sources",
        "_tasks",
        "_watchers",
        "number",
        "own",
        "position",
    )

    def __init__(self, number: int, topics: Collection[str], reader: LedgerReader) -> None:
        self.number = number
        self.position = 0
        self.own: deque[int] = deque()
        self._end: int | None = None
        self._reader = reader
        self._ready = asyncio.Event()
        self._sources: dict[str, dict[int, tuple[LedgerEntry, ...]]] = {topic: {} for topic in topics}
        self._covered: dict[str, int] = {}
        self._read_until: dict[str, int] = {}
        self._tasks: dict[str, LedgerEntry] = {}
        self._watchers: dict[str, list[Callable[[], None]]] = {}

    @property
    def is_ready(self) -> bool:
        """Whether everything written before the assignment has been read."""
        return self._ready.is_set()

    async def ready(self) -> None:
        """See ``contract.Ledger.ready``."""
        await self._ready.wait()

    def by_source(self, source: Source) -> Sequence[LedgerEntry]:
        """See ``contract.Ledger.by_source``."""
        return self._sources[source.topic].get(source.offset, ())

    def knows(self, source: Source, identity: str) -> bool:
        """See ``contract.Ledger.knows``."""
        return identity in self._tasks or source[2] in self._sources[source[0]]

    def cover(self, topic: str, committed: int) -> None:
        """It is going to know everything about the topic's records from ``committed`` on."""
        self._covered[topic] = committed

    def covers(self, topic: str, committed: int) -> bool:
        """Whether nothing about the topic's records from ``committed`` on has been forgotten, or never been read."""
        return topic in self._covered and committed >= self._covered[topic]

    def reopen(self) -> None:
        """For another assignment: ready again when what was written since has been read too."""
        self._ready.clear()
        self._end = None
        self._read_until.clear()

    def read_until(self, topic: str) -> int:
        """See ``contract.Ledger.read_until``."""
        found = self._read_until.get(topic)
        if found is None:
            found = self._read_until[topic] = max(self._sources[topic], default=-1) + 1
        return found

    def has_ended(self, source: Source) -> bool:
        """See ``contract.Ledger.has_ended``. What another outcome came before is left to those who look (R2)."""
        entries = self.by_source(source)
        return any(KINDS[each.kind].final and self._tasks.get(each.identity) is each for each in entries) and not any(
            isinstance(each, Dispatch) for each in entries
        )

    def outcome(self, identity: str) -> LedgerEntry | None:
        """See ``contract.Ledger.outcome``."""
        entry = self._tasks.get(identity)
        return entry if entry is not None and entry.kind in _OUTCOMES else None

    def went_on(self, identity: str, dispatch_seq: int) -> bool:
        """See ``contract.Ledger.went_on``."""
        entry = self._tasks.get(identity)
        return isinstance(entry, Dispatch) and entry.dispatch_seq > dispatch_seq

    async def read(self, offset: int) -> TaskEvent:
        """See ``contract.Ledger.read``."""
        return await self._reader.read(self.number, offset)

    async def search(self, from_offset: int, identity: str, dispatch_seq: int) -> LedgerEntry | None:
        """See ``contract.Ledger.search``."""
        return await self._reader.search(self.number, from_offset, identity, dispatch_seq)

    def watch(self, identity: str, wake: Callable[[], None]) -> None:
        """Call ``wake`` once, at the next record about this task."""
        self._watchers.setdefault(identity, []).append(wake)

    def begin(self, position: int, end: int) -> None:
        """The tail reads from ``position``; ``end`` is the end of the partition at the assignment."""
        self.position = position
        self._end = end
        self._settle()

    def apply(self, records: Sequence[TailRecord], position: int) -> None:
        """Take what the tail has read; ``position`` is the offset it will read next."""
        for record in records:
            self._add(record.entry())
        self.position = max(self.position, position)
        self._settle()

    def note(self, entry: LedgerEntry) -> None:
        """Enter a record of this worker's own, its delivery report just in; the tail then skips it.

        One whose place was not told (``UNTOLD``) is left to the tail, behind whose position no bound goes (R2).
        """
        if entry.offset < 0:
            return
        self.own.append(entry.offset)
        self._add(entry)

    def bound(self, topic: str, committed: int) -> int:
        """The offset of `.events` from which the next owner must read, if ``committed`` is the topic's commit.

        Never beyond the tail's own position: another worker's record may lie there unread.
        """
        sources = self._sources[topic]
        least = min((entries[0].offset for offset, entries in sources.items() if offset >= committed), default=None)
        return self.position if least is None else min(least, self.position)

    def prune(self, topic: str, committed: int) -> None:
        """Forget what concerns sources below a commit."""
        if topic in self._covered:
            self._covered[topic] = max(committed, self._covered[topic])
        sources = self._sources[topic]
        for offset in [offset for offset in sources if offset < committed]:
            for entry in sources.pop(offset):
                if self._tasks.get(entry.identity) is entry:
                    del self._tasks[entry.identity]

    def _add(self, entry: LedgerEntry) -> None:
        sources = self._sources.get(entry.source.topic)
        if sources is None:
            return
        known = sources.get(entry.source.offset)
        if known is None:
            sources[entry.source.offset] = (entry,)
        elif all(each.offset != entry.offset for each in known):
            sources[entry.source.offset] = tuple(sorted((*known, entry), key=lambda each: each.offset))
        if entry.kind in _OUTCOMES:
            first = self._tasks.get(entry.identity)
            if first is None or entry.offset < first.offset or isinstance(first, Dispatch):
                self._tasks[entry.identity] = entry
        elif isinstance(entry, Dispatch):
            last = self._tasks.setdefault(entry.identity, entry)
            if isinstance(last, Dispatch) and last.dispatch_seq < entry.dispatch_seq:
                self._tasks[entry.identity] = entry
        if self._watchers:
            for wake in self._watchers.pop(entry.identity, ()):
                wake()

    def _settle(self) -> None:
        if self._end is not None and self.position >= self._end:
            self._ready.set()


def is_outcome(entry: LedgerEntry) -> bool:
    """Whether an entry ends an attempt."""
    return entry.kind in _OUTCOMES
