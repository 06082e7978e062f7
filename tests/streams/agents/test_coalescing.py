"""Events alike are accepted as any others and wait for one another, as was decided once (R9)."""

from schemas.codec import decode_as
from schemas.events import TaskEvent, TaskReady, TaskScheduled
from streams.agents.intake import NOTHING_DECIDED, Decided, Intake
from streams.engine.outcomes import Outgoing
from tests.streams.agents.support import AT, CATALOGUE, NOW, ORDERS, change, configuration, record, request

COALESCED = ORDERS | {"coalesce": {"quiet_s": 2, "max_wait_s": 10}}


def test_a_coalesced_event_waits_for_others_alike_in_one_order_for_all_of_them() -> None:
    found = configuration(ORDERS | {"coalesce": {"key": "customer.id", "quiet_s": 2, "max_wait_s": 10}})
    dispatches: list[Outgoing] = []
    for row in ("7", "8"):
        changed = change(change_id=row, model_id=row, payload='{"customer": {"id": 3}}')
        dispatches += Intake(CATALOGUE).plan(record(changed), changed, found, NOTHING_DECIDED, NOW).dispatches
    waits = [decode_as(TaskScheduled, each.value) for each in dispatches]
    assert [each.topic for each in dispatches] == [CATALOGUE.scheduled] * 2
    assert [(each.kind, each.due_at, each.lane) for each in waits] == [("coalesce", NOW + 2_000_000, None)] * 2
    assert {each.gate for each in waits} == {"coalesce|1|orders%7C[3]"}
    # Whatever their keys, the last one is found by its place.
    assert len({each.key for each in dispatches}) == 2
    assert len({each.partition for each in dispatches}) == 1
    assert dispatches[0].partition >= 0
    assert decode_as(TaskReady, waits[0].task).options == {"coalesce_max_wait_s": "10"}
    assert decode_as(TaskReady, waits[0].task).gate is None


def test_a_redelivered_coalesced_event_waits_as_before_though_its_setting_has_changed() -> None:
    plan = Intake(CATALOGUE).plan(record(change()), change(), configuration(COALESCED), NOTHING_DECIDED, NOW)
    accepted = decode_as(TaskEvent, plan.decisions[0].record.value)
    assert accepted.routing_rule == "default:coalesce=2/10"
    decided = Decided({accepted.event_id: (accepted, 41)}, matched=True)
    [again] = Intake(CATALOGUE).plan(record(change()), change(), configuration(ORDERS), decided, NOW).dispatches
    assert again == plan.dispatches[0]


def test_what_lacks_what_it_would_be_alike_in_goes_by_itself() -> None:
    found = configuration(ORDERS | {"coalesce": {"key": ["id", "customer.id"], "quiet_s": 2, "max_wait_s": 10}})
    for each in (change(), request(), request(delay_s=5), request(model="Order", model_id="7", payload='{"id": [1]}')):
        [dispatch] = Intake(CATALOGUE).plan(record(each), each, found, NOTHING_DECIDED, NOW).dispatches
        assert dispatch.partition == -1, each


def test_a_singleton_enters_its_lane_as_was_decided_once() -> None:
    found = configuration(ORDERS | {"singleton": {"mode": "skip", "key": "customer.id"}})
    changed = change(payload='{"customer": {"id": "a:b"}}')
    plan = Intake(CATALOGUE).plan(record(changed), changed, found, NOTHING_DECIDED, NOW)
    [dispatch] = plan.dispatches
    waits = decode_as(TaskScheduled, dispatch.value)
    assert (waits.kind, waits.lane, waits.due_at) == ("singleton_skip", 'singleton|1|orders|["a:b"]', AT)
    assert dispatch.partition >= 0
    accepted = decode_as(TaskEvent, plan.decisions[0].record.value)
    decided = Decided({accepted.event_id: (accepted, 41)}, matched=True)
    [again] = Intake(CATALOGUE).plan(record(changed), changed, configuration(ORDERS), decided, NOW).dispatches
    assert again == dispatch


def test_a_singleton_without_its_key_goes_by_itself() -> None:
    found = configuration(ORDERS | {"singleton": {"mode": "queue", "key": "customer.id"}})
    [dispatch] = Intake(CATALOGUE).plan(record(change()), change(), found, NOTHING_DECIDED, NOW).dispatches
    assert dispatch.topic == CATALOGUE.topic("webhook-beanstalk")
    rows = configuration(ORDERS | {"singleton": "queue"})
    [dispatch] = Intake(CATALOGUE).plan(record(change()), change(), rows, NOTHING_DECIDED, NOW).dispatches
    assert decode_as(TaskScheduled, dispatch.value).lane == "singleton|1|orders|1%7COrder%7C7"
