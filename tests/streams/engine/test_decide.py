"""What becomes of an attempt: kinds, tries, waits and sequels."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.redaction import NOTHING_SECRET, Redactor
from handlers.results import Completed, Rejected, Wait
from schemas.errors import Permanent, Retryable, Unknown
from schemas.kinds import KINDS
from schemas.limits import MAX_STEP_RESULT_BYTES
from streams.agents.call_backs import called_back
from streams.engine.decide import (
    CALL_BACK,
    CallBackMissing,
    Decision,
    StepPolicy,
    Target,
    continuation_of,
    decide,
    result_json,
)
from tests.streams.engine.workload import task_ready
from topics.catalogue import build_catalogue
from topics.tiers import FAILED, TIERS, Tier

CATALOGUE = build_catalogue()
NOW = 1_800_000_000_000_000
HIGH = TIERS["webhook-high"]

verdicts = st.sampled_from(
    [
        Completed({"a": 1}),
        Rejected("no"),
        Permanent("never"),
        Unknown("who knows"),
        Wait("order-7", 60),
        CallBackMissing("nobody called"),
        Retryable("later", retry_after_s=40),
        ValueError("bug"),
        object(),
    ]
)
policies = st.builds(StepPolicy, st.integers(1, 4), st.none() | st.integers(1, 6))


@given(verdicts, st.sampled_from(list(TIERS.values())), policies, st.integers(1, 12), st.integers(0, 3))
def test_every_outcome_is_final_or_has_a_sequel(
    verdict: object, tier: Tier, policy: StepPolicy, attempt: int, step: int
) -> None:
    task = task_ready("e", attempt=attempt, step=step)
    decision = decide(task, verdict, tier, policy, CATALOGUE, NOW)
    kind = KINDS[decision.kind]
    assert kind.outcome
    assert kind.final == (decision.continuation is None)
    if decision.continuation is not None:
        sequel = decision.continuation
        assert (sequel.task.step, sequel.task.attempt) > (step, attempt) or sequel.task.step > step
        assert sequel.due_at is None or sequel.due_at > NOW
        # R1: what is rebuilt from the outcome equals what was produced.
        place = sequel.topic, sequel.task.step, sequel.task.attempt, sequel.due_at
        target = Target(*place, decision.result, sequel.task.gate)
        assert continuation_of(task, tier, target, CATALOGUE) == sequel


def life(verdict: object, tier: Tier, policy: StepPolicy = StepPolicy()) -> list[tuple[str, int, str]]:  # noqa: B008
    """Kinds, attempts and tiers of a task that always ends in ``verdict``."""
    task, lived = task_ready("e"), []
    while True:
        decision = decide(task, verdict, tier, policy, CATALOGUE, NOW)
        lived.append((decision.kind, task.attempt, tier.name))
        if decision.continuation is None:
            return lived
        task, tier = decision.continuation.task, TIERS[decision.continuation.tier]


@pytest.mark.parametrize("tier", [tier for tier in TIERS.values() if tier is not FAILED])
def test_a_tier_tries_as_often_as_it_says_then_the_failed_tier_five_times(tier: Tier) -> None:
    lived = life(RuntimeError("always"), tier)
    assert [attempt for _, attempt, _ in lived] == list(range(1, tier.tries + 6))
    assert [kind for kind, _, _ in lived] == ["retry"] * (tier.tries - 1) + ["failed"] + ["retry"] * 4 + [
        "failed_permanently"
    ]
    assert [name for _, _, name in lived] == [tier.name] * tier.tries + [FAILED.name] * 5


def test_a_step_has_its_own_number_of_tries_and_a_short_backoff() -> None:
    policy = StepPolicy(step_count=2, retry_attempts=2)
    assert [kind for kind, _, _ in life(RuntimeError("always"), HIGH, policy)][:2] == ["retry", "failed"]
    first = decide(task_ready("e"), RuntimeError(), HIGH, StepPolicy(2, 9), CATALOGUE, NOW).continuation
    eighth = decide(task_ready("e", attempt=8), RuntimeError(), HIGH, StepPolicy(2, 9), CATALOGUE, NOW).continuation
    assert first is not None
    assert eighth is not None
    assert first.due_at == NOW + 2_000_000
    assert eighth.due_at == NOW + 30_000_000


def test_the_wait_is_at_least_what_the_upstream_asked_for() -> None:
    decision = decide(task_ready("e"), Retryable("busy", retry_after_s=77), HIGH, StepPolicy(), CATALOGUE, NOW)
    assert decision.continuation is not None
    assert decision.continuation.due_at == NOW + 77_000_000


@given(st.sampled_from(list(TIERS.values())), policies, st.integers(1, 40), st.none() | st.floats(0, 1e6))
def test_a_retry_comes_neither_before_its_backoff_nor_before_what_was_asked_for(
    tier: Tier, policy: StepPolicy, attempt: int, asked_s: float | None
) -> None:
    task = task_ready("e", attempt=attempt)
    sequel = decide(task, Retryable("busy", retry_after_s=asked_s), tier, policy, CATALOGUE, NOW).continuation
    if sequel is None or sequel.tier != tier.name:
        return
    assert sequel.due_at is not None
    wait_s = (sequel.due_at - NOW) / 1e6
    if tier is FAILED:
        least = most = FAILED.retry_after_s
    elif policy.retry_attempts is not None:
        least = most = min(2.0**attempt, 30)
    else:
        least, most = 0.75 * min(2.0**attempt, 300), 1.25 * min(2.0**attempt, 300)
    day_s = 24 * 3600
    assert min(max(least, asked_s or 0), day_s) - 1e-5 <= wait_s <= min(max(most, asked_s or 0), day_s)


@given(st.sampled_from(list(TIERS.values())), st.integers(1, 4), st.integers(0, 2))
def test_a_retry_returns_to_its_own_tier_without_being_routed(tier: Tier, attempt: int, step: int) -> None:
    """R14: whatever its attempt, its priority and its name; the routing rule for attempts is for new triggers."""
    task = task_ready("e", attempt=attempt, step=step, priority=1, event_type="cleanup")
    decision = decide(task, RuntimeError(), tier, StepPolicy(3, 9), CATALOGUE, NOW)
    assert decision.kind == "retry"
    sequel = decision.continuation
    assert sequel is not None
    assert (sequel.tier, sequel.task.run, sequel.task.attempt) == (tier.name, task.run, attempt + 1)
    assert sequel.topic == (CATALOGUE.steps(tier.name) if step else CATALOGUE.topic(tier.name))


def test_the_failed_tier_is_entered_after_its_lease() -> None:
    decision = decide(task_ready("e", attempt=3), RuntimeError(), HIGH, StepPolicy(), CATALOGUE, NOW)
    assert decision.kind == "failed"
    assert decision.continuation is not None
    assert decision.continuation.topic == CATALOGUE.topic(FAILED.name)
    assert decision.continuation.due_at == NOW + 1_800_000_000


def test_the_next_step_gets_the_result_and_starts_at_once() -> None:
    decision = decide(task_ready("e", attempt=2), Completed({"sum": 3}), HIGH, StepPolicy(2, 3), CATALOGUE, NOW)
    assert decision.kind == "step_completed"
    sequel = decision.continuation
    assert sequel is not None
    assert (sequel.topic, sequel.due_at) == (CATALOGUE.steps("webhook-high"), None)
    assert (sequel.task.step, sequel.task.attempt, sequel.task.results) == (1, 1, ['{"sum":3}'])


@pytest.mark.parametrize(
    ("verdict", "kind", "code"),
    [
        (Rejected("bad", "bad_order"), "rejected", "bad_order"),
        (Permanent("no", code="no_handler"), "failed_permanently", "no_handler"),
        (Unknown("?"), "unknown", "unknown"),
        (Completed({"x": object()}), "failed_permanently", "result_not_json"),
        (Completed({"x": "y" * 50_000}), "failed_permanently", "result_too_large"),
        (None, "failed_permanently", "wrong_result"),
        (Wait("", 60), "failed_permanently", "bad_wait"),
        (Wait("k" * 201, 60), "failed_permanently", "bad_wait"),
        (Wait("two\nlines", 60), "failed_permanently", "bad_wait"),
        (Wait(7, 60), "failed_permanently", "bad_wait"),  # type: ignore[arg-type]
        (Wait("k", 0), "failed_permanently", "bad_wait"),
        (Wait("k", 365 * 24 * 3600 + 1), "failed_permanently", "bad_wait"),
        (Wait("k", float("nan")), "failed_permanently", "bad_wait"),
        (Wait("k", True), "failed_permanently", "bad_wait"),
        (Wait("k", "60"), "failed_permanently", "bad_wait"),  # type: ignore[arg-type]
        (CallBackMissing("nobody called"), "timed_out", "no_call_back"),
    ],
)
def test_what_never_retries(verdict: object, kind: str, code: str) -> None:
    decision = decide(task_ready("e"), verdict, HIGH, StepPolicy(), CATALOGUE, NOW)
    assert decision == Decision(kind, None, decision.error, code, None)
    assert decision.error


def released(policy: StepPolicy, step: int, payload: str | None) -> tuple[Decision, Decision]:
    """What a step decides that waits, and what its next attempt decides, with or without a call-back."""
    waiting = decide(task_ready("e", step=step), Wait("order-7", 60), HIGH, policy, CATALOGUE, NOW)
    assert waiting.continuation is not None
    task = waiting.continuation.task
    if payload is not None:
        task = replace(task, options={**task.options, CALL_BACK: payload})
    execution = called_back(task, None)

    async def verdict() -> object:
        try:
            return await execution.run(task)
        except CallBackMissing as error:
            return error

    return waiting, decide(task, asyncio.run(verdict()), HIGH, execution.policy, CATALOGUE, NOW + 1)


def test_a_wait_holds_the_steps_next_attempt_behind_the_call_backs_gate_until_its_timeout() -> None:
    waiting, _ = released(StepPolicy(2), 0, None)
    sequel = waiting.continuation
    assert sequel is not None
    assert (sequel.topic, sequel.due_at) == (CATALOGUE.steps("webhook-high"), NOW + 60_000_000)
    assert (sequel.task.step, sequel.task.attempt, sequel.task.gate) == (0, 2, "call_back|1|order-7")
    until = "2027-01-15T08:01:00+00:00"
    assert orjson.loads(waiting.result or "") == {"call_back": "order-7", "until": until, "then": "step_completed"}


def test_the_next_step_finds_the_call_back_as_the_result_of_the_step_that_waited() -> None:
    _, decision = released(StepPolicy(3), 1, '{"paid":true}')
    assert (decision.kind, decision.result) == ("step_completed", '{"paid":true}')
    sequel = decision.continuation
    assert sequel is not None
    assert (sequel.task.step, sequel.task.attempt, sequel.task.gate) == (2, 1, None)
    assert sequel.task.results == ['{"paid":true}']
    assert sequel.task.options == {}


@pytest.mark.parametrize("policy", [StepPolicy(), StepPolicy(2)])
def test_the_last_step_completes_with_the_call_backs_payload(policy: StepPolicy) -> None:
    _, decision = released(policy, policy.step_count - 1, '{"paid":true}')
    assert decision == Decision("completed", '{"paid":true}')


@pytest.mark.parametrize("result", [{}, {"sum": 3}, {"x": object()}, {"x": "y" * MAX_STEP_RESULT_BYTES}])
def test_the_short_way_of_completed_tasks_agrees_with_the_decision(result: dict[str, Any]) -> None:
    """The tier's agent asks for the text alone where nothing else is to be decided."""
    decision = decide(task_ready("e"), Completed(result), HIGH, StepPolicy(), CATALOGUE, NOW)
    text = result_json(result)
    assert (text if isinstance(text, Decision) else Decision("completed", result=text)) == decision


def test_silence_ends_timed_out_and_says_what_was_waited_for() -> None:
    _, decision = released(StepPolicy(2), 0, None)
    assert (decision.kind, decision.error_code, decision.continuation) == ("timed_out", "no_call_back", None)
    assert "order-7" in (decision.error or "")


def test_a_call_backs_payload_is_a_steps_result_and_no_larger() -> None:
    _, decision = released(StepPolicy(2), 0, orjson.dumps({"x": "y" * MAX_STEP_RESULT_BYTES}).decode())
    assert (decision.kind, decision.error_code) == ("failed_permanently", "result_too_large")


@pytest.mark.parametrize("asked", ["60", "soon", float("nan"), float("inf"), object()])
def test_a_wait_that_is_no_number_ends_no_worker(asked: Any) -> None:
    code: Any = 503
    decision = decide(
        task_ready("e"), Retryable("busy", code=code, retry_after_s=asked), HIGH, StepPolicy(), CATALOGUE, NOW
    )
    assert (decision.kind, decision.error_code) == ("retry", "503")
    sequel = decision.continuation
    assert sequel is not None
    assert sequel.due_at is not None
    assert (sequel.due_at - NOW > 10_000_000) == (asked == "60")


def test_a_reason_that_is_no_text_ends_no_worker() -> None:
    reason: Any = ValueError("too many pages")
    for redactor in (NOTHING_SECRET, Redactor(["secret-key"])):
        decision = decide(task_ready("e"), redactor.verdict(Rejected(reason)), HIGH, StepPolicy(), CATALOGUE, NOW)
        assert (decision.kind, decision.error) == ("rejected", "too many pages")
