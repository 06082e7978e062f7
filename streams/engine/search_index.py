"""What searches of `.events` have read already, so that many of them read each record once (R1). Pure.

After a worker was killed hundreds of records may come with ``repeat_from``; a reading of the log for each took minutes.
"""

from dataclasses import dataclass, field
from typing import Final

from schemas.kinds import OUTCOME_KINDS
from streams.engine.contract import LedgerEntry
from streams.engine.ledger import GOING_ON, TailRecord

MOST_TASKS: Final = 100_000
"""Tasks of one partition that are remembered; beyond it all is forgotten and read again where it is asked for."""

MARGIN: Final = 5000
"""Records before the one asked for that are read with it: the next one to be asked for may be a little older."""

_SETTLING: Final = GOING_ON.union(OUTCOME_KINDS)


@dataclass(slots=True)
class _Part:
    first: int
    next: int
    found: dict[str, tuple[TailRecord, ...]] = field(default_factory=dict)


class SearchIndex:
    """What settles tasks, of the parts of `.events` that were read, by partition number."""

    def __init__(self) -> None:
        self._parts: dict[int, _Part] = {}

    def forget(self) -> None:
        """Let go of everything: it is asked for after an assignment, when records come again, and takes much room."""
        self._parts.clear()

    def read_from(self, number: int, from_offset: int, low: int) -> int:
        """The offset from which on records must still be ``add``-ed. ``low`` is the log's first one."""
        part = self._parts.get(number)
        if part is None or part.first > max(low, from_offset) or len(part.found) > MOST_TASKS:
            first = max(low, from_offset - MARGIN)
            part = self._parts[number] = _Part(first, first)
        return part.next

    def add(self, number: int, offset: int, record: TailRecord | None) -> None:
        """The record at ``offset`` was read, after all before it; ``None``: it is nothing for a ledger."""
        part = self._parts[number]
        part.next = offset + 1
        if record is not None and record.kind in _SETTLING:
            part.found[record.identity] = (*part.found.get(record.identity, ()), record)

    def find(self, number: int, from_offset: int, identity: str, dispatch_seq: int) -> LedgerEntry | None:
        """What settles a task, of what was read at or after ``from_offset``; see ``contract.Ledger.search``."""
        part = self._parts.get(number)
        for record in part.found.get(identity, ()) if part is not None and part.first <= from_offset else ():
            is_later = record.kind not in GOING_ON or record.dispatch_seq > dispatch_seq
            if record.offset >= from_offset and is_later:
                return record.entry()
        return None
