"""What becomes of a task after an attempt: outcome, continuation and when it is due. Pure (DESIGN §6, R1, R10, R14)."""

import random
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import orjson

from handlers.results import Completed, Rejected
from schemas.errors import Permanent, Retryable, Unknown
from schemas.events import Micros, TaskReady
from schemas.limits import MAX_STEP_RESULT_BYTES
from topics.catalogue import Catalogue
from topics.tiers import FAILED, Tier

STEP_BACKOFF_S: Final = 30.0
BACKOFF_S: Final = 300.0
LONGEST_RETRY_AFTER_S: Final = 24 * 3600.0
JITTER: Final = 0.25
TRIES_BEFORE: Final = "tries_before_failed_tier"
"""Option of a task in the failed tier: how many attempts it had used up before it came there (R10)."""


class TimedOut(Retryable):
    """The attempt ran longer than it may."""

    code = "timeout"


Verdict: TypeAlias = object
"""What an attempt came to: a handler's ``Completed`` or ``Rejected``, what it raised, or a wrong thing it returned."""


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """What the configuration says of the task's step. ``retry_attempts`` counts all tries; ``None``: the tier's."""

    step_count: int = 1
    retry_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a sequel goes, as an outcome says it. ``result`` is the finished step's, as JSON."""

    topic: str
    step: int
    attempt: int
    due_at: Micros | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Continuation:
    """The sequel of a task. ``due_at`` ``None``: at once, on ``topic``; else through the schedule."""

    topic: str
    tier: str
    task: TaskReady
    due_at: Micros | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome's kind and content, and its sequel."""

    kind: str
    result: str | None = None
    error: str | None = None
    error_code: str | None = None
    continuation: Continuation | None = None


def decide(
    task: TaskReady, verdict: Verdict, tier: Tier, policy: StepPolicy, catalogue: Catalogue, now: Micros
) -> Decision:
    """The decision about a task of ``tier`` whose attempt came to ``verdict`` at ``now``."""
    match verdict:
        case Completed(result):
            return _completed(task, result, tier, policy, catalogue)
        case Rejected(reason, code):
            return Decision("rejected", error=reason, error_code=code)
        case Permanent():
            return Decision("failed_permanently", error=_text(verdict), error_code=verdict.code)
        case Unknown():
            return Decision("unknown", error=_text(verdict), error_code=verdict.code)
        case BaseException():
            return _failed(task, verdict, tier, policy, catalogue, now)
        case _:
            text = f"the handler returned {type(verdict).__name__}; it must return Completed or Rejected"
            return Decision("failed_permanently", error=text, error_code="wrong_result")


def tries(task: TaskReady, tier: Tier, policy: StepPolicy) -> int:
    """Number of the last attempt that a task may have in its tier."""
    if tier.name == FAILED.name:
        before = task.options.get(TRIES_BEFORE, "0")
        return (int(before) if before.isdecimal() else 0) + tier.tries
    return policy.retry_attempts if policy.retry_attempts is not None else tier.tries


def backoff_s(task: TaskReady, tier: Tier, policy: StepPolicy, retry_after_s: float | None) -> float:
    """Seconds until the next attempt: at least what the upstream asked for, at most a day."""
    if tier.name == FAILED.name:
        wait = tier.retry_after_s
    elif policy.retry_attempts is not None:
        wait = min(2.0 ** min(task.attempt, 30), STEP_BACKOFF_S)
    else:
        wait = min(2.0 ** min(task.attempt, 30), BACKOFF_S) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return min(max(wait, retry_after_s or 0.0), LONGEST_RETRY_AFTER_S)


def continuation_of(task: TaskReady, origin: Tier, target: Target, catalogue: Catalogue) -> Continuation:
    """The sequel that an outcome embeds, from its target and from the task it belongs to: equal each time (R1)."""
    tier = catalogue.tier(target.topic)
    options = {name: value for name, value in task.options.items() if name != TRIES_BEFORE}
    if tier.name == FAILED.name and target.step == task.step:
        before = task.options.get(TRIES_BEFORE) if origin.name == FAILED.name else str(task.attempt)
        if before is not None:
            options[TRIES_BEFORE] = before
    results = [*task.results, target.result or "{}"] if target.step > task.step else task.results
    sequel = replace(task, step=target.step, attempt=target.attempt, results=results, options=options, gate=None)
    return Continuation(target.topic, tier.name, sequel, target.due_at)


def _completed(task: TaskReady, result: object, tier: Tier, policy: StepPolicy, catalogue: Catalogue) -> Decision:
    try:
        encoded = orjson.dumps(result)
    except orjson.JSONEncodeError as error:
        text = f"the handler's result cannot be written as JSON: {error}"
        return Decision("failed_permanently", error=text, error_code="result_not_json")
    if len(encoded) > MAX_STEP_RESULT_BYTES:
        text = f"the result has {len(encoded)} bytes; at most {MAX_STEP_RESULT_BYTES} are kept, return a summary"
        return Decision("failed_permanently", error=text, error_code="result_too_large")
    text = encoded.decode()
    if task.step + 1 >= policy.step_count:
        return Decision("completed", result=text)
    target = Target(catalogue.steps(tier.name), task.step + 1, 1, result=text)
    return Decision("step_completed", result=text, continuation=continuation_of(task, tier, target, catalogue))


def _failed(
    task: TaskReady, error: BaseException, tier: Tier, policy: StepPolicy, catalogue: Catalogue, now: Micros
) -> Decision:
    code = error.code if isinstance(error, Retryable) else "handler_error"
    text = _text(error)
    last = tries(task, tier, policy)
    if task.attempt < last:
        wait_s = backoff_s(task, tier, policy, getattr(error, "retry_after_s", None))
        kind, topic = "retry", catalogue.topic(tier.name) if task.step == 0 else catalogue.steps(tier.name)
    elif tier.name == FAILED.name:
        return Decision("failed_permanently", error=text, error_code=code)
    else:
        kind, topic, wait_s = "failed", catalogue.topic(FAILED.name), FAILED.retry_after_s
    target = Target(topic, task.step, task.attempt + 1, now + int(wait_s * 1_000_000))
    return Decision(kind, None, text, code, continuation_of(task, tier, target, catalogue))


def _text(error: BaseException) -> str:
    """What people read of an exception: its message, with the type where it is a bug of the handler."""
    if isinstance(error, Retryable | Permanent | Unknown):
        return str(error)
    return f"{type(error).__name__}: {error}"
