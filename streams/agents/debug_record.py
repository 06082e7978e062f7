"""What is logged of each task where ``log_level`` is ``debug``: tenant, endpoint, payload without secrets."""

import logging
from collections.abc import Awaitable, Callable

import orjson
import structlog

from handlers.redaction import Redactor, current_redactor
from handlers.results import Returned
from schemas.events import TaskReady

_log = structlog.get_logger(__name__)


def tells() -> bool:
    """Whether anybody would see it. Asked once for each handler of a tenant, never for a task."""
    return logging.getLogger(__name__).isEnabledFor(logging.DEBUG)


def told(
    run: Callable[[TaskReady], Awaitable[Returned]], handler: str, redactor: Redactor, queue_connection: str
) -> Callable[[TaskReady], Awaitable[Returned]]:
    """``run``, logged before. Secrets are found by the tenant's ``redactor`` and by their names (``streams.logs``)."""

    async def run_told(task: TaskReady) -> Returned:
        current_redactor.set(redactor)
        _log.debug(
            "a handler is called",
            tenant_id=task.tenant_id,
            endpoint=task.endpoint,
            payload=_shown(task.payload),
            queue_connection=queue_connection,
            handler=handler,
            event_id=task.event_id,
            attempt=task.attempt,
        )
        return await run(task)

    return run_told


def _shown(payload: str) -> object:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload
