"""The fold: its meaning, and that order and repetition make no difference."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.fold import fold
from projections.records import Dispatched, Fact, Scheduled
from schemas.events import TaskEvent, TaskScheduled
from tests.projections.stories import life, shuffled

ACCEPTED = TaskEvent(
    kind="accepted",
    event_id="e1",
    run=1,
    step=0,
    attempt=1,
    dispatch_seq=1,
    tenant_id="7",
    accepted_at=1_000,
    recorded_at=1_100,
    tier="webhook-db",
    endpoint="webhook/order",
    trigger="model",
    priority=6,
    payload="{}",
)
KEY = (1_000, "e1")


def outcome(kind: str, **values: object) -> TaskEvent:
    """An outcome of the accepted event's first attempt, unless told otherwise."""
    base = replace(ACCEPTED, kind=kind, recorded_at=2_000, trigger="", priority=None, payload=None)
    return replace(base, **{"started_at": 1_500, "finished_at": 1_900, **values})  # type: ignore[arg-type]


def wait(attempt: int, **values: object) -> Scheduled:
    """A retry of the accepted event."""
    event = TaskScheduled(
        schedule_id=f"e1|1|0|{attempt}|1",
        kind="retry",
        event_id="e1",
        run=1,
        step=0,
        attempt=attempt,
        dispatch_seq=1,
        tenant_id="7",
        endpoint="webhook/order",
        tier="webhook-db",
        target_topic="t",
        due_at=9_000,
        accepted_at=1_000,
        created_at=2_100,
        task=b"task",
    )
    return Scheduled(replace(event, **values), b"key")  # type: ignore[arg-type]


@settings(max_examples=200)
@given(st.integers(0, 2**32))
def test_order_and_repetition_make_no_difference(seed: int) -> None:
    random = Random(seed)
    facts = life(random) + life(random)
    assert fold(shuffled(facts, random)) == fold(facts)


def test_an_outcome_keeps_the_facts_of_acceptance() -> None:
    row = fold([ACCEPTED, outcome("completed", result='{"id":1}', handler="H")]).events[KEY]
    assert (row.status, row.priority, row.payload, row.trigger) == ("completed", 6, "{}", "model")
    assert (row.handler, row.result, row.started_at, row.finished_at) == ("H", '{"id":1}', 1_500, 1_900)


def test_a_retry_is_pending_and_says_what_comes_next() -> None:
    row = fold([ACCEPTED, outcome("retry", error="busy", next_attempt=2, next_due_at=5_000)]).events[KEY]
    assert (row.status, row.kind, row.error, row.next_attempt, row.next_due_at) == (
        "pending",
        "retry",
        "busy",
        2,
        5_000,
    )
    assert row.finished_at is None


def test_used_up_tries_are_failed_until_the_failed_tier_gives_up() -> None:
    failed = outcome("failed", attempt=3)
    assert fold([ACCEPTED, failed]).events[KEY].status == "failed"
    assert fold([ACCEPTED, outcome("failed_permanently", attempt=8), failed]).events[KEY].status == "failed_permanently"


def test_attempts_have_one_row_for_each_identity() -> None:
    facts = [ACCEPTED, outcome("started", finished_at=None), outcome("retry"), outcome("completed", attempt=2)]
    rows = fold(facts).attempts
    assert [(key[4], row.kind, row.duration_ms) for key, row in rows.items()] == [
        (1, "retry", 0.4),
        (2, "completed", 0.4),
    ]


def test_step_results_are_those_of_the_latest_run() -> None:
    first: list[Fact] = [outcome("step_completed", result="1"), outcome("completed", step=1, result="2")]
    assert fold([ACCEPTED, *first]).events[KEY].results == "[1,2]"
    again = replace(ACCEPTED, run=2, dispatch_seq=2, recorded_at=3_000)
    assert fold([ACCEPTED, *first, again]).events[KEY].results is None
    assert fold([ACCEPTED, outcome("completed", result="1")]).events[KEY].results is None


def test_a_replay_keeps_the_first_payload_and_starts_anew() -> None:
    again = replace(ACCEPTED, run=2, dispatch_seq=2, recorded_at=3_000, payload='{"other":1}', requested_by="operator")
    row = fold([again, outcome("completed"), ACCEPTED]).events[KEY]
    assert (row.status, row.run, row.payload, row.requested_by, row.started_at) == ("pending", 2, "{}", None, None)


def test_a_change_that_matched_nothing_is_recorded_too() -> None:
    matched = replace(ACCEPTED, kind="matched", event_id="c1", model_id="3")
    rows = fold([replace(matched, result='{"events":[],"model":"Order","model_event":"updated"}')])
    assert rows.events == {}
    change = rows.changes[1_000, "c1"]
    assert (change.events, change.model, change.model_event) == ("[]", "Order", "updated")


def test_a_wait_is_closed_by_its_own_outcome_and_by_none_before_it() -> None:
    assert fold([ACCEPTED, outcome("retry"), wait(2)]).schedule["e1|1|0|2|1"].closed_at is None
    done = outcome("completed", attempt=2, recorded_at=9_500)
    assert fold([done, wait(2), ACCEPTED]).schedule["e1|1|0|2|1"].closed_at == 9_500


def test_a_retry_by_hand_after_the_end_stays_open() -> None:
    ended = outcome("failed_permanently", attempt=8)
    assert fold([ACCEPTED, ended, wait(9)]).schedule["e1|1|0|9|1"].closed_at is None


def test_the_highest_version_of_a_wait_holds_and_a_mark_may_come_first() -> None:
    facts: list[Fact] = [Dispatched("e1|1|0|2|1", 9_100), wait(2, version=2, due_at=4_000), wait(2)]
    row = fold(facts).schedule["e1|1|0|2|1"]
    assert (row.version, row.due_at, row.dispatched_at, row.record_key) == (2, 4_000, 9_100, b"key")


def test_what_is_cancelled_stays_open_until_its_end_is_recorded() -> None:
    cancelled = wait(2, version=2, kind="cancelled", gate="tenant|7")
    row = fold([cancelled, ACCEPTED, wait(2, gate="tenant|7")]).schedule["e1|1|0|2|1"]
    assert (row.kind, row.held_by, row.closed_at) == ("cancelled", None, None)
    ended = outcome("cancelled", attempt=2, recorded_at=5_000)
    assert fold([ended, cancelled, ACCEPTED]).schedule["e1|1|0|2|1"].closed_at == 5_000


def test_a_gate_holds_until_the_task_is_dispatched_anew() -> None:
    gated = wait(1, gate="tenant|7", schedule_id="e1|1|0|1|2", dispatch_seq=2)
    deferred = outcome("deferred", dispatch_seq=2)
    row = fold([gated, deferred, ACCEPTED]).schedule["e1|1|0|1|2"]
    assert (row.held_by, row.closed_at) == ("tenant|7", None)
    again = outcome("deferred", dispatch_seq=3)
    assert fold([again, gated, deferred, ACCEPTED]).schedule["e1|1|0|1|2"].closed_at == 2_100
    waits_for_a_call = wait(1, gate="call_back|7|paid")
    assert fold([waits_for_a_call]).schedule["e1|1|0|1|1"].held_by is None
