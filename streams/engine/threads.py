"""Threads for handlers that are plain functions: so many at most, whatever waits for them (DESIGN §9)."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Final

from schemas.errors import Retryable
from streams.engine.guard import call_guarded

DEFAULT_THREADS: Final = 32


class NotStarted(Retryable):
    """The time was up before a thread became free: the handler has not been called."""

    code = "no_thread"


class _Call:
    """One call. Who takes ``claim`` first decides: a thread that begins it, or its awaiter who gives it up."""

    __slots__ = ("call", "claim", "future", "loop")

    def __init__(self, call: Callable[[], Any]) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        # The thread writes its log lines with the redactor of the tenant, which is in the context.
        self.call = partial(copy_context().run, call)
        self.claim = threading.Lock()

    def run(self) -> None:
        if not self.claim.acquire(blocking=False):
            return
        result, error = call_guarded(self.call)
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if isinstance(error, StopIteration | KeyboardInterrupt | SystemExit):
            # A future takes the first of them for its own end; the others would end the loop.
            error = RuntimeError(f"the handler raised {error!r}")
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class HandlerThreads:
    """``limit`` threads at most, made when needed. They never keep the process from ending."""

    def __init__(self, limit: int = DEFAULT_THREADS) -> None:
        self._limit = limit
        self._calls: SimpleQueue[_Call] = SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._lock = threading.Lock()

    async def run(self, call: Callable[[], Any]) -> Any:
        """What ``call`` gives. Cancelled, it raises ``NotStarted`` where the call had not begun; else it goes on."""
        waiting = _Call(call)
        with self._lock:
            self._busy += 1
            if self._busy > self._threads and self._threads < self._limit:
                self._threads += 1
                threading.Thread(target=self._work, name=f"handler-{self._threads}", daemon=True).start()
        self._calls.put(waiting)
        try:
            return await waiting.future
        except asyncio.CancelledError:
            if waiting.claim.acquire(blocking=False):
                raise NotStarted(
                    f"none of the {self._limit} threads for handlers became free in time; it is tried again"
                ) from None
            raise

    def _work(self) -> None:
        while True:
            self._calls.get().run()
            with self._lock:
                self._busy -= 1
