"""The checker sees each kind of fault, seeded one at a time into a run in which everything is right."""

from dataclasses import fields, replace

import pytest

from schemas.events import TaskId
from tests.faults.checker import (
    Evidence,
    Execution,
    Outcome,
    Requested,
    Verdict,
    check,
    effects,
    lateness,
    quantile,
    standstill,
)
from tests.faults.reasons import unexplained
from tests.streams.waiting.test_reasons import row as reason_row

EVENTS = 40
KEYS = 4
PARTITIONS = 2
WORKER, OTHER = 100, 200


def _task(number: int, attempt: int = 1) -> TaskId:
    return TaskId(f"event-{number:03}", 1, 0, attempt)


def _execution(number: int, pid: int = WORKER) -> Execution:
    return Execution(_task(number), f"key-{number % KEYS}", number, pid, number / 10, number / 10 + 0.05, f"e{number}")


def _right() -> Evidence:
    """One event each tenth of a second, over four keys and two partitions, every one executed once."""
    numbers = range(EVENTS)
    return Evidence(
        [Requested(f"event-{number:03}", f"key-{number % KEYS}", number, number / 10 - 0.01) for number in numbers],
        [_execution(number) for number in numbers],
        [Outcome(_task(number), True, number / 10 + 0.06, number % PARTITIONS) for number in numbers],
        {f"event-{number:03}": 1 for number in numbers},
    )


def _wrong(verdict: Verdict) -> dict[str, int]:
    """Size of each finding that is not empty."""
    return {each.name: len(getattr(verdict, each.name)) for each in fields(Verdict) if getattr(verdict, each.name)}


def test_a_run_that_kept_every_promise_has_no_findings() -> None:
    assert _wrong(check(_right())) == {}


def test_one_event_that_waits_without_a_reason_or_with_two() -> None:
    rows = [reason_row("nth_in_tier", event_id=event_id) for event_id in ("a", "b", "c")]
    assert unexplained(["a", "b", "c"], rows) == set()
    assert unexplained(["a", "b", "c", "d"], rows) == {"d"}
    assert unexplained(["a", "b"], rows) == {"c"}
    assert unexplained(["a", "b", "c"], [*rows, rows[1]]) == {"b"}
    unheard = replace(rows[0], reason="bored")  # type: ignore[arg-type]
    assert unexplained(["a", "b", "c"], [unheard, *rows[1:]]) == {"a"}
    assert _wrong(check(replace(_right(), unexplained=frozenset("a")))) == {"unexplained": 1}


def test_one_event_without_an_execution_or_without_an_outcome() -> None:
    right = _right()
    executions = [each for each in right.executions if each.task != _task(17)]
    assert _wrong(check(replace(right, executions=executions))) == {"lost": 1}
    outcomes = [each for each in right.outcomes if each.task != _task(17)]
    assert _wrong(check(replace(right, outcomes=outcomes))) == {"lost": 1}


@pytest.mark.parametrize("rows", [0, 2])
def test_one_event_not_exactly_once_in_the_history(rows: int) -> None:
    right = _right()
    assert check(replace(right, histories={**right.histories, "event-017": rows})).lost == {"event-017"}


def test_an_event_that_only_got_so_far_is_lost() -> None:
    right = _right()
    outcomes = [replace(each, is_final=each.task != _task(17)) for each in right.outcomes]
    assert check(replace(right, outcomes=outcomes)).lost == {"event-017"}


def test_an_event_nobody_asked_for() -> None:
    right = _right()
    assert check(replace(right, requested=right.requested[:-1])).invented == {f"event-{EVENTS - 1:03}"}


def test_one_event_doubled_after_its_outcome() -> None:
    right = _right()
    again = replace(_execution(17, OTHER), began=3.0, ended=3.05)
    found = check(replace(right, executions=[*right.executions, again]))
    assert _wrong(found) == {"repeated": 1, "repeated_after_outcome": 1, "repeated_without_reason": 1}
    assert found.repeated == {_task(17)}


def test_one_event_doubled_because_its_worker_was_killed_in_the_middle() -> None:
    right = _right()
    first, again = replace(_execution(17), ended=None), replace(_execution(17, OTHER), began=1.9, ended=1.95)
    executions = [each for each in right.executions if each.task != _task(17)]
    outcomes = [replace(each, recorded=1.96) if each.task == _task(17) else each for each in right.outcomes]
    killed = replace(
        right,
        executions=[*executions, first, again],
        outcomes=outcomes,
        ends={WORKER: 1.75},
        disturbed={WORKER: 1.75},
    )
    assert _wrong(check(killed)) == {"repeated": 1}
    for disturbed in ({}, {WORKER: 1.91}):
        found = check(replace(killed, disturbed=disturbed))
        assert _wrong(found) == {"repeated": 1, "repeated_without_reason": 1}, disturbed


def test_one_event_executed_twice_at_the_same_time() -> None:
    right = _right()
    again = replace(_execution(17, OTHER), began=1.72, ended=1.75)
    found = check(replace(right, executions=[*right.executions, again], disturbed={WORKER: 1.7}))
    assert _wrong(found) == {"repeated": 1, "overlaps": 1}


def test_two_events_of_one_key_swapped() -> None:
    right = _right()
    times = {_task(17): 2.1, _task(21): 1.7}
    executions = [
        replace(each, began=times[each.task], ended=times[each.task] + 0.05) if each.task in times else each
        for each in right.executions
    ]
    found = check(replace(right, executions=executions))
    assert found.inversions == {"event-017"}
    assert found.early == {"event-021"}


def test_two_events_of_one_key_at_the_same_time() -> None:
    right = _right()
    executions = [replace(each, ended=2.12) if each.task == _task(17) else each for each in right.executions]
    assert _wrong(check(replace(right, executions=executions))) == {"key_overlaps": 1}


def test_one_event_started_before_it_was_due() -> None:
    right = _right()
    requested = [replace(each, due=9.0) if each.event_id == "event-017" else each for each in right.requested]
    assert _wrong(check(replace(right, requested=requested))) == {"early": 1}


def test_lateness_is_measured_from_the_due_time() -> None:
    found = lateness(_right())
    assert len(found) == EVENTS
    assert quantile(found, 0.99) == pytest.approx(0.01)
    assert quantile([], 0.99) == 0.0


def test_executions_without_an_effect_do_not_count() -> None:
    right = _right()
    executions = [replace(each, effect="") if each.task == _task(17) else each for each in right.executions]
    found = effects([*executions, _execution(5)])
    assert (found["e17"], found["e5"], len(found)) == (0, 2, EVENTS - 1)


def test_the_longest_standstill_of_the_group_and_of_a_partition() -> None:
    right = _right()
    late = [replace(each, began=each.began + 1.0) if each.began > 2.0 else each for each in right.executions]
    found = standstill(replace(right, executions=late), 1.0, 4.9)
    assert found.group_s == pytest.approx(1.1)
    assert found.partition_s == pytest.approx(1.2)
    assert standstill(right, 1.0, 3.9).group_s == pytest.approx(0.1)
    assert standstill(right, 1.0, 9.0).group_s == pytest.approx(5.1)
