"""Stops a worker rather than let it flood `.dead-letters`: what nobody can read comes from a fault of all of it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaException

from schemas.events import now_micros
from streams.broker.runtime import is_embedded
from streams.dead_letters import DeadLetters
from streams.settings import Settings

_MINUTE_S: Final = 60.0
_START_S: Final = 30.0
_PAUSE_S: Final = 0.2


class DeadLetterFlood(Exception):
    """More records than a group may give up within a minute; the worker ends, nothing is acknowledged."""


class DeadLetterLimit:
    """Counts the unreadable records that a group gave up in the last minute, those before ``start`` included.

    Only what cannot be decoded counts: it comes from a wrong deployment. What one tenant's configuration makes
    unroutable must not stop its neighbours.
    """

    def __init__(self, settings: Settings, group: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._group = group
        self._clock = clock
        self._limit = settings.dead_letters_per_minute
        self._times: deque[float] = deque()

    async def start(self) -> None:
        """Learn what the group gave up lately, so that a worker that is started again does not begin a new minute.

        Raises ``KafkaException`` where the brokers do not answer.
        """
        if is_embedded(self._settings):
            # Its log began with this process.
            return
        now_ms = now_micros() // 1000
        since_ms = now_ms - int(_MINUTE_S * 1000)
        written = await self._written_since(since_ms)
        now = self._clock()
        self._times.extend(now - max(0, now_ms - at_ms) / 1000 for at_ms in sorted(written)[-self._limit :])

    async def _written_since(self, since_ms: int) -> list[int]:
        end = time.monotonic() + _START_S
        while True:
            try:
                return await asyncio.to_thread(DeadLetters(self._settings).written_since, since_ms, self._group)
            except KafkaException:
                # A topic that was just made has no leader yet.
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(_PAUSE_S)

    def count(self) -> None:
        """One more record is about to be given up. Raises ``DeadLetterFlood`` where that is one too many."""
        now = self._clock()
        while self._times and self._times[0] <= now - _MINUTE_S:
            self._times.popleft()
        if len(self._times) >= self._limit:
            raise DeadLetterFlood(
                f"{self._group} gave up {len(self._times)} records within a minute, which it could not read: something "
                "else than our records is written to its topics, or by a newer version. It stops before the next one. "
                "See `webhook dead-letters list`, end what writes them, or raise WEBHOOK_DEAD_LETTERS_PER_MINUTE."
            )
        self._times.append(now)
