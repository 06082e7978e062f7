"""Database calls of the HTTP door: in threads, bounded in number and in how many wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from streams.web.problems import Problem

ResultT = TypeVar("ResultT")

THREADS: Final = 8
MOST_WAITING: Final = 256


class BlockingCalls:
    """Runs calls that block. What is too much to wait for is refused at once, so that nobody waits for ever."""

    def __init__(self, threads: int = THREADS, most_waiting: int = MOST_WAITING) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="http-database")
        self._most = threads + most_waiting
        self._count = 0

    async def run(self, call: Callable[[], ResultT]) -> ResultT:
        """The call's result. Raises what it raises, and ``Problem`` 503 where too many calls are under way."""
        if self._count >= self._most:
            raise Problem(503, "busy", "too many requests are under way; try again shortly")
        self._count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        finally:
            self._count -= 1

    def close(self) -> None:
        """Take no more calls."""
        self._pool.shutdown(wait=False, cancel_futures=True)
