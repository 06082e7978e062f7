"""Which tiers a waiting record may be moved to, and how many should (R16)."""

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.balance import GAP, SLICES, Shift, partners, shifts, slice_of, targets
from topics.health import HealthSnapshot, Status, TierHealth
from topics.routing import (
    DEFAULT_ROUTING,
    DEFAULT_RULES,
    HIGH_EVENT_TYPES,
    LOW_EVENT_TYPES,
    RouteRequest,
    route,
    rules_from,
)
from topics.tiers import TIERS

EVENT_TYPES = ("order_created", *HIGH_EVENT_TYPES, *LOW_EVENT_TYPES)
NAMES = tuple(TIERS)


@st.composite
def snapshots(draw: st.DrawFn) -> HealthSnapshot:
    """Tiers of any status and load."""
    statuses = st.sampled_from(get_args(Status))
    return HealthSnapshot({tier: TierHealth(draw(statuses), draw(st.integers(0, 9))) for tier in NAMES})


@given(st.sampled_from(EVENT_TYPES), st.integers(1, 10), st.integers(0, 2000), snapshots())
def test_an_event_is_only_moved_to_a_tier_of_the_rule_that_chose_its_own(
    event_type: str, priority: int, delay_s: int, health: HealthSnapshot
) -> None:
    """R16, for whatever delay it had."""
    chosen = route(RouteRequest(event_type, priority, delay_s), DEFAULT_RULES, health)
    tiers = next(rule.tiers for rule in DEFAULT_RULES if rule.name == chosen.rule)
    possible = targets(event_type, priority, chosen.tier)
    assert possible <= set(tiers) - {chosen.tier}


@pytest.mark.parametrize(
    ("event_type", "priority", "tier", "expected"),
    [
        ("order_created", 9, "webhook-high", {"webhook-beanstalk", "webhook-redis"}),
        ("order_created", 5, "webhook-beanstalk", {"webhook-redis", "webhook-db"}),
        # Without a delay its rule was high_priority, which has no db.
        ("order_created", 9, "webhook-beanstalk", {"webhook-redis"}),
        ("order_created", 9, "webhook-db", {"webhook-beanstalk", "webhook-redis"}),
        # With a long delay it was low_priority, without one default: they have nothing else in common.
        ("order_created", 5, "webhook-db", set()),
        ("cleanup", 5, "webhook-db", {"webhook-low"}),
        ("cleanup", 5, "webhook-low", {"webhook-db"}),
        ("order_created", 5, "webhook-high", set()),
        ("order_created", 5, "webhook-failed", set()),
    ],
)
def test_targets(event_type: str, priority: int, tier: str, expected: set[str]) -> None:
    assert targets(event_type, priority, tier) == expected


def test_other_rules_have_other_targets() -> None:
    routing = {**DEFAULT_ROUTING, "low_priority": {"drivers": ["webhook-low"], "conditions": {"priority": ["<", 3]}}}
    assert targets("order_created", 1, "webhook-low", rules_from(routing)) == set()


@given(st.binary())
def test_every_key_has_one_slice(key: bytes) -> None:
    assert slice_of(key) in range(SLICES)
    assert slice_of(key) == slice_of(bytes(key))


def test_slices_are_of_one_size() -> None:
    counts = [0] * SLICES
    for number in range(64_000):
        counts[slice_of(f"1|Order|{number}".encode())] += 1
    assert min(counts) > 800
    assert max(counts) < 1200


loads = st.fixed_dictionaries({tier: st.integers(0, 50_000) for tier in NAMES})


@given(loads, st.sets(st.sampled_from(NAMES)), st.none() | st.integers(1, 1000))
def test_shifts_level_the_loads_and_stay_within_the_rules(
    found: dict[str, int], takers: set[str], most: int | None
) -> None:
    after, given_by = dict(found), Counter[str]()
    for shift in shifts(found, takers, most):
        assert shift.records > 0
        assert shift.target in takers & partners(shift.source)
        assert found[shift.source] - found[shift.target] > GAP
        after[shift.source] -= shift.records
        after[shift.target] += shift.records
        given_by[shift.source] += shift.records
    assert sum(after.values()) == sum(found.values())
    assert all(load >= 0 for load in after.values())
    assert max(after.values()) <= max(found.values())
    # Who gives does not end with less than who takes had: no to and fro.
    for shift in shifts(found, takers, most):
        assert after[shift.source] >= found[shift.target]
    assert most is None or all(count <= most for count in given_by.values())


def test_the_failed_tier_neither_gives_nor_takes() -> None:
    full = dict.fromkeys(NAMES, 0) | {"webhook-failed": 9000}
    assert shifts(full, NAMES) == []
    assert partners("webhook-failed") == frozenset()
    assert all("webhook-failed" not in partners(tier) for tier in NAMES)


def test_one_tier_is_levelled_with_its_partners() -> None:
    full = dict.fromkeys(NAMES, 0) | {"webhook-beanstalk": 50_000, "webhook-redis": 10_000}
    assert shifts(full, NAMES) == [
        Shift("webhook-beanstalk", "webhook-db", 15_000),
        Shift("webhook-beanstalk", "webhook-high", 15_000),
        Shift("webhook-beanstalk", "webhook-redis", 5000),
    ]
    assert shifts(full, ["webhook-low"]) == []
    assert shifts(full, ["webhook-db"], most=10) == [Shift("webhook-beanstalk", "webhook-db", 10)]
    small = dict.fromkeys(NAMES, 0) | {"webhook-redis": GAP}
    assert shifts(small, NAMES) == []


def test_named_sources_give_however_loaded_they_are() -> None:
    full = dict.fromkeys(NAMES, 0) | {"webhook-beanstalk": 50_000, "webhook-low": 1000}
    assert shifts(full, ["webhook-db"], sources=["webhook-low"]) == [Shift("webhook-low", "webhook-db", 500)]
