"""What `.control` says, read from memory."""

from typing import Any

import orjson
import pytest

from schemas.events import ControlState, now_micros
from streams.control.view import Breaker, ControlView, Rate, Weight
from topics.keys import join_parts, split_parts


def _state(name: str, subject: str, value: Any) -> ControlState:
    return ControlState(name=name, subject=subject, value=orjson.dumps(value).decode(), updated_at=now_micros())


def test_a_tier_is_paused_by_its_own_pause_or_by_that_of_all() -> None:
    view = ControlView()
    assert not view.paused("webhook-high")
    view.apply(_state("pause", "webhook-high", {"paused": True}))
    assert view.paused("webhook-high")
    assert not view.paused("webhook-low")
    view.apply(_state("pause", "all", {"paused": True}))
    view.apply(_state("pause", "webhook-high", {"paused": False}))
    assert view.paused("webhook-high")
    assert view.paused("webhook-low")
    view.apply(_state("pause", "all", {"paused": False}))
    assert not view.paused("webhook-high")


@pytest.mark.parametrize(("ends_in_s", "holds"), [(-1, False), (60, True)])
def test_a_pause_ends_at_its_time(ends_in_s: int, holds: bool) -> None:
    view = ControlView()
    view.apply(_state("pause", "all", {"paused": True, "until": now_micros() + ends_in_s * 1_000_000}))
    assert view.paused("webhook-high") == holds


def test_the_restart_epoch_is_the_highest_that_concerns_a_tier() -> None:
    view = ControlView()
    assert view.restart_epoch("webhook-high") == 0
    view.apply(_state("restart", "all", 7))
    view.apply(_state("restart", "webhook-high", 5))
    assert (view.restart_epoch("webhook-high"), view.restart_epoch("webhook-low")) == (7, 7)


def test_limits_are_found_by_tenant_and_host() -> None:
    view = ControlView()
    subject = join_parts("a|b", "api.example")
    view.apply(_state("rate", subject, {"limit": 10, "per_s": 2, "burst": 5}))
    view.apply(_state("breaker", subject, {"state": "open", "open_until": 9, "failures": 3, "since": 1}))
    view.apply(_state("weight", join_parts("a|b"), {"weight": 3}))
    assert view.rate("a|b", "api.example") == Rate(10, 2, 5)
    assert view.breaker("a|b", "api.example") == Breaker("open", 9, 3, 1)
    assert view.weight("a|b") == Weight(3, None)
    assert view.rate("a", "b|api.example") is None
    assert view.breaker("a", "b") == Breaker()
    assert view.weight("other") == Weight()
    assert split_parts(subject) == ["a|b", "api.example"]


def test_a_cleared_state_holds_no_longer() -> None:
    view = ControlView()
    view.apply(_state("rate", "a|b", {"limit": 1}))
    view.apply(_state("rate", "a|b", None))
    assert view.rate("a", "b") is None
    assert view.states() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate", {"limit": 0}),
        ("rate", {"speed": 4}),
        ("breaker", {"state": "ajar"}),
        ("pause", 3),
        ("weight", {"weight": -1}),
        ("restart", "soon"),
    ],
)
def test_what_is_not_understood_changes_nothing(name: str, value: Any) -> None:
    view = ControlView()
    view.apply(_state(name, "a|b", value))
    view.apply(ControlState(name=name, subject="a|b", value="{", updated_at=1))
    assert view.states() == []
    assert view.value(name, "a|b") is None


def test_subscribers_learn_of_every_change() -> None:
    view = ControlView()
    seen: list[tuple[str, str, Any]] = []
    view.subscribe(lambda *change: seen.append(change))
    view.apply(_state("restart", "all", 3))
    view.apply(_state("tenant", "7", {"version": 2}))
    assert seen == [("restart", "all", 3), ("tenant", "7", {"version": 2})]
