"""Which offset of a partition may be committed: always the first unfinished one (DESIGN §5, item 2). Pure."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple


class Commit(NamedTuple):
    """``offset`` is the next one to be read by whoever takes the partition over."""

    offset: int


class PartitionAcker:
    """The started and finished offsets of one partition during one assignment.

    ``first_offset`` is where the assignment begins reading. Offsets are started in rising order, with or without gaps,
    and finished in any order.
    """

    __slots__ = ("_committed", "_finished", "_low", "_open")

    def __init__(self, first_offset: int) -> None:
        self._open: deque[int] = deque()
        self._finished: set[int] = set()
        self._low = first_offset
        self._committed = first_offset

    @property
    def committed(self) -> int:
        """Offset of the last confirmed commit; at first the one the assignment began at."""
        return self._committed

    @property
    def low(self) -> int:
        """First unfinished offset, or the one after the last started."""
        while self._open and self._open[0] in self._finished:
            offset = self._open.popleft()
            self._finished.remove(offset)
            self._low = offset + 1
        return self._low

    def start(self, offset: int) -> None:
        """A record was handed out. Raises ``ValueError`` for an offset that is not beyond all started ones."""
        if offset < self._low or (self._open and offset <= self._open[-1]):
            raise ValueError(f"offset {offset} was started before; offsets must rise")
        self._open.append(offset)

    def start_all(self, offsets: Iterable[int]) -> None:
        """``start`` for a batch that the caller knows to rise and to lie beyond all started ones."""
        self._open.extend(offsets)

    def finish(self, offset: int) -> None:
        """The record at ``offset`` needs nothing any more. Finishing an offset twice changes nothing."""
        if offset >= self._low:
            self._finished.add(offset)

    def commit(self) -> Commit | None:
        """What may be committed now, ``None`` where it is committed already. Call ``confirm`` once it is stored."""
        low = self.low
        return Commit(low) if low > self._committed else None

    def confirm(self, offset: int) -> None:
        """The brokers have stored the commit of ``offset``."""
        self._committed = max(self._committed, offset)

    @property
    def unfinished(self) -> int:
        """How many started offsets are not finished."""
        return len(self._open) - len(self._finished)
