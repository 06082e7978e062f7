import asyncio
import threading

import pytest

from streams.background import run_in_background


def test_a_thread_that_fails_is_handed_to_on_crash() -> None:
    crashed: list[tuple[str, str]] = []

    def fail() -> None:
        raise RuntimeError("no way on")

    thread = run_in_background("relay", fail, lambda name, error: crashed.append((name, str(error))))
    thread.join(10)
    assert crashed == [("relay", "no way on")]


async def test_a_task_that_fails_is_handed_to_on_crash_and_a_cancelled_one_is_not() -> None:
    crashed: list[str] = []

    async def fail() -> None:
        raise RuntimeError("no way on")

    with pytest.raises(RuntimeError, match="no way on"):
        await run_in_background("failing", fail(), lambda name, _error: crashed.append(name))

    async def wait() -> None:
        await asyncio.Event().wait()

    waiting = run_in_background("waiting", wait(), lambda name, _error: crashed.append(name))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert crashed == ["failing"]


def test_a_thread_that_ends_well_is_no_crash() -> None:
    done = threading.Event()
    run_in_background("short", done.set, lambda name, error: pytest.fail(f"{name}: {error}")).join(10)
    assert done.is_set()
