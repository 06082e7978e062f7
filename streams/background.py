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

    An exception that escapes from it is logged and handed to ``on_crash`` (in that task or thread). Cancelling the
    task is no crash. Raises ``RuntimeError`` for a coroutine where no loop runs.
    """
    if isinstance(work, Coroutine):
        return asyncio.get_running_loop().create_task(_attend(name, work, on_crash), name=name)

    def attend() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (whatever escapes must end the role)
            _report(name, error, on_crash)

    thread = threading.Thread(target=attend, name=name, daemon=True)
    thread.start()
    return thread


async def _attend(name: str, work: Coroutine[Any, Any, None], on_crash: OnCrash) -> None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 (whatever escapes must end the role)
        _report(name, error, on_crash)


def _report(name: str, error: Exception, on_crash: OnCrash) -> None:
    log.critical("background work crashed", name=name, error=str(error), exc_info=error)
    on_crash(name, error)
