"""Makes a tier's health last: worse is believed at once, better only once it has held for a while.

Else a tier at the edge would be chosen and passed over in turns, and its keys' events scattered each time.
"""

from collections import deque
from typing import Final, get_args

from topics.health import Status

BETTER_AFTER_S: Final = 10.0
"""Seconds for which a tier has to be better before it is said to be."""

RANKS: Final[dict[Status, int]] = {status: rank for rank, status in enumerate(get_args(Status))}
"""From 0, the best."""


class Hysteresis:
    """Of one tier: the worst that was judged within the last ``BETTER_AFTER_S``.

    Times are seconds of one monotonic clock, and do not go back.
    """

    def __init__(self) -> None:
        # From the worst to the best, each judged later than the one before: only these can still be the worst.
        self._judged: deque[tuple[float, Status]] = deque()

    def settle(self, judged: Status, now_s: float) -> Status:
        """The status that holds, now that ``judged`` was seen at ``now_s``."""
        while self._judged and RANKS[self._judged[-1][1]] <= RANKS[judged]:
            self._judged.pop()
        self._judged.append((now_s, judged))
        while self._judged[0][0] <= now_s - BETTER_AFTER_S:
            self._judged.popleft()
        return self._judged[0][1]
