"""Wait for a condition, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE_S = 0.02


def eventually(condition: Callable[[], T], timeout_s: float = 60.0, what: str = "") -> T:
    """Ask again until the answer is true, and return it. Raises ``AssertionError`` after ``timeout_s``.

    An ``AssertionError`` of the condition itself counts as "not yet" and is shown when time is up.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        failure: AssertionError | None = None
        try:
            answer = condition()
        except AssertionError as error:
            failure = error
        else:
            if answer:
                return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or failure or condition}") from failure
        time.sleep(_PAUSE_S)


async def eventually_async(condition: Callable[[], T | Awaitable[T]], timeout_s: float = 60.0, what: str = "") -> T:
    """The same without blocking the event loop; the condition may be a coroutine function."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        failure: AssertionError | None = None
        try:
            asked = condition()
            answer: T = await asked if isinstance(asked, Awaitable) else asked
        except AssertionError as error:
            failure = error
        else:
            if answer:
                return answer
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or failure or condition}") from failure
        await asyncio.sleep(_PAUSE_S)
