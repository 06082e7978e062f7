"""The tiers' health by way of `.control`: what is said, what is believed, and for how long."""

from dataclasses import replace

import orjson
import pytest

from schemas.events import now_micros
from streams.control.log import control_state
from streams.control.view import ALL, ControlView
from streams.health.monitor import differ
from streams.health.snapshots import FRESH_S, HEALTH, ControlHealth, health_state, told_states
from streams.health.states import TierState, TierStates, decoded
from topics.health import HealthSnapshot, TierHealth
from topics.tiers import TIERS

ILL = TierState(status="unhealthy", load=900, lag=890, due=10, overdue=800, oldest_s=90.5, workers=1, running=3)
WELL = TierState(status="healthy", delayed=4)


def _states(age_s: float = 0.0, **tiers: TierState) -> TierStates:
    found = {name: tiers.get(name.removeprefix("webhook-"), WELL) for name in TIERS}
    return TierStates(now_micros() - int(age_s * 1_000_000), found)


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_published_is_what_routing_reads() -> None:
    view = ControlView()
    health = ControlHealth(view)
    assert health.snapshot() == HealthSnapshot()
    view.apply(health_state(_states(redis=ILL), "host:1"))
    assert health.snapshot().of("webhook-redis") == TierHealth("unhealthy", 900)
    assert health.snapshot().of("webhook-high") == TierHealth("healthy", 0)
    assert told_states(view) == decoded(orjson.loads(orjson.dumps(_said(view))))


def _said(view: ControlView) -> object:
    return view.value(HEALTH, ALL)


def test_the_same_snapshot_is_the_same_object_until_a_newer_one_comes() -> None:
    """R17: by that the routing knows which of its own dispatches have been counted."""
    view = ControlView()
    health = ControlHealth(view)
    view.apply(health_state(_states(), "host:1"))
    first = health.snapshot()
    assert health.snapshot() is first
    view.apply(health_state(_states(), "host:1"))
    assert health.snapshot() is not first


def test_what_nobody_repeats_is_believed_no_longer() -> None:
    view, clock = ControlView(), _Clock()
    health = ControlHealth(view, clock)
    view.apply(health_state(_states(age_s=5 * FRESH_S, high=ILL), "a host whose clock is wrong"))
    assert not health.snapshot().of("webhook-high").is_usable
    clock.now += FRESH_S + 1
    assert health.snapshot() == HealthSnapshot()


@pytest.mark.parametrize(("age_s", "believed"), [(1.0, True), (FRESH_S + 1, False)])
def test_what_was_there_before_is_judged_by_its_time(age_s: float, believed: bool) -> None:
    view = ControlView()
    view.apply(health_state(_states(age_s=age_s, high=ILL), "host:1"))
    assert ControlHealth(view).snapshot().of("webhook-high").is_usable is not believed
    assert (told_states(view) is not None) is believed


@pytest.mark.parametrize("value", [7, {"tiers": {}}, {"measured_at": 1, "tiers": {"webhook-high": {"status": "fine"}}}])
def test_what_is_not_understood_counts_as_nothing_measured(value: object) -> None:
    view = ControlView()
    health = ControlHealth(view)
    view.apply(health_state(_states(high=ILL), "host:1"))
    view.apply(control_state(HEALTH, ALL, value, "another version"))
    assert health.snapshot() == HealthSnapshot()
    assert told_states(view) is None


def test_a_newer_version_may_tell_more() -> None:
    told = _states(high=ILL).encoded()
    told["tiers"]["webhook-high"]["mood"] = "low"
    assert decoded(told).tiers["webhook-high"] == ILL


def test_a_tier_at_rest_is_not_published_again_and_again() -> None:
    before = _states(high=ILL)
    older = replace(ILL, oldest_s=95.0, attempts_per_s=3.0)
    assert not differ(before, _states(high=older))
    assert differ(before, _states(high=replace(ILL, load=901)))
    assert differ(before, _states(high=replace(ILL, status="error")))


@pytest.mark.parametrize(("load", "rate", "clears_in_s"), [(0, 0.0, 0.0), (900, 0.0, None), (900, 90.0, 10.0)])
def test_the_time_to_clear(load: int, rate: float, clears_in_s: float | None) -> None:
    assert replace(ILL, load=load, attempts_per_s=rate).clears_in_s == clears_in_s
