"""How much one token may ask for: a bucket for each that fills with time, in this process."""

import math
import time
from collections.abc import Callable
from typing import Final

from streams.web.problems import Problem

BURST_S: Final = 2.0
"""What may come at once, as seconds' worth of the rate."""
_MOST_KEPT: Final = 10_000


class TokenRates:
    """Counts what tokens ask for. Of one event loop."""

    def __init__(self, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``per_s`` requests a second for each token; 0: any number."""
        self._per_s = per_s
        self._most = max(1.0, per_s * BURST_S)
        self._clock = clock
        self._buckets: dict[int, tuple[float, float]] = {}

    def take(self, token_id: int) -> None:
        """Count a request. Raises ``Problem`` 429 where the bucket is empty; then nothing is counted."""
        if self._per_s == 0:
            return
        left = self._left(token_id)
        if left < 1:
            wait_s = math.ceil((1 - left) / self._per_s)
            detail = f"this token may send {self._per_s:g} requests a second; try again in {wait_s} s"
            raise Problem(429, "rate_limited", detail, retry_after_s=wait_s)
        self._spend(token_id, left - 1)

    def count(self, token_id: int, count: int) -> None:
        """Count what was taken already, the further items of a batch: what follows waits until it is made up for."""
        if self._per_s and count:
            self._spend(token_id, self._left(token_id) - count)

    def _left(self, token_id: int) -> float:
        left, since = self._buckets.get(token_id, (self._most, 0.0))
        return min(self._most, left + (self._clock() - since) * self._per_s)

    def _spend(self, token_id: int, left: float) -> None:
        now = self._clock()
        if len(self._buckets) >= _MOST_KEPT and token_id not in self._buckets:
            self._forget_full(now)
        self._buckets[token_id] = (left, now)

    def _forget_full(self, now: float) -> None:
        """A bucket that is full again is like none."""
        self._buckets = {
            token_id: (left, since)
            for token_id, (left, since) in self._buckets.items()
            if left + (now - since) * self._per_s < self._most
        }
