"""Every event that has not ended has exactly one reason to wait, whatever the tables hold."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, text

from projections.migrate import upgrade
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from projections.waiting import (
    EVERYTHING,
    REASONS,
    Selection,
    WaitingEvent,
    ahead_in_tier,
    count_waiting,
    waiting_event,
    waiting_events,
)
from schemas.kinds import KINDS
from streams.database import create_database_engine
from topics.gates import call_back_gate, host_gate, rate_gate, tenant_gate, version_gate

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(hours=1)
VERSION_GATE = version_gate("shop", "1.0.0")
GATES = (None, tenant_gate("7"), host_gate("7", "a.test"), rate_gate("7", "a.test"), call_back_gate("7", "k"))
WAIT_KINDS = ("delay", "retry", "reconcile", "strict", "wait", "cancelled")
NOT_IN_TABLES = {"key_busy", "paused"}


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as opened:
        yield opened


def event_row(event_id: str, kind: str, **values: Any) -> dict[str, Any]:
    numbers = {"kind_rank": KINDS[kind].rank, "run": 1, "step": 0, "attempt": 1, "dispatch_seq": 1}
    known = {"event_id": event_id, "tenant_id": "7", "tier": "high", "status": "pending", "kind": kind}
    times = {"accepted_at": START, "updated_at": START, "finished_at": START if KINDS[kind].final else None}
    return {**numbers, **known, **times, **values}


def wait_row(event_id: str, seq: int = 1, **values: Any) -> dict[str, Any]:
    known = {"schedule_id": f"{event_id}|{seq}", "version": 1, "tenant_id": "7", "event_id": event_id, "run": 1}
    numbers = {"step": 0, "attempt": 1, "dispatch_seq": seq, "created_at": START, "due_at": LATER}
    return {**known, **numbers, **values}


def event(connection: Connection, event_id: str, kind: str, **values: Any) -> None:
    connection.execute(insert(WEBHOOK_EVENTS).values(event_row(event_id, kind, **values)))


def wait(connection: Connection, event_id: str, seq: int = 1, **values: Any) -> None:
    connection.execute(insert(WEBHOOK_SCHEDULE).values(wait_row(event_id, seq, **values)))


def only(connection: Connection, event_id: str = "a") -> WaitingEvent:
    found = waiting_event(connection, event_id)
    assert found is not None
    return found


def everyone(connection: Connection, which: Selection = EVERYTHING, limit: int = 500) -> list[WaitingEvent]:
    """All pages."""
    found: list[WaitingEvent] = []
    while page := waiting_events(connection, which, limit):
        found += page
        which = Selection(tenant_id=which.tenant_id, after=(page[-1].accepted_at, page[-1].event_id))
    return found


def test_every_state_has_exactly_one_reason(connection: Connection) -> None:
    gates = (*GATES, VERSION_GATE, "unheard|of")
    places = (("dispatched_at", None), ("dispatched_at", START), ("closed_at", START), ("run", 2))
    states = product(KINDS, gates, WAIT_KINDS, (None, "high|k"), places)
    events, waits = [event_row(f"none-{kind}", kind) for kind in KINDS], []
    for place, (kind, gate, wait_kind, lane, (name, value)) in enumerate(states):
        events.append(event_row(str(place), kind, next_attempt=2 if kind == "retry" else None))
        # Every second has two, of which the later counts.
        for seq in range(1 + place % 2):
            held = gate or lane
            waits.append(wait_row(str(place), seq, kind=wait_kind, gate=gate, lane=lane, held_by=held))
            waits[-1] |= {"dispatched_at": None, "closed_at": None, name: value}
    connection.execute(insert(WEBHOOK_EVENTS), events)
    connection.execute(insert(WEBHOOK_SCHEDULE), waits)
    expected = {row["event_id"] for row in events if not KINDS[row["kind"]].final}
    found = everyone(connection)
    assert len(found) == len(expected)
    assert {each.event_id for each in found} == expected
    assert {each.reason for each in found} == set(REASONS) - NOT_IN_TABLES
    assert sum(each.events for each in count_waiting(connection)) == len(expected)
    for each in found[:: len(found) // 20]:
        assert waiting_event(connection, each.event_id) == each


@pytest.mark.parametrize(
    ("kind", "values", "reason", "holder"),
    [
        ("deferred", {"kind": "deferral", "gate": GATES[1], "held_by": GATES[1]}, "tenant_share", GATES[1]),
        ("deferred", {"kind": "deferral", "gate": GATES[2], "held_by": GATES[2]}, "circuit", GATES[2]),
        ("deferred", {"kind": "deferral", "gate": GATES[3], "held_by": GATES[3]}, "rate", GATES[3]),
        ("deferred", {"kind": "deferral", "gate": VERSION_GATE}, "no_worker_for_version", VERSION_GATE),
        ("waiting", {"kind": "wait", "gate": GATES[4]}, "call_back", GATES[4]),
        ("retry", {"kind": "retry"}, "retry_at", "high"),
        ("failed", {"kind": "failed"}, "retry_at", "high"),
        ("unclear", {"kind": "reconcile"}, "retry_at", "high"),
        ("accepted", {"kind": "delay"}, "due_at", "high"),
        ("accepted", {"kind": "delay", "dispatched_at": START}, "nth_in_tier", "high"),
        ("accepted", {"kind": "delay", "run": 2}, "nth_in_tier", "high"),
        ("waiting", {"kind": "wait", "gate": GATES[4], "dispatched_at": START}, "nth_in_tier", "high"),
    ],
)
def test_reason(connection: Connection, kind: str, values: dict[str, Any], reason: str, holder: str) -> None:
    event(connection, "a", kind)
    wait(connection, "a", 1, **values)
    found = only(connection)
    assert (found.reason, found.holder, found.since) == (reason, holder, START)
    assert found.until == (LATER if reason in ("due_at", "retry_at", "call_back") else None)


def test_what_runs_names_its_worker(connection: Connection) -> None:
    event(connection, "a", "started", started_at=LATER)
    wait(connection, "a", kind="retry")
    row = {"event_id": "a", "accepted_at": START, "run": 1, "step": 0, "attempt": 1, "tenant_id": "7"}
    told = {"kind": "started", "kind_rank": 3, "worker": "host:7", "recorded_at": START}
    connection.execute(insert(WEBHOOK_ATTEMPTS).values(**row, **told))
    found = only(connection)
    assert (found.reason, found.holder, found.since, found.until) == ("running", "host:7", LATER, None)


def test_a_strict_lane_is_held_by_the_event_that_has_it(connection: Connection) -> None:
    # R12: of a later run first, then in order of acceptance.
    for event_id, run, place in (("a", 1, 5), ("b", 1, 9), ("c", 2, 20)):
        event(connection, event_id, "accepted", run=run)
        held_by = None if event_id == "c" else "lane"
        wait(connection, event_id, kind="strict", lane="lane", held_by=held_by, run=run, log_offset=place)
    assert [(each.reason, each.holder) for each in everyone(connection)] == [
        ("strict_lane", "c"),
        ("strict_lane", "c"),
        ("due_at", "high"),
    ]


@pytest.mark.parametrize(
    ("kind", "values", "reason", "until"),
    [
        ("retry", {"next_attempt": 2, "next_due_at": LATER}, "retry_at", LATER),
        ("unclear", {"next_attempt": 2, "next_due_at": LATER}, "retry_at", LATER),
        ("failed", {"next_attempt": 1, "next_due_at": LATER}, "retry_at", LATER),
        ("waiting", {"next_step": 1, "next_due_at": LATER}, "call_back", LATER),
        ("accepted", {"delay_s": 60}, "due_at", None),
        ("accepted", {"delay_s": 0}, "nth_in_tier", None),
    ],
)
def test_a_wait_that_is_not_projected_yet_is_told_by_the_event(
    connection: Connection, kind: str, values: dict[str, Any], reason: str, until: datetime | None
) -> None:
    event(connection, "a", kind, **values)
    assert (only(connection).reason, only(connection).until) == (reason, until)


def test_in_the_tier_since_it_left_the_schedule(connection: Connection) -> None:
    event(connection, "a", "accepted")
    wait(connection, "a", kind="delay", dispatched_at=LATER)
    assert only(connection).since == LATER


def test_those_ahead_are_counted_without_those_that_run(connection: Connection) -> None:
    for number, tier in enumerate(("high", "high", "low", "high", "high")):
        event(connection, f"e{number}", "accepted", tier=tier, accepted_at=START + timedelta(seconds=number))
    wait(connection, "e1", kind="delay")
    last = only(connection, "e4")
    assert ahead_in_tier(connection, last) == 2
    assert ahead_in_tier(connection, last, ["e0", "e4"]) == 1


def test_a_tenant_sees_its_own(connection: Connection) -> None:
    event(connection, "a", "accepted")
    event(connection, "b", "accepted", tenant_id="8")
    assert [each.event_id for each in everyone(connection, Selection(tenant_id="8"))] == ["b"]
    assert waiting_event(connection, "a", tenant_id="8") is None
    assert [each.events for each in count_waiting(connection, tenant_id="8")] == [1]


def test_a_choice_of_tiers_and_reasons(connection: Connection) -> None:
    for event_id, tier in (("a", "high"), ("b", "low"), ("c", "low")):
        event(connection, event_id, "accepted", tier=tier)
    wait(connection, "c", kind="delay")
    assert [each.event_id for each in waiting_events(connection, Selection(tiers=["low"]))] == ["b", "c"]
    assert [each.event_id for each in waiting_events(connection, Selection(reasons=["due_at"]))] == ["c"]
    chosen = Selection(reasons=["due_at"], or_ids=["a"])
    assert [each.event_id for each in waiting_events(connection, chosen)] == ["a", "c"]


def test_a_page_reads_only_what_has_not_ended(tmp_path: Path) -> None:
    # Of SQLite only: what PostgreSQL plans depends on how much there is.
    engine = create_database_engine(f"sqlite:///{tmp_path / 'plans.db'}")
    upgrade(engine, ["projections"])
    with engine.connect() as connection:
        for condition, index in (("", "open"), ("tenant_id = '7' AND", "tenant_open")):
            page = f"WHERE {condition} (accepted_at, event_id) > ('2026', 'e') ORDER BY accepted_at, event_id LIMIT 9"
            plan = connection.execute(text(f"EXPLAIN QUERY PLAN SELECT * FROM v_waiting {page}")).all()
            assert f"ix_webhook_events_{index} " in plan[0][3]
    engine.dispose()


@pytest.mark.parametrize("limit", [0, 1001])
def test_limit(connection: Connection, limit: int) -> None:
    with pytest.raises(ValueError, match="limit"):
        waiting_events(connection, limit=limit)
