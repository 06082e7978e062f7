"""Pipelines whose middle step fails, with workers killed: each step's effect exactly once by its key."""

import random
from typing import Any, Final

import orjson

from schemas.events import TaskEvent
from tests.faults.checker import Evidence, effects
from tests.faults.laboratory import CONFIGURATION, Laboratory
from tests.faults.load import Wanted
from tests.faults.scenario import Scenario, Size

WORKERS: Final = 3
STEPS: Final = 3
FAILING_STEP: Final = 1
ENDPOINT: Final = "webhook/faults/pipeline"
_STEP: Final = {"handler_class": "FaultWebhookHandler", "retry_attempts": 5, "timeout": 20}
PIPELINE: Final = {
    **CONFIGURATION,
    "webhook_settings": [{"id": "pipeline", "webhook_endpoint": ENDPOINT, "pipeline": [_STEP] * STEPS}],
}


def play(laboratory: Laboratory, size: Size) -> None:
    """Pipelines of three steps; of every tenth the middle one fails at its first attempt. Workers are killed."""
    load = laboratory.start(WORKERS, PIPELINE)
    load.start(size.rate, shape=shape, events=size.events)
    for _ in range(size.faults):
        laboratory.hold(size.step_s * laboratory.random.uniform(0.5, 1.0))
        victim = laboratory.random.choice(laboratory.workers)
        laboratory.mark(f"kill -9 of worker {victim.pid}")
        victim.kill()
        victim.start()
    load.wait()


def shape(sequence: int, chance: random.Random) -> Wanted:
    """One pipeline; a retried step comes back after later events of its key (R12)."""
    payload: dict[str, Any] = {"sleep_s": chance.choice((0.005, 0.02, 0.1))}
    if fails(sequence):
        payload |= {"failing_step": FAILING_STEP, "failures": 1, "how": "retryable"}
    return Wanted(payload, endpoint=ENDPOINT, is_ordered=False)


def fails(sequence: int) -> bool:
    """Whether the middle step of a pipeline fails at its first attempt."""
    return sequence % 10 == 3


def examine(laboratory: Laboratory, evidence: Evidence, _size: Size) -> None:
    """Each step's effect is there under one key, failed ones went on where they failed, results came through.

    The pipelines are the events of the laboratory's last load.
    """
    pipelines = {each.event_id: each.sequence for each in laboratory.loads[-1].requested}
    executions = [each for each in evidence.executions if each.task.event_id in pipelines]
    found = effects(executions)
    wanted = len(pipelines) * STEPS
    laboratory.notes["effects"] = len(found)
    laboratory.notes["calls_again_under_the_same_key"] = found.total() - len(found)
    if len(found) != wanted:
        laboratory.violations.append(f"{len(found)} effects instead of {wanted}")
    tried = {each.task for each in executions}
    again = {
        task for task in tried if task.attempt > (1 + fails(pipelines[task.event_id]) * (task.step == FAILING_STEP))
    }
    resumed = {task.event_id for task in tried if task.step == FAILING_STEP and task.attempt == 2}
    laboratory.notes["resumed_at_the_failed_step"] = len(resumed)
    if again:
        laboratory.violations.append(f"{len(again)} steps were attempted again that had not failed")
    if resumed != {event_id for event_id, sequence in pipelines.items() if fails(sequence)}:
        laboratory.violations.append(f"{len(resumed)} pipelines were resumed at the failed step: not those that failed")
    results = [
        orjson.loads(fact.result or "{}").get("steps")
        for fact in laboratory.facts
        if isinstance(fact, TaskEvent) and fact.kind == "completed" and fact.event_id in pipelines
    ]
    broken = [steps for steps in results if steps != list(range(STEPS))]
    if broken or len(results) < len(pipelines):
        laboratory.violations.append(f"{len(broken)} of {len(results)} results do not hold every step: {broken[:3]}")


SCENARIOS: Final = (
    Scenario(
        "pipelines",
        "pipelines of three steps, a failing one, workers killed",
        play,
        full=Size(rate=60, events=10_000, faults=10, step_s=16, settle_s=180),
        allowed=frozenset({"repeated"}),
        examine=examine,
    ),
)
