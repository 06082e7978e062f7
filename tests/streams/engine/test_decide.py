"""What becomes of an attempt: kinds, tries, waits and sequels."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.results import Completed, Rejected
from schemas.errors import Permanent, Retryable, Unknown
from schemas.kinds import KINDS
from streams.engine.decide import Decision, StepPolicy, Target, continuation_of, decide
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
        target = Target(sequel.topic, sequel.task.step, sequel.task.attempt, sequel.due_at, decision.result)
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
    ],
)
def test_what_never_retries(verdict: object, kind: str, code: str) -> None:
    decision = decide(task_ready("e"), verdict, HIGH, StepPolicy(), CATALOGUE, NOW)
    assert decision == Decision(kind, None, decision.error, code, None)
    assert decision.error
