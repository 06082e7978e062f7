"""How many attempts a tier's workers have ended lately, by what their heartbeats count. Pure."""

from collections import deque
from collections.abc import Collection
from typing import Final, NamedTuple

from streams.control.signals import Heartbeat

WINDOW_S: Final = 60.0
FEWEST_ATTEMPTS: Final = 20
"""Attempts within the window from which on the part of faults says something."""


class Rate(NamedTuple):
    """Of the last minute: attempts in a second, and the part of them, 0 to 1, that ended by a fault of ours."""

    attempts_per_s: float = 0.0
    faults: float = 0.0


class _Counts(NamedTuple):
    at_s: float
    attempts: int
    faults: int


class TierRate:
    """The rates of one tier, look by look. Times are seconds of one monotonic clock, and do not go back."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[int, int]] = {}
        self._looks: deque[_Counts] = deque()
        self._attempts = 0
        self._faults = 0

    def look(self, heartbeats: Collection[Heartbeat], now_s: float) -> Rate:
        """The rate by the latest heartbeats of the tier's workers.

        What a worker did before it was first heard of is left out.
        """
        known: dict[tuple[str, int], tuple[int, int]] = {}
        for beat in heartbeats:
            # A worker that began anew under the same name counts from 0 again.
            who = beat.worker, beat.started_at
            before = self._known.get(who, (beat.attempts, beat.faults))
            self._attempts += beat.attempts - before[0]
            self._faults += beat.faults - before[1]
            known[who] = beat.attempts, beat.faults
        self._known = known
        self._looks.append(_Counts(now_s, self._attempts, self._faults))
        while self._looks[0].at_s < now_s - WINDOW_S:
            self._looks.popleft()
        first = self._looks[0]
        attempts, span_s = self._attempts - first.attempts, now_s - first.at_s
        if not attempts or not span_s:
            return Rate()
        faults = (self._faults - first.faults) / attempts if attempts >= FEWEST_ATTEMPTS else 0.0
        return Rate(attempts / span_s, faults)
