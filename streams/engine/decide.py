"""What becomes of a task after an attempt: outcome, continuation and when it is due. Pure (DESIGN §6, R1, R10, R14)."""

import random
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

import orjson

from handlers.payloads import LONGEST_DELAY_S
from handlers.results import Completed, Rejected, Wait
from schemas.errors import Permanent, Retryable, Unknown
from schemas.events import Micros, TaskReady, to_datetime
from schemas.limits import MAX_STEP_RESULT_BYTES
from topics.catalogue import Catalogue
from topics.gates import call_back_gate, call_back_key_fault
from topics.tiers import FAILED, Tier

STEP_BACKOFF_S: Final = 30.0
BACKOFF_S: Final = 300.0
LONGEST_RETRY_AFTER_S: Final = 24 * 3600.0
JITTER: Final = 0.25
TRIES_BEFORE: Final = "tries_before_failed_tier"
"""Option of a task in the failed tier, or retried by hand: how many attempts it had used up before (R10)."""
RECONCILE: Final = "reconcile"
"""Option of a task whose work may have been done already: nothing is sent before its handler has looked for it (R6)."""

LOOKED: Final = "looked"
"""Option of a task of a replay: ``run|step`` for which its handler has looked for what earlier runs have done (R10)."""

WAIT: Final = "wait"
"""Option of a task that waits for a call-back: its outcome's JSON result, which says what comes then."""

CALL_BACK: Final = "call_back"
"""Option of a task that a call-back let go: its payload, as JSON. Without it nobody called in time."""

_OF_ONE_TASK: Final = frozenset({TRIES_BEFORE, RECONCILE, WAIT, CALL_BACK})
"""Options that are not handed on to a sequel."""


class CallBackMissing(Permanent):
    """Nobody called back in time."""

    code = "no_call_back"


class TimedOut(Retryable):
    """The attempt ran longer than it may."""

    code = "timeout"


class WorkersDied(Exception):
    """Workers died, one after the other, while they ran the task: its tier does not try it again (R4)."""

    code = "worker_died"


class Unclear(Exception):
    """Whether the work was done is not known; its handler looks for it at ``due_at``.

    ``reconcile`` is the sequel's option ``RECONCILE``.
    """

    def __init__(self, text: str, code: str, reconcile: str, due_at: Micros) -> None:
        super().__init__(text)
        self.code = code
        self.reconcile = reconcile
        self.due_at = due_at


Verdict: TypeAlias = object
"""What an attempt came to: a handler's ``Completed`` or ``Rejected``, what it raised, or a wrong thing it returned.
``Unclear`` where it is to be looked for (``streams.agents.intents``)."""


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """What the configuration says of the task's step. ``retry_attempts`` counts all tries; ``None``: the tier's."""

    step_count: int = 1
    retry_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where a sequel goes, as an outcome says it.

    ``result`` is the outcome's, as JSON; ``gate`` a call-back's; ``reconcile`` the sequel's option ``RECONCILE``.
    """

    topic: str
    step: int
    attempt: int
    due_at: Micros | None = None
    result: str | None = None
    gate: str | None = None
    reconcile: str | None = None


@dataclass(frozen=True, slots=True)
class Continuation:
    """The sequel of a task. ``due_at`` ``None``: at once, on ``topic``; else through the schedule."""

    topic: str
    tier: str
    task: TaskReady
    due_at: Micros | None


class Decision(NamedTuple):
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
    if type(verdict) is Completed:
        return _completed(task, verdict.result, tier, policy, catalogue)
    match verdict:
        case Rejected(reason, code):
            return Decision("rejected", error=str(reason), error_code=str(code))
        case CallBackMissing():
            return Decision("timed_out", None, *told(verdict))
        case Permanent():
            return Decision("failed_permanently", None, *told(verdict))
        case Unknown():
            return Decision("unknown", None, *told(verdict))
        case Wait():
            return _waiting(task, verdict, tier, policy, catalogue, now)
        case Unclear():
            return _unclear(task, verdict, tier, catalogue)
        case BaseException():
            return _failed(task, verdict, tier, policy, catalogue, now)
        case _:
            return Decision("failed_permanently", None, *told(verdict))


def tries(task: TaskReady, tier: Tier, policy: StepPolicy) -> int:
    """Number of the last attempt that a task may have in its tier."""
    own = tier.tries if tier.name == FAILED.name or policy.retry_attempts is None else policy.retry_attempts
    return _tries_before(task) + own


def backoff_s(task: TaskReady, tier: Tier, policy: StepPolicy, retry_after_s: float | None) -> float:
    """Seconds until the next attempt: at least what the upstream asked for, at most a day."""
    tried = min(task.attempt - _tries_before(task), 30)
    if tier.name == FAILED.name:
        wait = tier.retry_after_s
    elif policy.retry_attempts is not None:
        wait = min(2.0**tried, STEP_BACKOFF_S)
    else:
        wait = min(2.0**tried, BACKOFF_S) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
    return min(max(wait, retry_after_s or 0.0), LONGEST_RETRY_AFTER_S)


def _tries_before(task: TaskReady) -> int:
    before = task.options.get(TRIES_BEFORE, "0")
    # The option may come from outside: what cannot be is not believed.
    return min(int(before), task.attempt - 1) if before.isdecimal() else 0


def continuation_of(task: TaskReady, origin: Tier, target: Target, catalogue: Catalogue) -> Continuation:
    """The sequel that an outcome embeds, from its target and from the task it belongs to: equal each time (R1)."""
    tier = catalogue.tier(target.topic)
    options = {name: value for name, value in task.options.items() if name not in _OF_ONE_TASK}
    if target.gate is not None:
        options[WAIT] = target.result or "{}"
    if target.reconcile is not None:
        options[RECONCILE] = target.reconcile
    if target.step == task.step:
        enters = tier.name == FAILED.name and origin.name != FAILED.name
        before = str(task.attempt) if enters else task.options.get(TRIES_BEFORE)
        if before is not None:
            options[TRIES_BEFORE] = before
    results = [*task.results, target.result or "{}"] if target.step > task.step else task.results
    sequel = replace(task, step=target.step, attempt=target.attempt, results=results, options=options, gate=target.gate)
    return Continuation(target.topic, tier.name, sequel, target.due_at)


def result_json(result: object) -> str | Decision:
    """A completed step's result as it is kept; the failure that it is where it cannot be."""
    try:
        encoded = orjson.dumps(result)
    except orjson.JSONEncodeError as error:
        text = f"the handler's result cannot be written as JSON: {error}"
        return Decision("failed_permanently", error=text, error_code="result_not_json")
    if len(encoded) > MAX_STEP_RESULT_BYTES:
        text = f"the result has {len(encoded)} bytes; at most {MAX_STEP_RESULT_BYTES} are kept, return a summary"
        return Decision("failed_permanently", error=text, error_code="result_too_large")
    return encoded.decode()


def _completed(task: TaskReady, result: object, tier: Tier, policy: StepPolicy, catalogue: Catalogue) -> Decision:
    text = result_json(result)
    if isinstance(text, Decision):
        return text
    if task.step + 1 >= policy.step_count:
        return Decision("completed", result=text)
    target = Target(catalogue.steps(tier.name), task.step + 1, 1, result=text)
    return Decision("step_completed", result=text, continuation=continuation_of(task, tier, target, catalogue))


def _waiting(
    task: TaskReady, wait: Wait, tier: Tier, policy: StepPolicy, catalogue: Catalogue, now: Micros
) -> Decision:
    """The step's next attempt waits behind the call-back's gate: so a retry by hand begins with this step (R10)."""
    fault = call_back_key_fault(wait.key) or _timeout_fault(wait.timeout_s)
    if fault is not None:
        return Decision("failed_permanently", error=f"the handler's Wait is wrong: {fault}", error_code="bad_wait")
    due_at = now + int(wait.timeout_s * 1_000_000)
    then = "completed" if task.step + 1 >= policy.step_count else "step_completed"
    waits_for = {"call_back": wait.key, "until": to_datetime(due_at).isoformat(timespec="seconds"), "then": then}
    result = orjson.dumps(waits_for).decode()
    gate = call_back_gate(task.tenant_id, wait.key)
    target = Target(catalogue.steps(tier.name), task.step, task.attempt + 1, due_at, result, gate)
    return Decision("waiting", result, continuation=continuation_of(task, tier, target, catalogue))


def _timeout_fault(timeout_s: object) -> str | None:
    # Not a number is neither more than 0 nor at most a year.
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if is_number and 0 < timeout_s <= LONGEST_DELAY_S:  # type: ignore[operator]
        return None
    return f"timeout_s is seconds, more than 0 and at most {LONGEST_DELAY_S} (a year), not {timeout_s!r:.80}"


def _failed(
    task: TaskReady, error: BaseException, tier: Tier, policy: StepPolicy, catalogue: Catalogue, now: Micros
) -> Decision:
    text, code = told(error)
    last = 0 if isinstance(error, WorkersDied) else tries(task, tier, policy)
    if task.attempt < last:
        wait_s = backoff_s(task, tier, policy, getattr(error, "retry_after_s", None))
        kind, topic = "retry", _own_topic(task, tier, catalogue)
    elif tier.name == FAILED.name:
        return Decision("failed_permanently", error=text, error_code=code)
    else:
        kind, topic, wait_s = "failed", catalogue.topic(FAILED.name), FAILED.retry_after_s
    target = Target(topic, task.step, task.attempt + 1, now + int(wait_s * 1_000_000))
    return Decision(kind, None, text, code, continuation_of(task, tier, target, catalogue))


def _unclear(task: TaskReady, unclear: Unclear, tier: Tier, catalogue: Catalogue) -> Decision:
    topic = _own_topic(task, tier, catalogue)
    target = Target(topic, task.step, task.attempt + 1, unclear.due_at, reconcile=unclear.reconcile)
    sequel = continuation_of(task, tier, target, catalogue)
    return Decision("unclear", None, str(unclear), unclear.code, sequel)


def _own_topic(task: TaskReady, tier: Tier, catalogue: Catalogue) -> str:
    """Where a further attempt of the task goes (R14)."""
    return catalogue.topic(tier.name) if task.step == 0 else catalogue.steps(tier.name)


def told(verdict: Verdict) -> tuple[str, str]:
    """What people read of what is no result, and its code: an exception's type stands where it is a handler's bug."""
    if isinstance(verdict, Retryable | Permanent | Unknown | WorkersDied):
        return str(verdict), verdict.code
    if isinstance(verdict, BaseException):
        return f"{type(verdict).__name__}: {verdict}", "handler_error"
    return f"the handler returned {type(verdict).__name__}; it must return Completed, Rejected or Wait", "wrong_result"
