"""Plain functions run in so many threads at most (DESIGN §9)."""

import asyncio
import threading

import pytest

from handlers.redaction import Redactor, current_redactor
from streams.engine.threads import HandlerThreads, NotStarted
from tests.support.waiting import eventually_async


async def test_a_call_gives_its_result_or_its_exception_and_sees_the_callers_context() -> None:
    threads = HandlerThreads(2)
    redactor = Redactor(["secret"])
    current_redactor.set(redactor)
    assert await threads.run(current_redactor.get) is redactor
    assert await threads.run(threading.get_ident) != threading.get_ident()

    def fail() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(fail)
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)


async def test_never_more_threads_than_allowed_and_who_has_not_begun_is_not_begun_later() -> None:
    threads, go_on, began = HandlerThreads(2), threading.Event(), []

    def work(number: int) -> int:
        began.append(number)
        go_on.wait()
        return number

    running = [asyncio.create_task(threads.run(lambda n=n: work(n))) for n in range(5)]  # type: ignore[misc]
    await eventually_async(lambda: len(began) == 2)
    running[4].cancel()
    with pytest.raises(NotStarted, match="2 threads"):
        await running[4]
    running[0].cancel()
    # This one has begun: it goes on, so nobody may say that it has not acted.
    with pytest.raises(asyncio.CancelledError):
        await running[0]
    assert began == [0, 1]
    go_on.set()
    assert await asyncio.gather(*running[1:4]) == [1, 2, 3]
    assert sorted(began) == [0, 1, 2, 3]
    assert len([each for each in threading.enumerate() if each.name.startswith("handler-")]) >= 2
