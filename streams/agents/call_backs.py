"""How a task goes on that has waited for a call-back: no handler is needed, only what the relay found out."""

from typing import Final

import orjson

from handlers.redaction import NOTHING_SECRET
from handlers.results import Completed
from schemas.events import TaskReady
from streams.agents.executions import Execution
from streams.engine.decide import CALL_BACK, WAIT, CallBackMissing, StepPolicy

_AT_ONCE_S: Final = 10.0


def called_back(task: TaskReady, waited: Execution | None) -> Execution:
    """An execution that completes the step with the call-back's payload, or raises ``CallBackMissing``.

    ``waited`` is the execution of the handler that waited, where it is at hand: for its name and its tenant's secrets.
    Whether the pipeline goes on was decided when the wait began, so that the event ends as it was told then.
    """
    wait = orjson.loads(task.options.get(WAIT, "{}"))
    step_count = task.step + 2 if wait.get("then") == "step_completed" else task.step + 1
    return Execution(
        waited.handler if waited is not None else "",
        _result,
        StepPolicy(step_count),
        _AT_ONCE_S,
        waited.redactor if waited is not None else NOTHING_SECRET,
    )


async def _result(task: TaskReady) -> Completed:
    payload = task.options.get(CALL_BACK)
    if payload is not None:
        return Completed(orjson.loads(payload))
    wait = orjson.loads(task.options.get(WAIT, "{}"))
    raise CallBackMissing(f"nobody called back with the key {wait.get('call_back')!r} until {wait.get('until')}")
