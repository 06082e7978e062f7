"""Decisions about records: accepted once, routed once, given up with their bytes (R9)."""

from collections import Counter
from types import SimpleNamespace
from uuid import uuid4

import orjson
import pytest

from handlers.contract import PluginManifest
from handlers.registry import PluginRegistry
from schemas.codec import decode_as, encode
from schemas.errors import PipelineError, Undecodable
from schemas.events import DeadLetter, TaskEvent, TaskReady, TaskScheduled, WebhookRequested
from streams.agents.acceptance import lane_of
from streams.agents.intake import NOTHING_DECIDED, Decided, Intake, Plan, UnknownTenant
from streams.agents.matching import Unroutable
from streams.agents.versions import pipeline_hash
from streams.headers import find_header
from tests.streams.agents.support import AT, CATALOGUE, NOW, ORDERS, Record, change, configuration, record, request
from topics.health import HealthSnapshot, TierHealth

SETTINGS = configuration(ORDERS)
PARTITION = 9
"""Where the key of ``request()`` belongs, as Kafka's own default partitioner says."""


def planned(event: object, decided: Decided = NOTHING_DECIDED, **values: object) -> Plan:
    """The plan of an event of a known tenant."""
    return Intake(CATALOGUE).plan(record(event, 5, **values), event, SETTINGS, decided, NOW)  # type: ignore[arg-type]


def test_a_request_is_accepted_in_the_partition_of_its_source_and_then_goes_to_its_tier() -> None:
    plan = planned(request(priority=9, options={"note": "x"}))

    [(decision, _)], [dispatch] = plan.decisions, plan.dispatches
    accepted = decode_as(TaskEvent, decision.value)
    assert (decision.topic, decision.partition) == (CATALOGUE.events, 3)
    assert find_header(decision.headers, "kind") == b"accepted"
    assert find_header(decision.headers, "identity") == b"0199-e|1|0|1"
    assert find_header(decision.headers, "source") == f"{CATALOGUE.requests}|3|5".encode()
    assert (accepted.kind, accepted.tier, accepted.accepted_at) == ("accepted", "webhook-high", AT)
    assert (accepted.payload, accepted.source_offset) == ('{"id": 7}', 5)
    task = decode_as(TaskReady, dispatch.value)
    assert (dispatch.topic, dispatch.partition, dispatch.key) == (CATALOGUE.topic("webhook-high"), -1, b"0199-e")
    assert (task.event_id, task.run, task.step, task.attempt, task.options) == ("0199-e", 1, 0, 1, {"note": "x"})
    assert find_header(dispatch.headers, "repeat_from") is None


def test_an_event_is_accepted_on_the_version_and_the_pipeline_of_its_tenant() -> None:
    steps = [{"handler_class": "Check"}, {"handler_class": "Send"}]
    settings = configuration({**ORDERS, "pipeline": steps})
    intake = Intake(CATALOGUE, plugins=PluginRegistry({"dwd": PluginManifest("dwd", "2.1", {})}))
    for event in (request(), change()):
        plan = intake.plan(record(event), event, settings, NOTHING_DECIDED, NOW)
        accepted, task = decode_as(TaskEvent, plan.decisions[0].record.value), plan.dispatches[0].value
        expected = ("dwd 2.1", pipeline_hash(settings.webhook_settings[0]))
        assert (accepted.plugin_version, accepted.pipeline_hash) == expected
        assert (decode_as(TaskReady, task).plugin_version, decode_as(TaskReady, task).pipeline_hash) == expected


def test_an_event_of_a_plugin_that_intake_lacks_has_no_version() -> None:
    [(decision, _)] = planned(request()).decisions
    assert decode_as(TaskEvent, decision.value).plugin_version is None


def test_a_change_says_what_it_led_to_after_its_events() -> None:
    plan = planned(change())

    accepted, matched = (decode_as(TaskEvent, each.value) for each, _ in plan.decisions)
    assert (accepted.kind, accepted.routing_rule, accepted.caused_by) == ("accepted", "default", "c1")
    assert (matched.kind, matched.event_id) == ("matched", "c1")
    assert orjson.loads(matched.result or "") == {
        "events": [accepted.event_id],
        "model": "Order",
        "model_event": "created",
    }


def test_a_change_that_matches_nothing_says_that_too() -> None:
    plan = planned(change(model="Quotation"))

    [matched] = (decode_as(TaskEvent, each.value) for each, _ in plan.decisions)
    assert (matched.kind, orjson.loads(matched.result or "")["events"]) == ("matched", [])
    assert not plan.dispatches


def test_a_delay_goes_into_the_schedule_and_counts_from_the_cause() -> None:
    [dispatch] = planned(request(delay_s=90)).dispatches

    waiting = decode_as(TaskScheduled, dispatch.value)
    assert dispatch.topic == CATALOGUE.scheduled
    assert (waiting.kind, waiting.due_at, waiting.schedule_id) == ("delay", AT + 90_000_000, "0199-e|1|0|1|1")
    assert waiting.target_topic == CATALOGUE.topic(waiting.tier)
    assert decode_as(TaskReady, waiting.task).event_id == "0199-e"


def test_a_trace_is_carried_through_the_schedule() -> None:
    for value, kept in ((b"00-abc-def-01", "00-abc-def-01"), (b"\xff", None), (b"x" * 300, None)):
        [dispatch] = planned(request(delay_s=90), headers=[("traceparent", value)]).dispatches
        task = decode_as(TaskReady, decode_as(TaskScheduled, dispatch.value).task)
        assert task.options.get("traceparent") == kept


STRICT = ORDERS | {"ordering": "strict", "on_exhausted": "halt"}


def test_a_strict_event_enters_its_lane_at_home_whatever_the_health_of_the_tiers() -> None:
    ill = HealthSnapshot({"webhook-beanstalk": TierHealth(load=500, status="unhealthy")})
    intake = Intake(CATALOGUE, SimpleNamespace(snapshot=lambda: ill))
    plan = intake.plan(record(change()), change(), configuration(STRICT), NOTHING_DECIDED, NOW)
    [dispatch] = plan.dispatches
    waiting = decode_as(TaskScheduled, dispatch.value)
    assert dispatch.topic == CATALOGUE.scheduled
    assert (waiting.kind, waiting.lane, waiting.due_at) == ("strict_halt", "1|Order|7", AT)
    assert (waiting.tier, waiting.reason) == ("webhook-beanstalk", "its turn in its strict lane")
    assert decode_as(TaskReady, waiting.task).options == {"lane": "1|Order|7"}


def test_a_redelivered_strict_event_enters_its_lane_though_its_setting_has_changed() -> None:
    plan = Intake(CATALOGUE).plan(record(change()), change(), configuration(STRICT), NOTHING_DECIDED, NOW)
    accepted = decode_as(TaskEvent, plan.decisions[0].record.value)
    decided = Decided({accepted.event_id: (accepted, 41)}, matched=True)
    [again] = Intake(CATALOGUE).plan(record(change()), change(), configuration(ORDERS), decided, NOW).dispatches
    assert decode_as(TaskScheduled, again.value).lane == "1|Order|7"


@pytest.mark.parametrize(
    ("options", "row", "kind"),
    [
        ({"ordering": "strict"}, {"model": "Order", "model_id": "7"}, "strict"),
        ({"ordering": "strict", "on_exhausted": "halt"}, {"model": "Order", "model_id": "7"}, "strict_halt"),
        ({"ordering": "strict"}, {}, None),
        ({"ordering": "sometimes"}, {}, "dead letter"),
    ],
)
def test_a_request_may_ask_for_strict_order(options: dict[str, str], row: dict[str, str], kind: str | None) -> None:
    asked = request(options=options, **row)
    plan = planned(asked)
    if kind == "dead letter":
        assert plan.decisions[0].record.topic == CATALOGUE.dead_letters
    elif kind is None:
        assert plan.dispatches[0].topic != CATALOGUE.scheduled
    else:
        assert decode_as(TaskScheduled, plan.dispatches[0].value).kind == kind


def test_a_lane_of_a_long_key_is_short_and_its_own() -> None:
    one, other = (lane_of(b"1|Order|" + b"x" * 2000 + end) for end in (b"1", b"2"))
    assert one != other
    assert len(one.encode()) < 600


def test_redelivery_reuses_the_recorded_tier_and_says_from_where_to_look() -> None:
    first = planned(request(priority=9))
    accepted = decode_as(TaskEvent, first.decisions[0].record.value)
    accepted.tier = "webhook-low"  # as if routed by rules that hold no longer

    again = planned(request(priority=9), Decided({accepted.event_id: (accepted, 41)}), partition=PARTITION)

    assert not again.decisions
    [dispatch] = again.dispatches
    assert dispatch.topic == CATALOGUE.topic("webhook-low")
    assert find_header(dispatch.headers, "repeat_from") == f"{PARTITION}|41".encode()


def test_a_source_keyed_otherwise_makes_the_worker_look_through_the_whole_partition_of_the_task() -> None:
    accepted = decode_as(TaskEvent, planned(request()).decisions[0].record.value)
    elsewhere = (PARTITION + 1) % CATALOGUE.specs[CATALOGUE.requests].partitions

    [dispatch] = planned(request(), Decided({accepted.event_id: (accepted, 41)}), partition=elsewhere).dispatches

    assert find_header(dispatch.headers, "repeat_from") == f"{PARTITION}|0".encode()


def test_a_match_cut_short_is_completed_with_the_same_ids() -> None:
    whole = planned(change())
    accepted = decode_as(TaskEvent, whole.decisions[0].record.value)

    again = planned(change(), Decided({accepted.event_id: (accepted, 8)}))

    [matched] = (decode_as(TaskEvent, each.value) for each, _ in again.decisions)
    assert orjson.loads(matched.result or "")["events"] == [accepted.event_id]
    assert len(again.dispatches) == 1


def test_a_recorded_match_holds_though_the_configuration_has_changed() -> None:
    accepted = decode_as(TaskEvent, planned(change()).decisions[0].record.value)
    decided = Decided({accepted.event_id: (accepted, 8)}, matched=True)

    for settings in (configuration(), UnknownTenant("1")):
        plan = Intake(CATALOGUE).plan(record(change(), 5), change(), settings, decided, NOW)
        assert not plan.decisions
        assert [decode_as(TaskReady, each.value).event_id for each in plan.dispatches] == [accepted.event_id]


def test_an_unknown_tenant_and_a_bad_request_are_given_up_with_their_bytes() -> None:
    source = record(request(), 9, headers=[("traceparent", b"00-1"), ("odd", None)])
    unknown = Intake(CATALOGUE).plan(source, request(), UnknownTenant("1"), NOTHING_DECIDED, NOW)
    [letter] = (decode_as(DeadLetter, each.value) for each, _ in unknown.decisions)
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (
        "unknown_tenant",
        CATALOGUE.requests,
        3,
        9,
    )
    assert (letter.value, letter.record_key) == (source.value, b"key")
    assert [(each.name, each.value) for each in letter.headers] == [("traceparent", b"00-1"), ("odd", None)]
    assert "'1'" in letter.error

    [letter] = (decode_as(DeadLetter, each.value) for each, _ in planned(request(priority=99)).decisions)
    assert letter.reason == "unroutable"


def test_an_undecodable_record_is_given_up_as_that() -> None:
    plan = Intake(CATALOGUE).give_up(Record(b"\x00junk", 4), Undecodable("no frame", code="left_over"), NOW)

    [letter] = (decode_as(DeadLetter, each.value) for each, _ in plan.decisions)
    assert (letter.reason, letter.value, letter.group) == ("undecodable", b"\x00junk", "webhook-intake")
    assert plan.decisions[0].record.topic == CATALOGUE.dead_letters


def test_the_trace_is_handed_on() -> None:
    plan = planned(request(), headers=[("traceparent", b"00-abc")])

    for each in (*(decision for decision, _ in plan.decisions), *plan.dispatches):
        assert find_header(each.headers, "traceparent") == b"00-abc"


class Measured:
    """Health as a monitor would give it."""

    def __init__(self, **states: TierHealth) -> None:
        self._snapshot = HealthSnapshot({name.replace("_", "-"): each for name, each in states.items()})

    def snapshot(self) -> HealthSnapshot:
        """See ``HealthProvider``."""
        return self._snapshot


def tiers_of(intake: Intake, count: int) -> list[str]:
    """Tiers of that many urgent requests."""
    found = []
    for _ in range(count):
        asked = request(event_id=str(uuid4()), priority=9)
        plan = intake.plan(record(asked), asked, SETTINGS, NOTHING_DECIDED, NOW)
        found.append(decode_as(TaskEvent, plan.decisions[0].record.value).tier)
    return found


def test_without_a_monitor_the_most_wanted_tier_is_taken_so_that_keys_keep_their_order() -> None:
    assert set(tiers_of(Intake(CATALOGUE), 6)) == {"webhook-high"}


def test_measured_tiers_of_equal_load_take_turns_and_an_unhealthy_one_is_passed_over() -> None:
    equal = Intake(CATALOGUE, Measured(webhook_high=TierHealth()))
    assert len(set(tiers_of(equal, 6))) == 3

    ill = Intake(CATALOGUE, Measured(webhook_high=TierHealth("unhealthy", 900)))
    assert "webhook-high" not in tiers_of(ill, 6)


def test_what_was_sent_since_the_snapshot_counts_as_load() -> None:
    """R17: else everything goes to the least loaded tier until the next snapshot."""
    loads = {"webhook_beanstalk": TierHealth(load=2), "webhook_redis": TierHealth(load=100)}
    health = Measured(webhook_high=TierHealth(), **loads)
    intake = Intake(CATALOGUE, health)
    assert Counter(tiers_of(intake, 12)) == {"webhook-high": 7, "webhook-beanstalk": 5}
    # The next snapshot has counted them itself, and finds that high has done its work.
    health._snapshot = HealthSnapshot({**health._snapshot.states, "webhook-beanstalk": TierHealth(load=90)})
    assert set(tiers_of(intake, 12)) == {"webhook-high"}


def test_where_no_tier_is_healthy_the_first_is_taken_and_that_is_recorded() -> None:
    """R17."""
    ill = TierHealth("error", 900)
    intake = Intake(CATALOGUE, Measured(webhook_high=ill, webhook_beanstalk=ill, webhook_redis=ill))
    asked = request(priority=9)
    [(decision, _)] = intake.plan(record(asked), asked, SETTINGS, NOTHING_DECIDED, NOW).decisions
    accepted = decode_as(TaskEvent, decision.value)
    assert (accepted.tier, accepted.routing_rule) == ("webhook-high", "high_priority:degraded")


def test_the_records_fit_their_schemas_and_the_event_id_is_stable() -> None:
    assert encode(change()) == encode(change())
    first, second = planned(change()), planned(change())
    assert [each.value for each in first.dispatches] == [each.value for each in second.dispatches]


def called(**values: object) -> WebhookRequested:
    """A call-back of tenant 1."""
    known = {"trigger": "call_back", "endpoint": "", "options": {"key": "order-7"}, "requested_by": "vendor"}
    return request(**(known | values))


def test_a_call_back_is_recorded_once_and_leads_to_nothing_by_itself() -> None:
    """Who it is for is the relay's to decide."""
    plan = planned(called())
    [(decision, _)] = plan.decisions
    event = decode_as(TaskEvent, decision.value)
    assert (decision.topic, decision.partition, len(plan.dispatches)) == (CATALOGUE.events, 3, 0)
    assert (event.kind, event.gate, event.payload) == ("called_back", "call_back|1|order-7", '{"id": 7}')
    assert (event.accepted_at, event.requested_by, event.event_id) == (AT, "vendor", "0199-e")
    assert planned(called(), Decided(matched=True)) == Plan()


@pytest.mark.parametrize(
    "values",
    [
        {"options": {}},
        {"options": {"key": "k" * 201}},
        {"payload": "[1]"},
        {"payload": orjson.dumps({"x": "y" * 50_000}).decode()},
    ],
)
def test_a_call_back_that_no_door_lets_in_is_given_up(values: dict[str, object]) -> None:
    [(letter, _)] = planned(called(**values)).decisions
    assert letter.topic == CATALOGUE.dead_letters
    assert decode_as(DeadLetter, letter.value).reason == "unroutable"


def test_a_call_back_needs_a_tenant_but_no_usable_configuration() -> None:
    intake, event = Intake(CATALOGUE), called()

    def topics(fault: PipelineError) -> list[str]:
        plan = intake.plan(record(event, 5), event, fault, NOTHING_DECIDED, NOW)
        return [each.record.topic for each in plan.decisions]

    assert topics(UnknownTenant("1")) == [CATALOGUE.dead_letters]
    assert topics(Unroutable("its configuration is broken")) == [CATALOGUE.events]
