"""The log as the ledger: what `.events` already says about the uncommitted records of one partition number (R2)."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple, Protocol

import orjson

from schemas.events import Source, TaskEvent
from schemas.kinds import KINDS
from streams.engine.contract import LedgerEntry

_OUTCOMES: Final = frozenset(name for name, kind in KINDS.items() if kind.outcome)

CLAIM_MARGIN_S: Final = 10.0
"""Added to what a claim says it still holds, because it is counted from the reading, not from the writing (R5)."""


class LedgerMetadata(NamedTuple):
    """What rides with a commit: from where of `.events` its next owner must read, and of which log that is said."""

    bound: int
    epoch: str

    def encode(self) -> str:
        """As text for the commit."""
        return orjson.dumps({"bound": self.bound, "epoch": self.epoch}).decode()

    @classmethod
    def parse(cls, text: str | None) -> "LedgerMetadata | None":
        """The metadata of a commit; ``None`` where another program committed without."""
        try:
            found = orjson.loads(text or "null")
            return cls(int(found["bound"]), str(found["epoch"]))
        except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
            return None


class TailRecord(NamedTuple):
    """The headers of one record of `.events` that matter to a ledger."""

    offset: int
    kind: str
    source: Source
    identity: str
    remaining_s: float


class LedgerReader(Protocol):
    """Reads single records of `.events`; ``streams.engine.tail`` has the one on Kafka."""

    async def read(self, number: int, offset: int) -> TaskEvent:
        """See ``contract.Ledger.read``."""

    async def search(self, number: int, from_offset: int, identity: str) -> LedgerEntry | None:
        """See ``contract.Ledger.search``."""


class PartitionLedger:
    """Known outcomes, claims and acceptances of one partition number during one assignment.

    Lives on the event loop: the tail hands its findings over with ``apply``, the worker's own records come in by
    ``note`` with their delivery reports. Entries go when their source has been committed (``prune``).
    """

    __slots__ = ("_end", "_outcomes", "_reader", "_ready", "_sources", "_watchers", "number", "own", "position")

    def __init__(self, number: int, topics: Collection[str], reader: LedgerReader) -> None:
        self.number = number
        self.position = 0
        self.own: deque[int] = deque()
        self._end: int | None = None
        self._reader = reader
        self._ready = asyncio.Event()
        self._sources: dict[str, dict[int, tuple[LedgerEntry, ...]]] = {topic: {} for topic in topics}
        self._outcomes: dict[str, LedgerEntry] = {}
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

    def outcome(self, identity: str) -> LedgerEntry | None:
        """See ``contract.Ledger.outcome``."""
        return self._outcomes.get(identity)

    async def read(self, offset: int) -> TaskEvent:
        """See ``contract.Ledger.read``."""
        return await self._reader.read(self.number, offset)

    async def search(self, from_offset: int, identity: str) -> LedgerEntry | None:
        """See ``contract.Ledger.search``."""
        return await self._reader.search(self.number, from_offset, identity)

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
        now = time.monotonic()
        for record in records:
            parked_until = now + record.remaining_s + CLAIM_MARGIN_S if record.kind == "claimed" else 0.0
            self._add(LedgerEntry(record.kind, record.offset, record.source, record.identity, parked_until))
        self.position = max(self.position, position)
        self._settle()

    def note(self, entry: LedgerEntry) -> None:
        """Enter a record of this worker's own, its delivery report just in; the tail then skips it."""
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
        sources = self._sources[topic]
        for offset in [offset for offset in sources if offset < committed]:
            for entry in sources.pop(offset):
                if self._outcomes.get(entry.identity) is entry:
                    del self._outcomes[entry.identity]

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
            first = self._outcomes.get(entry.identity)
            if first is None or entry.offset < first.offset:
                self._outcomes[entry.identity] = entry
        if self._watchers:
            for wake in self._watchers.pop(entry.identity, ()):
                wake()

    def _settle(self) -> None:
        if self._end is not None and self.position >= self._end:
            self._ready.set()


def is_outcome(entry: LedgerEntry) -> bool:
    """Whether an entry ends an attempt."""
    return entry.kind in _OUTCOMES
