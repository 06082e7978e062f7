"""Routing: the table of examples, and properties that hold for every request and every state of health."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.health import HealthSnapshot, TierHealth
from topics.routing import (
    DEFAULT_ROUTING,
    DEFAULT_RULES,
    Condition,
    Route,
    RouteRequest,
    Rule,
    priority_of,
    route,
    rules_from,
)
from topics.tiers import TIERS

HEALTHY = HealthSnapshot({})
ALL_RULES = rules_from(DEFAULT_ROUTING, match="all")

# (what, event type, priority, delay in seconds, attempts, rule under smart, rule under all)
EXAMPLES = [
    ("order created, total 1500", "order_created", 8, 0, 0, "high_priority", "default"),
    ("order cancelled", "order_updated", 9, 0, 0, "high_priority", "default"),
    ("order status change", "order_updated", 5, 0, 0, "default", "default"),
    ("order deleted", "order_deleted", 7, 0, 0, "default", "default"),
    ("quotation created", "quotation_created", 5, 60, 0, "default", "default"),
    ("bulk export", "bulk_export", 7, 0, 0, "default", "default"),
    ("custom sync, no options", "custom_sync", 5, 0, 0, "default", "default"),
    ("pipeline", "pipeline_processing", 8, 0, 0, "high_priority", "default"),
    ("order pipeline", "order_pipeline_processing", 8, 0, 0, "high_priority", "default"),
    ("payment, no options", "payment_completed", 8, 0, 0, "high_priority", "high_priority"),
    ("listed name without the priority", "payment_completed", 5, 0, 0, "high_priority", "default"),
    ("data sync, no options", "data_sync", 3, 0, 0, "low_priority", "default"),
    ("cleanup", "cleanup", 2, 600, 0, "low_priority", "low_priority"),
    ("fourth attempt", "order_created", 8, 0, 4, "failed_retry", "failed_retry"),
    ("third attempt", "order_created", 8, 0, 3, "high_priority", "default"),
    ("urgent but late", "order_created", 9, 120, 0, "default", "default"),
    ("delay at the urgent bound", "order_created", 8, 60, 0, "default", "default"),
    ("delay below the urgent bound", "order_created", 8, 59, 0, "high_priority", "default"),
    ("long delay", "order_created", 5, 301, 0, "low_priority", "default"),
    ("delay at the bulk bound", "order_created", 5, 300, 0, "default", "default"),
    ("least urgent", "order_created", 2, 0, 0, "low_priority", "default"),
    ("urgent and very late stays out of bulk", "order_created", 9, 3600, 0, "default", "default"),
    ("urgent name, very late", "payment_completed", 2, 3600, 0, "default", "default"),
    ("urgent priority on a bulk name", "data_sync", 8, 90, 0, "default", "default"),
]

requests = st.builds(
    RouteRequest,
    event_type=st.sampled_from(["order_created", "payment_completed", "data_sync", "cleanup", "anything"]),
    priority=st.integers(1, 10),
    delay_s=st.integers(0, 1000),
    attempts=st.integers(0, 6),
)
states = st.builds(
    TierHealth, status=st.sampled_from(["healthy", "warning", "unhealthy", "error"]), load=st.integers(0, 4)
)
snapshots = st.dictionaries(st.sampled_from(list(TIERS)), states).map(HealthSnapshot)


@pytest.mark.parametrize(("what", "event_type", "priority", "delay_s", "attempts", "smart", "every"), EXAMPLES)
def test_table_of_examples(
    what: str, event_type: str, priority: int, delay_s: int, attempts: int, smart: str, every: str
) -> None:
    request = RouteRequest(event_type, priority, delay_s, attempts)
    assert route(request, DEFAULT_RULES, HEALTHY).rule == smart, what
    assert route(request, ALL_RULES, HEALTHY).rule == every, what


def test_tiers_of_the_rules() -> None:
    assert {rule.name: rule.tiers for rule in DEFAULT_RULES} == {
        "failed_retry": ("webhook-failed",),
        "high_priority": ("webhook-high", "webhook-beanstalk", "webhook-redis"),
        "low_priority": ("webhook-low", "webhook-db"),
        "default": ("webhook-beanstalk", "webhook-redis", "webhook-db"),
    }


@given(requests, snapshots, st.integers(0, 1000))
def test_a_route_is_explained_by_rule_health_and_load(request: RouteRequest, health: HealthSnapshot, turn: int) -> None:
    rule = next(rule for rule in DEFAULT_RULES if rule.matches(request))
    chosen = route(request, DEFAULT_RULES, health, turn)
    assert chosen.rule == rule.name
    usable = [tier for tier in rule.tiers if health.of(tier).status in ("healthy", "warning")]
    if not usable:
        assert chosen == Route(rule.tiers[0], rule.name, failover_from=None, degraded=True)
        return
    assert not chosen.degraded
    assert chosen.tier in usable
    assert all(health.of(chosen.tier).load <= health.of(tier).load for tier in usable)
    if chosen.failover_from is not None:
        assert chosen.failover_from not in usable
        assert rule.tiers.index(chosen.failover_from) < rule.tiers.index(chosen.tier)


@given(requests, snapshots)
def test_tiers_of_equal_load_take_turns(request: RouteRequest, health: HealthSnapshot) -> None:
    level = HealthSnapshot({tier: replace(health.of(tier), load=7) for tier in TIERS})
    rule = next(rule for rule in DEFAULT_RULES if rule.matches(request))
    usable = [tier for tier in rule.tiers if level.of(tier).is_usable] or [rule.tiers[0]]
    taken = [route(request, DEFAULT_RULES, level, turn).tier for turn in range(2 * len(usable))]
    assert taken == usable * 2


def test_failover_names_the_tier_passed_over() -> None:
    health = HealthSnapshot({"webhook-high": TierHealth("unhealthy", 500), "webhook-redis": TierHealth("error")})
    chosen = route(RouteRequest("order_created", 9, 0), DEFAULT_RULES, health)
    assert chosen == Route("webhook-beanstalk", "high_priority", failover_from="webhook-high")


def test_an_unhealthy_tier_behind_the_chosen_one_is_no_failover() -> None:
    health = HealthSnapshot({"webhook-redis": TierHealth("unhealthy", 500)})
    chosen = route(RouteRequest("order_created", 9, 0), DEFAULT_RULES, health)
    assert chosen == Route("webhook-high", "high_priority", failover_from=None)


def test_rules_without_a_last_resort_are_refused_when_none_matches() -> None:
    with pytest.raises(ValueError, match="no routing rule takes"):
        route(RouteRequest("order_created", 5, 0), DEFAULT_RULES[:1], HEALTHY)


@pytest.mark.parametrize(
    ("operator", "operand", "holds"),
    [
        (">", 4, True),
        (">", 5, False),
        (">=", 5, True),
        (">=", 6, False),
        ("<", 6, True),
        ("<", 5, False),
        ("<=", 5, True),
        ("<=", 4, False),
        ("=", 5, True),
        ("=", 4, False),
        ("!=", 4, True),
        ("!=", 5, False),
        ("between", [5, 7], True),
        ("between", [3, 5], True),
        ("between", [6, 7], False),
        ("in", [1, 5], True),
        ("in", [1, 4], False),
    ],
)
def test_operators(operator: str, operand: Any, holds: bool) -> None:
    assert Condition("priority", operator, operand).holds(RouteRequest("order_created", 5, 0)) is holds


@pytest.mark.parametrize(
    ("key", "conditions", "expected"),
    [
        ("high_priority", {"priority": ["~", 8]}, "webhook_routing.high_priority.conditions.priority: .*operator '~'"),
        ("high_priority", {"priority": [">=", "8"]}, "high_priority.conditions.priority: .*takes one int"),
        ("default", {"priority": ["between", [3]]}, "default.conditions.priority: .*takes a pair of int"),
        ("low_priority", {"delay": 300}, r"low_priority.conditions.delay: must be \[operator, value\]"),
        ("low_priority", {"event_types": "cleanup"}, "low_priority.conditions.event_types: .*takes a list of str"),
        ("low_priority", {"colour": ["=", 1]}, "low_priority.conditions.colour: unknown"),
    ],
)
def test_a_broken_condition_is_named_by_its_path(key: str, conditions: Any, expected: str) -> None:
    broken = {**DEFAULT_ROUTING, key: {**DEFAULT_ROUTING[key], "conditions": conditions}}
    with pytest.raises(ValueError, match=expected):
        rules_from(broken)


def test_broken_drivers_rules_and_match_are_named() -> None:
    with pytest.raises(ValueError, match=r"webhook_routing\.default\.drivers"):
        rules_from({**DEFAULT_ROUTING, "default": {"drivers": ["webhook-fax"], "conditions": {}}})
    with pytest.raises(ValueError, match="needs exactly the rules"):
        rules_from({"default": DEFAULT_ROUTING["default"]})
    with pytest.raises(ValueError, match=r"webhook_routing\.match"):
        rules_from(DEFAULT_ROUTING, match="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown tier 'webhook-fax'"):
        Rule("mine", ("webhook-fax",))


def test_the_configuration_with_the_conditions_of_default_is_accepted() -> None:
    conditions = {
        "priority": ["between", [3, 7]],
        "delay": ["<=", 300],
        "event_types": ["order_created", "order_updated", "quotation_created"],
    }
    routing = {**DEFAULT_ROUTING, "default": {**DEFAULT_ROUTING["default"], "conditions": conditions}}
    assert rules_from(routing) == DEFAULT_RULES


def test_priority_precedence() -> None:
    given_all: dict[str, Any] = {"option": 2, "model_method": 3, "settings_entry": 4, "model_event": "created"}
    assert priority_of("order_cancelled", **given_all) == 2
    del given_all["option"]
    assert priority_of("order_cancelled", **given_all) == 9
    assert priority_of("order_created", **given_all) == 3
    del given_all["model_method"]
    assert priority_of("order_created", **given_all) == 4
    del given_all["settings_entry"]
    assert priority_of("order_created", **given_all) == 6


@pytest.mark.parametrize(
    ("model_event", "expected"), [("created", 6), ("updated", 5), ("deleted", 7), ("restored", 5), (None, 5)]
)
def test_priority_of_a_model_event(model_event: str | None, expected: int) -> None:
    assert priority_of("order_x", model_event=model_event) == expected


@pytest.mark.parametrize(("said", "expected"), [(-3, 1), (0, 1), (1, 1), (10, 10), (11, 10), (1000, 10)])
def test_priority_of_the_models_method_is_brought_into_bounds(said: int, expected: int) -> None:
    assert priority_of("order_created", model_method=said) == expected


@pytest.mark.parametrize("value", [0, 11, -1, True, "9", 5.0])
@pytest.mark.parametrize(("name", "shown"), [("option", "option"), ("settings_entry", "webhook_settings")])
def test_priority_outside_its_bounds_is_refused_by_name(name: str, shown: str, value: Any) -> None:
    with pytest.raises(ValueError, match=shown):
        priority_of("order_created", **{name: value})
