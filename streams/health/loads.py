"""How much waits in a tier, for how long, and how much of it for too long: made of looks at its partitions. Pure."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from streams.health.offsets import Place, Progress
from topics.health import OVERDUE_S

_MOST_LOOKS = 240
"""Remembered of one partition; of more, every second one of the older half is forgotten."""


@dataclass(frozen=True, slots=True)
class Load:
    """``lag`` are records that are not finished, ``overdue`` those of them that were there ``OVERDUE_S`` ago.

    The first of them was written about ``oldest_s`` seconds ago; 0 where there are none.
    """

    lag: int = 0
    overdue: int = 0
    oldest_s: float = 0.0


class TierLoad:
    """The loads of one tier, look by look. Times are seconds of one monotonic clock, and do not go back."""

    def __init__(self) -> None:
        self._partitions: dict[Place, _Ends] = {}

    def look(self, places: Mapping[Place, Progress], now_s: float, ages_s: Mapping[Place, float]) -> Load:
        """The load by what ``places`` are now.

        ``ages_s``: for how long the first record of a partition has waited, where it was asked; it counts only at the
        first look at a partition, whose lag is taken to be as old.
        """
        lag = overdue = 0
        oldest_s = 0.0
        for place, progress in places.items():
            ends = self._partitions.get(place)
            if ends is None:
                ends = self._partitions[place] = _Ends()
                ends.note(progress.end, now_s - ages_s.get(place, 0.0))
            ends.note(progress.end, now_s)
            lag += progress.lag
            overdue += max(0, ends.at(now_s - OVERDUE_S) - progress.next)
            if progress.lag:
                oldest_s = max(oldest_s, now_s - ends.reached(progress.next + 1))
        return Load(lag, overdue, oldest_s)

    def is_new(self, place: Place) -> bool:
        """Whether a partition has not been looked at before."""
        return place not in self._partitions


class _Ends:
    """Where a partition ended, and since when."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, end: int, at_s: float) -> None:
        if not self._seen or self._seen[-1][1] != end:
            self._seen.append((at_s, end))
        if len(self._seen) > _MOST_LOOKS:
            half = len(self._seen) // 2
            kept = [*islice(self._seen, 0, half, 2), *islice(self._seen, half, None)]
            self._seen = deque(kept)

    def at(self, at_s: float) -> int:
        """The end at a time; 0 before the first look."""
        return next((end for seen_s, end in reversed(self._seen) if seen_s <= at_s), 0)

    def reached(self, end: int) -> float:
        """When the log was first seen to reach ``end``; what is before is not asked for again."""
        while len(self._seen) > 1 and self._seen[0][1] < end and self._seen[1][1] < end:
            self._seen.popleft()
        return next((seen_s for seen_s, seen in self._seen if seen >= end), self._seen[-1][0])
