"""Exactly one reason for every event: for every combination of what tables, workers and control topic say."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from projections.waiting import REASONS, Reason, WaitingEvent
from schemas.events import from_datetime, now_micros
from streams.control.log import control_state
from streams.control.signals import Heartbeat
from streams.control.view import ALL, BREAKER, PAUSE, RATE, ControlView
from streams.waiting.reasons import Live, explain
from tests.streams.control.test_signals import BEAT
from topics.gates import version_gate

TIER = "webhook-high"
START = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE, AFTER = START - timedelta(seconds=9), START + timedelta(seconds=9)
KEY = "7|Order|12"
GATES = {
    "tenant_share": "tenant|7",
    "rate": "rate|7|a.test",
    "circuit": "host|7|a.test",
    "call_back": "call_back|7|paid",
    "no_worker_for_version": version_gate("shop", "1.0.0"),
}
NOT_IN_TABLES = ("key_busy", "paused")
IN_TABLES = [reason for reason in REASONS if reason not in NOT_IN_TABLES]


def row(reason: Reason, **values: Any) -> WaitingEvent:
    known: dict[str, Any] = dict.fromkeys(WaitingEvent.__dataclass_fields__)
    known |= {"event_id": "e1", "tenant_id": "7", "accepted_at": START, "tier": TIER, "run": 1, "step": 0, "attempt": 1}
    known |= {"model": "Order", "model_id": "12", "reason": reason, "holder": GATES.get(reason, TIER), "since": START}
    return WaitingEvent(**{**known, **values})


def beat(event_id: str, since: datetime, tier: str = TIER, key: str = KEY) -> Heartbeat:
    return replace(BEAT, tier=tier, oldest=[(event_id, from_datetime(since), key)])


def control(*states: tuple[str, str, Any]) -> ControlView:
    view = ControlView()
    for name, subject, value in states:
        view.apply(control_state(name, subject, value, "me@here", "stock-taking"))
    return view


PAUSED = (PAUSE, TIER, {"paused": True, "until": None})
CONTROLS: tuple[Callable[[], ControlView], ...] = (
    control,
    lambda: control(PAUSED),
    lambda: control((PAUSE, ALL, {"paused": True, "until": now_micros() + 10**9})),
    lambda: control((PAUSE, "webhook-low", {"paused": True, "until": None})),
)
BEATS: tuple[tuple[Heartbeat, ...], ...] = (
    (),
    (beat("e1", BEFORE),),
    (beat("e1", AFTER),),
    (beat("other", BEFORE),),
    (beat("other", AFTER), replace(beat("e1", AFTER), worker="host:8")),
    (beat("other", BEFORE, tier="webhook-low"),),
    (beat("other", BEFORE, key="7|Order|13"),),
)


def test_every_state_has_one_reason_of_the_list_and_all_reasons_occur() -> None:
    found = set()
    for reason, make, beats in product(IN_TABLES, CONTROLS, BEATS):
        tables = row(reason)
        for live in (None, Live(make(), beats)):
            told = explain(tables, live)
            found.add(told.reason)
            assert told.reason in REASONS
            assert told.holder is not None
            assert told.since >= BEFORE
            assert told.detail
            # What the tables know they know: only a start after it, and what is in a tier for them, is known better.
            if reason not in ("nth_in_tier", "running") and told.reason != reason:
                assert (told.reason, told.since) == ("running", AFTER)
            if live is None:
                assert told.reason == reason
    assert found == set(REASONS)


def test_what_runs_is_told_by_its_worker() -> None:
    told = explain(row("nth_in_tier"), Live(control(PAUSED), [beat("e1", BEFORE)]), place=3)
    assert (told.reason, told.holder, told.since, told.place) == ("running", "host:7", BEFORE, None)


def test_a_start_before_the_wait_began_is_over() -> None:
    # The heartbeat is older than the outcome that led to the wait.
    assert explain(row("retry_at"), Live(control(), [beat("e1", BEFORE)])).reason == "retry_at"
    assert explain(row("retry_at", until=AFTER), Live(control(), [beat("e1", AFTER)])).until is None


def test_a_busy_key_is_held_by_the_event_that_runs() -> None:
    told = explain(row("nth_in_tier"), Live(control(), [beat("other", AFTER)]))
    assert (told.reason, told.holder, told.since) == ("key_busy", "other", AFTER)
    assert "other" in told.detail
    # One lane for each tier and key; an event without a model has a key of its own.
    for tables in (
        row("nth_in_tier", tier="webhook-low"),
        row("nth_in_tier", model=None),
        row("nth_in_tier", tier=None),
    ):
        assert explain(tables, Live(control(), [beat("other", AFTER)])).reason == "nth_in_tier"


def test_a_pause_says_who_why_and_until_when() -> None:
    until = now_micros() + 60_000_000
    told = explain(row("nth_in_tier"), Live(control((PAUSE, ALL, {"paused": True, "until": until})), []))
    assert (told.reason, told.holder, told.since > START) == ("paused", TIER, True)
    assert told.until is not None
    assert from_datetime(told.until) == until
    assert told.detail == "every tier is paused by me@here: stock-taking"


def test_an_open_circuit_says_until_when() -> None:
    until = now_micros() + 60_000_000
    breaker = {"state": "open", "open_until": until, "failures": 10, "since": 1}
    told = explain(row("circuit"), Live(control((BREAKER, "7|a.test", breaker)), []))
    assert told.until is not None
    assert from_datetime(told.until) == until
    assert told.detail == "the circuit to a.test is open after 10 failures in a row"
    closed = explain(row("circuit"), Live(control(), []))
    assert (closed.until, closed.detail) == (None, "the circuit to a.test is closed again: its turn comes")


@pytest.mark.parametrize(
    ("reason", "live", "place", "words"),
    [
        ("nth_in_tier", Live(control(), [beat("x", START, key="k")]), 4, "number 4 of those that wait for their turn"),
        ("nth_in_tier", Live(control(), []), None, "no worker of webhook-high has been heard of for 10 s"),
        ("nth_in_tier", None, None, "neither workers nor the control topic could be asked"),
        ("running", Live(control(), []), None, "its worker has not been heard of for 10 s"),
        (
            "rate",
            Live(control((RATE, "7|a.test", {"limit": 5, "per_s": 2, "burst": 3})), []),
            None,
            "5 every 2 s, 3 at",
        ),
        ("call_back", None, None, "no call-back with the key paid has come"),
        ("no_worker_for_version", None, None, "no worker carries on what began with shop 1.0.0"),
        ("strict_lane", None, None, "event webhook-high is before it in its strict lane"),
    ],
)
def test_the_words(reason: Reason, live: Live | None, place: int | None, words: str) -> None:
    assert words in explain(row(reason), live, place).detail


@pytest.mark.parametrize(
    ("version", "words"),
    [("1.0.0#ab12", "its pipeline has other handlers"), ("1.0.0#plugin", "has another plugin now")],
)
def test_a_version_that_no_worker_can_bring_says_why(version: str, words: str) -> None:
    tables = row("no_worker_for_version", holder=version_gate("shop", version))
    assert words in explain(tables, None).detail
