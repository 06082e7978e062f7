"""Waits for the outcomes of triggers in the foreground, without holding a thread."""

import asyncio
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from handlers.service import Outcome, OutcomeReader
from schemas.errors import Retryable
from streams.web.blocking import BlockingCalls
from streams.web.problems import Problem

MOST_WAITING: Final = 100
"""Requests that wait at a time; the others are answered at once, and their events go on in the background."""
_FIRST_PAUSE_S: Final = 0.02
_LONGEST_PAUSE_S: Final = 0.5


class Foreground:
    """Looks into the history until an event has ended, or the time is up."""

    def __init__(self, outcomes: OutcomeReader, calls: BlockingCalls, longest_s: float) -> None:
        self._outcomes = outcomes
        self._calls = calls
        self._longest_s = longest_s
        self._waiting = 0
        self._closing = asyncio.Event()

    async def outcome(self, event_id: str, since: float) -> Outcome | None:
        """How the event has ended; ``None`` where it goes on. ``since`` is the loop's time when the request came."""
        if self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            async with asyncio.timeout_at(since + self._longest_s):
                return await self._ended(event_id)
        except TimeoutError:
            return None
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Answer those who wait: their events go on in the background."""
        self._closing.set()

    async def _ended(self, event_id: str) -> Outcome | None:
        pause_s = _FIRST_PAUSE_S
        while not self._closing.is_set():
            try:
                outcome = await self._calls.run(lambda: self._outcomes.outcome(event_id))
            except (Retryable, SQLAlchemyError, Problem):
                # The event is accepted: an outage only keeps its outcome from being seen.
                outcome = None
            if outcome is not None:
                return outcome
            try:
                await asyncio.wait_for(self._closing.wait(), pause_s)
            except TimeoutError:
                pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
        return None
