"""How a tier is judged, and what routing adds to a picture of it (R17)."""

from collections import Counter
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.health import (
    ABANDONED_S,
    STALE_S,
    UNATTENDED_S,
    UNHEALTHY_FAULTS,
    WARNING_FAULTS,
    HealthSnapshot,
    Measured,
    OwnDispatches,
    Status,
    TierHealth,
    judge,
)
from topics.routing import DEFAULT_RULES, RouteRequest, route
from topics.tiers import HIGH, TIERS, Tier

URGENT = RouteRequest("order_created", 9, 0)
URGENT_TIERS = DEFAULT_RULES[1].tiers

measured = st.builds(
    Measured,
    waiting=st.integers(0, 400),
    overdue=st.integers(0, 400),
    oldest_s=st.floats(0, 1000),
    workers=st.integers(0, 5),
    faults=st.floats(0, 1),
    paused=st.booleans(),
)
tiers = st.sampled_from(list(TIERS.values()))


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (Measured(), "healthy"),
        (Measured(waiting=9 * HIGH.unhealthy_load, workers=1), "healthy"),
        (Measured(waiting=400, overdue=HIGH.warning_load - 1, workers=1), "healthy"),
        (Measured(waiting=400, overdue=HIGH.warning_load, workers=1), "warning"),
        (Measured(waiting=400, overdue=HIGH.unhealthy_load, workers=1), "unhealthy"),
        (Measured(workers=1, faults=WARNING_FAULTS), "warning"),
        (Measured(workers=1, faults=UNHEALTHY_FAULTS), "unhealthy"),
        (Measured(waiting=1, overdue=1, oldest_s=STALE_S, workers=1), "unhealthy"),
        (Measured(waiting=1, overdue=0, oldest_s=STALE_S, workers=1), "healthy"),
        (Measured(waiting=1, oldest_s=ABANDONED_S - 1), "healthy"),
        (Measured(waiting=1, oldest_s=ABANDONED_S), "unhealthy"),
        (Measured(waiting=1, oldest_s=UNATTENDED_S - 1), "unhealthy"),
        (Measured(waiting=1, oldest_s=UNATTENDED_S), "error"),
        (Measured(waiting=1, oldest_s=UNATTENDED_S, paused=True), "healthy"),
        (Measured(waiting=5000, overdue=5000, oldest_s=9 * STALE_S, workers=1, paused=True), "warning"),
    ],
)
def test_status(found: Measured, status: str) -> None:
    assert judge(found, HIGH).status == status


@given(measured, tiers)
def test_a_tier_without_work_and_without_workers_is_healthy(found: Measured, tier: Tier) -> None:
    """R17: autoscaling starts from zero."""
    idle = replace(found, waiting=0, overdue=0, workers=0, faults=0.0)
    assert judge(idle, tier) == TierHealth("healthy", 0)


@given(measured, tiers)
def test_a_paused_tier_is_never_passed_over(found: Measured, tier: Tier) -> None:
    assert judge(replace(found, paused=True), tier).is_usable


@given(measured, tiers, st.integers(0, 400))
def test_more_that_waits_is_never_better(found: Measured, tier: Tier, more: int) -> None:
    order = get_args(Status)
    worse = replace(found, waiting=found.waiting + more, overdue=found.overdue + more)
    assert order.index(judge(found, tier).status) <= order.index(judge(worse, tier).status)
    assert judge(worse, tier).load == worse.waiting


loads = st.fixed_dictionaries({tier: st.integers(0, 30) for tier in URGENT_TIERS})


@given(loads, st.integers(1, 60))
def test_own_dispatches_level_the_loads(found: dict[str, int], count: int) -> None:
    """R17: without them all would go to the least loaded tier of an old snapshot."""
    snapshot = HealthSnapshot({tier: TierHealth(load=load) for tier, load in found.items()})
    dispatches, sent = OwnDispatches(), Counter[str]()
    for turn in range(count):
        chosen = route(URGENT, DEFAULT_RULES, dispatches.on_top_of(snapshot), turn).tier
        dispatches.sent(chosen)
        sent[chosen] += 1
    after = {tier: found[tier] + sent[tier] for tier in URGENT_TIERS}
    taken = [after[tier] for tier in sent]
    assert max(taken) - min(after.values()) <= 1


@given(loads, loads, st.integers(0, 20))
def test_a_new_snapshot_has_counted_what_was_sent_before(
    first: dict[str, int], second: dict[str, int], count: int
) -> None:
    dispatches = OwnDispatches()
    dispatches.on_top_of(HealthSnapshot({tier: TierHealth(load=load) for tier, load in first.items()}))
    for _ in range(count):
        dispatches.sent("webhook-high")
    later = HealthSnapshot({tier: TierHealth(load=load) for tier, load in second.items()})
    assert dispatches.on_top_of(later) == later


def test_where_nothing_is_measured_nothing_is_added() -> None:
    dispatches, nothing = OwnDispatches(), HealthSnapshot()
    dispatches.on_top_of(nothing)
    dispatches.sent("webhook-high")
    assert dispatches.on_top_of(nothing) is nothing


def test_a_tier_that_was_not_measured_is_counted_too() -> None:
    dispatches = OwnDispatches()
    snapshot = HealthSnapshot({"webhook-redis": TierHealth("unhealthy", 7)})
    dispatches.on_top_of(snapshot)
    dispatches.sent("webhook-high")
    found = dispatches.on_top_of(snapshot)
    assert (found.of("webhook-high"), found.of("webhook-redis")) == (
        TierHealth(load=1),
        TierHealth("unhealthy", 7),
    )
