"""Replays: what they select and write, once for each event, through kills, pauses and two who do the same."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine

from schemas.codec import decode_as
from schemas.events import TaskEvent, TaskReady, TaskScheduled, to_datetime
from streams.agents.executions import idempotency_key
from streams.replay.jobs import NoSuchReplay, Replay, Replays
from streams.replay.running import carry_out
from streams.replay.selection import Selection
from tests.streams.replay.history import CATALOGUE, event, failed, open_waits, outbox, project, publish, said


@pytest.fixture
def replays(engine: Engine) -> Replays:
    return Replays(engine, CATALOGUE)


def completed(engine: Engine, *event_ids: str, **values: Any) -> None:
    for number, event_id in enumerate(event_ids, 1):
        at = number * 1_000
        project(engine, [said("accepted", event_id, at), said("completed", event_id, at, **values)])


def tasks(engine: Engine) -> list[TaskReady]:
    return [decode_as(TaskReady, each.task) for each in outbox(engine) if isinstance(each, TaskScheduled)]


def run(replays: Replays, job: Replay, **values: Any) -> Replay:
    return carry_out(replays, job.id, threading.Event(), lambda _: None, **{"most_under_way": 10_000, **values})


def test_a_replay_is_a_new_run_of_the_event_and_its_history_keeps_both(replays: Replays, engine: Engine) -> None:
    completed(engine, "e1", result='{"ok":1}')
    ended = run(replays, replays.create(Selection(tenant_id="7"), by="me", rate=1000, reason="new prices"))
    assert (ended.state, ended.selected, ended.replayed, ended.skipped) == ("done", 1, 1, {})
    [task] = tasks(engine)
    assert (task.run, task.step, task.attempt, task.payload, task.trigger) == (2, 0, 1, '{"id":5}', "model")
    first = TaskReady(**{name: getattr(task, name) for name in TaskReady.__dataclass_fields__} | {"run": 1})
    assert idempotency_key(task, "H") != idempotency_key(first, "H")
    records = publish(engine)
    assert isinstance(records[0], TaskEvent)
    assert (records[0].kind, records[0].caused_by, records[0].requested_by) == ("replayed", ended.id, "me")
    row = event(engine, "e1")
    assert (row.run, row.status, row.result, row.trigger) == (2, "pending", None, "model")
    assert [wait.schedule_id for wait in open_waits(engine)] == ["e1|2|0|1|1"]
    project(engine, [said("rejected", "e1", run=2, error="no")])
    assert (event(engine, "e1").status, open_waits(engine)) == ("failed_permanently", [])


def test_killed_after_any_piece_it_goes_on_and_replays_each_event_once(replays: Replays, engine: Engine) -> None:
    ids = [f"e{number}" for number in range(10)]
    completed(engine, *ids)
    job = replays.create(Selection(tenant_id="7"), by="me", rate=1000)
    for _ in range(3):
        # Whoever does a piece may be killed after it; another one finds only the row.
        Replays(engine, CATALOGUE).advance(job.id, 2)
        publish(engine)
    ended = run(replays, job)
    assert (ended.state, ended.replayed) == ("done", 10)
    publish(engine)
    assert sorted(wait.schedule_id for wait in open_waits(engine)) == sorted(f"{each}|2|0|1|1" for each in ids)
    assert run(replays, job).replayed == 10


def test_two_who_carry_out_the_same_replay_take_turns(replays: Replays, engine: Engine) -> None:
    completed(engine, *(f"e{number}" for number in range(20)))
    job = replays.create(Selection(tenant_id="7"), by="me", rate=100_000)
    with ThreadPoolExecutor(2) as both:
        done = list(both.map(lambda _: [replays.advance(job.id, 1) for _ in range(15)], range(2)))
    assert len(done) == 2
    assert replays.find(job.id).replayed == 20
    assert len({each.event_id for each in tasks(engine)}) == len(tasks(engine)) == 20


def test_what_ends_after_the_count_is_not_taken(replays: Replays, engine: Engine) -> None:
    completed(engine, "e1")
    project(engine, [said("accepted", "e2", 2_000)])
    job = replays.create(Selection(tenant_id="7"), by="me", rate=1000)
    later = 4_000_000_000_000_000
    project(engine, [said("completed", "e2", 2_000, finished_at=later)])
    assert run(replays, job).replayed == 1
    assert [each.event_id for each in tasks(engine)] == ["e1"]


def test_paused_it_does_nothing_and_resumed_the_rest(replays: Replays, engine: Engine) -> None:
    completed(engine, "e1", "e2")
    job = replays.create(Selection(tenant_id="7"), by="me", rate=1000)
    replays.advance(job.id, 1)
    replays.change(job.id, "paused")
    assert run(replays, job).replayed == 1
    replays.change(job.id, "running")
    assert run(replays, job).state == "done"
    with pytest.raises(NoSuchReplay, match="it is done"):
        replays.change(job.id, "cancelled")
    with pytest.raises(NoSuchReplay, match="no replay none"):
        replays.find("none")


def test_cancelled_it_ends(replays: Replays, engine: Engine) -> None:
    completed(engine, "e1")
    job = replays.create(Selection(tenant_id="7"), by="me", rate=1000)
    replays.change(job.id, "cancelled")
    assert (run(replays, job).state, outbox(engine)) == ("cancelled", [])


def test_it_waits_while_much_of_it_is_under_way(replays: Replays, engine: Engine) -> None:
    completed(engine, "e1", "e2", "e3")
    job = replays.create(Selection(tenant_id="7"), by="me", rate=1000)
    stop, seen = threading.Event(), []

    def look(now: Replay) -> None:
        seen.append((now.replayed, replays.under_way()))
        if len(seen) == 4:
            stop.set()

    carry_out(replays, job.id, stop, look, most_under_way=2)
    assert seen == [(2, 2)] * 4
    publish(engine)
    assert replays.under_way() == 2
    project(engine, [said("completed", each, at, run=2) for each, at in (("e1", 1_000), ("e2", 2_000))])
    assert run(replays, job, most_under_way=2).replayed == 3


def test_from_a_step_on_it_takes_over_the_results_before_and_their_version(replays: Replays, engine: Engine) -> None:
    on: dict[str, Any] = {"plugin_version": "dwd 2.0", "pipeline_hash": "abc"}
    project(engine, [said("accepted", "e1", **on), said("step_completed", "e1", result='{"a":1}', **on)])
    project(engine, [said("completed", "e1", step=1, result='{"b":2}', **on)])
    for number, from_step in enumerate((1, 1, 2), 2):
        job = replays.create(Selection(event_ids=("e1",)), by="me", rate=1000, from_step=from_step)
        assert run(replays, job).replayed == 1
        task = tasks(engine)[0]
        assert (task.run, task.step, task.results) == (number, from_step, ['{"a":1}', '{"b":2}'][:from_step])
        assert (task.plugin_version, task.pipeline_hash) == ("dwd 2.0", "abc")
        publish(engine)
        project(engine, [said("completed", "e1", run=number, step=from_step, result='{"b":2}', **on)])
    job = replays.create(Selection(event_ids=("e1",)), by="me", rate=1000, from_step=5)
    assert run(replays, job).skipped == {"no_results": 1}


def test_what_has_lost_its_payload_is_left_out(replays: Replays, engine: Engine) -> None:
    project(engine, [said("completed", "e1")])
    ended = run(replays, replays.create(Selection(tenant_id="7"), by="me", rate=1000))
    assert (ended.state, ended.replayed, ended.skipped) == ("done", 0, {"no_payload": 1})


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        (Selection(status="failed_permanently"), ["e4"]),
        (Selection(error="ANSWER"), ["e4"]),
        (Selection(tier="webhook-failed"), ["e4"]),
        (Selection(model="Order", model_id="5"), ["e1", "e2", "e4"]),
        (Selection(model="Order", model_id="6"), []),
        (Selection(endpoint="webhook/order", since=to_datetime(2_000), until=to_datetime(9_000)), ["e2"]),
        (Selection(event_ids=("e2", "e3")), ["e2"]),
    ],
)
def test_filters_choose_what_has_ended(
    replays: Replays, engine: Engine, selection: Selection, found: list[str]
) -> None:
    completed(engine, "e1", "e2")
    project(engine, [said("accepted", "e3", 3_000)])
    failed(engine, "e4", accepted_at=9_000)
    assert Selection.decode(selection.encode()) == selection
    run(replays, replays.create(selection, by="me", rate=100_000))
    assert [each.event_id for each in tasks(engine)] == found


def test_a_strict_event_enters_its_lane_again(replays: Replays, engine: Engine) -> None:
    project(engine, [said("accepted", "e1", routing_rule="high:strict"), said("completed", "e1")])
    run(replays, replays.create(Selection(tenant_id="7"), by="me", rate=1000))
    [wait] = [each for each in outbox(engine) if isinstance(each, TaskScheduled)]
    assert (wait.kind, wait.lane) == ("strict", "7|Order|5")
