"""The one place where tasks and threads run unattended: none of them ends in silence."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, overload

import structlog

log = structlog.get_logger(__name__)

OnCrash: TypeAlias = Callable[[str, BaseException], None]
"""Called with the name of what crashed and its exception; it has to bring the role to an end."""


@overload
def run_in_background(name: str, work: Callable[[], None], on_crash: OnCrash) -> threading.Thread: ...


@overload
def run_in_background(name: str, work: Coroutine[Any, Any, None], on_crash: OnCrash) -> asyncio.Task[None]: ...


def run_in_background(
    name: str, work: Callable[[], None] | Coroutine[Any, Any, None], on_crash: OnCrash
) -> threading.Thread | asyncio.Task[None]:
    """Start ``work``: a coroutine as a task of the running loop, a function in a daemon thread of its own.

    An exception that escapes from it is logged and handed to ``on_crash``, on the loop or in that thread; who awaits
    the task gets it too. Cancelling the task is no crash. Raises ``RuntimeError`` for a coroutine where no loop runs.
    """
    if isinstance(work, Coroutine):
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(lambda done: _inspect(name, done, on_crash))
        return task

    def attend() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (whatever escapes must end the role)
            _report(name, error, on_crash)

    thread = threading.Thread(target=attend, name=name, daemon=True)
    thread.start()
    return thread


def _inspect(name: str, task: asyncio.Task[None], on_crash: OnCrash) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _report(name, error, on_crash)


def _report(name: str, error: BaseException, on_crash: OnCrash) -> None:
    log.critical("background work crashed", name=name, error=str(error), exc_info=error)
    on_crash(name, error)
