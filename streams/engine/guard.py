"""The one place where whatever a handler does becomes a verdict (DESIGN §5, item 7)."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

from streams.engine.decide import TimedOut, Verdict

TaskT = TypeVar("TaskT")

SWEEP_S: Final = 0.1
_CANCEL_AGAIN_S: Final = 1.0


class Stopped(Exception):
    """The worker stopped while the handler ran: there is no verdict, so nothing is recorded of the attempt."""


class DeadlineSlot:
    """The deadline of what a runner runs now, watched by ``sweep``: cheaper than a timer for each.

    ``deadline`` is a reading of the monotonic clock in seconds; 0 while no handler runs.
    """

    __slots__ = ("deadline", "expired", "runner", "stopping", "timeout_s")

    def __init__(self, runner: asyncio.Task[Any] | None) -> None:
        self.deadline = 0.0
        self.timeout_s = 0.0
        self.expired = 0
        self.stopping = False
        self.runner = runner

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

    def settle(self) -> None:
        """Take back what ``_cancel`` asked of the runner, which goes on with its next item."""
        while self.runner is not None and self.runner.uncancel() > 0:
            pass
        self.expired = 0
        self.stopping = False


def sweep(slots: Iterable[DeadlineSlot], now: float) -> None:
    """Expire every slot whose deadline has passed."""
    for slot in slots:
        if 0.0 < slot.deadline < now:
            slot.expire()


async def run_guarded(
    run: Callable[[TaskT], Awaitable[Any]], task: TaskT, slot: DeadlineSlot, timeout_s: float
) -> Verdict:
    """The verdict of ``run(task)``: its result, or what it raised.

    It may take ``timeout_s`` seconds, or what it says itself by ``slot.start``. Raises ``Stopped`` where the worker
    cancelled it, and ``CancelledError`` where the runner itself was cancelled.
    """
    slot.start(timeout_s)
    try:
        verdict: Verdict = await run(task)
    except asyncio.CancelledError as error:
        if slot.stopping:
            raise Stopped from None
        # Only a sweep cancels a running handler; a CancelledError without one was raised by the handler itself.
        if not slot.expired and slot.runner is not None and slot.runner.cancelling():
            raise
        verdict = _timed_out(slot) if slot.expired else error
    except Exception as error:  # noqa: BLE001 (the guard: every exception of a handler is an outcome)
        error = _readable(error)
        verdict = _timed_out(slot, error) if slot.expired else error
    finally:
        slot.deadline = 0.0
        if slot.expired:
            slot.settle()
    return verdict


def _readable(error: Exception) -> Exception:
    """The error itself, or one in its place where it cannot say what it is: nothing guards who reads it later."""
    try:
        str(error), repr(error)
    except Exception as broken:  # noqa: BLE001 (the guard: every exception of a handler is an outcome)
        return RuntimeError(f"{type(error).__name__}, whose text cannot be read: {type(broken).__name__}")
    return error


def _timed_out(slot: DeadlineSlot, error: Exception | None = None) -> TimedOut:
    ending = f" and then raised {error!r}" if error is not None else ""
    timed_out = TimedOut(f"the handler ran longer than its {slot.timeout_s:g} s{ending}")
    timed_out.__cause__ = error
    return timed_out


def call_guarded(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """What ``call`` returns, or what it raises: for a thread, whose end is told to the loop in either case."""
    try:
        return call(), None
    except BaseException as error:  # noqa: BLE001 (the guard: every exception of a handler is an outcome)
        return None, error
