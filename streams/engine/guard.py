"""The one place where whatever a handler does becomes a verdict (DESIGN §5, item 7)."""

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import Any, Final, Protocol

from streams.engine.decide import TimedOut, Verdict

SWEEP_S: Final = 0.1
_CANCEL_AGAIN_S: Final = 1.0


class Stopped(Exception):
    """The worker stopped while the handler ran: there is no verdict, so nothing is recorded of the attempt."""


class DeadlineSlot:
    """The deadline of one running handler, watched by ``sweep``: cheaper than a timer for each.

    ``deadline`` is a reading of the monotonic clock in seconds; 0 while no handler runs.
    """

    __slots__ = ("deadline", "expired", "runner", "stopping", "timeout_s")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.timeout_s = 0.0
        self.expired = 0
        self.stopping = False
        self.runner: asyncio.Task[Any] | None = None

    def start(self, timeout_s: float) -> None:
        """The handler has ``timeout_s`` seconds from now."""
        self.deadline = time.monotonic() + timeout_s
        self.timeout_s = timeout_s

    def cancel(self) -> None:
        """Cancel the handler because the worker stops."""
        self.stopping = True
        self._cancel()

    def expire(self) -> None:
        """Cancel the handler because its time is up; it is called again where it goes on regardless."""
        self._cancel()
        self.deadline = time.monotonic() + _CANCEL_AGAIN_S

    def _cancel(self) -> None:
        if self.runner is not None and self.deadline:
            self.expired += 1
            self.runner.cancel()


class _Slotted(Protocol):
    slot: DeadlineSlot


def sweep(running: Iterable[_Slotted], now: float) -> None:
    """Expire every slot whose deadline has passed."""
    for each in running:
        if 0.0 < each.slot.deadline < now:
            each.slot.expire()


async def run_guarded(work: Awaitable[Any], slot: DeadlineSlot, timeout_s: float) -> Verdict:
    """The verdict of ``work``: its result, or what it raised.

    It may take ``timeout_s`` seconds, or what it says itself by ``slot.start``. Raises ``Stopped`` where the worker
    cancelled it, and ``CancelledError`` where the runner itself was cancelled.
    """
    runner = asyncio.current_task()
    slot.runner = runner
    slot.start(timeout_s)
    try:
        verdict: Verdict = await work
    except asyncio.CancelledError as error:
        if slot.stopping:
            raise Stopped from None
        # Only a sweep cancels a running handler; a CancelledError without one was raised by the handler itself.
        if not slot.expired and runner is not None and runner.cancelling():
            raise
        verdict = _timed_out(slot) if slot.expired else error
    except Exception as error:  # noqa: BLE001 (the guard: every exception of a handler is an outcome)
        verdict = _timed_out(slot, error) if slot.expired else error
    finally:
        slot.deadline = 0.0
        slot.runner = None
        while slot.expired and runner is not None and runner.uncancel() > 0:
            pass
    return verdict


def _timed_out(slot: DeadlineSlot, error: Exception | None = None) -> TimedOut:
    ending = f" and then raised {error!r}" if error is not None else ""
    return TimedOut(f"the handler ran longer than its {slot.timeout_s:g} s{ending}")
