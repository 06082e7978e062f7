"""How much one token or one inbound source may ask for: a bucket for each that fills with time, in this process."""

import math
import threading
import time
from collections.abc import Callable
from typing import Final

from streams.web.problems import Problem

BURST_S: Final = 2.0
"""What may come at once, as seconds' worth of the rate."""
_MOST_KEPT: Final = 10_000


class Rates:
    """Counts what callers ask for, each by its id. Thread-safe."""

    def __init__(self, caller: str, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``per_s`` requests a second for each; 0: any number. ``caller`` is what they are, for people."""
        self._caller = caller
        self._per_s = per_s
        self._lock = threading.Lock()
        self._most = max(1.0, per_s * BURST_S)
        self._clock = clock
        self._buckets: dict[int, tuple[float, float]] = {}

    def take(self, caller_id: int) -> None:
        """Count a request. Raises ``Problem`` 429 where the bucket is empty; then nothing is counted."""
        if self._per_s == 0:
            return
        with self._lock:
            left = self._left(caller_id)
            if left >= 1:
                self._spend(caller_id, left - 1)
                return
        wait_s = math.ceil((1 - left) / self._per_s)
        detail = f"this {self._caller} may send {self._per_s:g} requests a second; try again in {wait_s} s"
        raise Problem(429, "rate_limited", detail, retry_after_s=wait_s)

    def count(self, caller_id: int, count: int) -> None:
        """Count what was taken already, the further items of a batch: what follows waits until it is made up for."""
        if self._per_s and count:
            with self._lock:
                self._spend(caller_id, self._left(caller_id) - count)

    def _left(self, caller_id: int) -> float:
        left, since = self._buckets.get(caller_id, (self._most, 0.0))
        return min(self._most, left + (self._clock() - since) * self._per_s)

    def _spend(self, caller_id: int, left: float) -> None:
        now = self._clock()
        if len(self._buckets) >= _MOST_KEPT and caller_id not in self._buckets:
            self._forget_full(now)
        self._buckets[caller_id] = (left, now)

    def _forget_full(self, now: float) -> None:
        """A bucket that is full again is like none."""
        self._buckets = {
            caller_id: (left, since)
            for caller_id, (left, since) in self._buckets.items()
            if left + (now - since) * self._per_s < self._most
        }
