"""Which events a change or a request asks for, and which are refused."""

from uuid import UUID

import pytest

from handlers.payloads import LONGEST_DELAY_S
from streams.agents.matching import (
    Unroutable,
    candidate_of_request,
    candidates_of_change,
    event_type_of,
)
from tests.streams.agents.support import AT, ORDERS, change, configuration, request


@pytest.mark.parametrize(
    ("model", "event_type"),
    [
        ("Order", "order_created"),
        ("SalesOrder", "sales_order_created"),
        ("HTTPCall", "http_call_created"),
        (r"App\Models\Tenants\Order", "order_created"),
    ],
)
def test_event_types_are_words_of_the_model_and_the_past_tense(model: str, event_type: str) -> None:
    assert event_type_of(model, "created") == event_type


def test_every_matching_entry_fires_an_event_of_its_own() -> None:
    second = {"id": "audit", "models": ["Order"], "events": ["created"], "webhook_endpoint": "webhook/audit"}
    other = {"id": "quotes", "models": ["Quotation"], "events": ["created"], "webhook_endpoint": "webhook/quotation"}

    found = candidates_of_change(change(), configuration(ORDERS, second, other))

    assert [(each.settings_entry, each.endpoint) for each in found] == [
        ("orders", "webhook/order"),
        ("audit", "webhook/audit"),
    ]
    assert len({each.event_id for each in found}) == 2
    assert {UUID(each.event_id).version for each in found} == {8}
    assert {(each.accepted_at, each.caused_by, each.key) for each in found} == {(AT, "c1", b"1|Order|7")}


def test_a_change_that_nobody_asked_for_fires_nothing() -> None:
    assert candidates_of_change(change(model_event="deleted"), configuration(ORDERS)) == []


@pytest.mark.parametrize(
    ("model_method", "entry_priority", "priority"), [(9, 3, 9), (None, 3, 3), (None, None, 6), (99, None, 10)]
)
def test_the_models_method_comes_before_the_entry_and_the_entry_before_the_default(
    model_method: int | None, entry_priority: int | None, priority: int
) -> None:
    entry = ORDERS | ({"priority": entry_priority} if entry_priority else {})

    [found] = candidates_of_change(change(priority=model_method), configuration(entry))

    assert found.priority == priority


def test_an_entrys_delay_is_the_events() -> None:
    [found] = candidates_of_change(change(), configuration(ORDERS | {"delay": 60}))

    assert found.delay_s == 60


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"payload": "{"}, "payload"),
        ({"model_event": "Created"}, "model_event is 'Created', not one of created, updated"),
        ({"model_id": ""}, "model_id is empty"),
        ({"occurred_at": AT // 1000}, "occurred_at is 1790000000000; microseconds"),
        ({"occurred_at": AT * 1000}, "occurred_at"),
        ({"occurred_at": -1}, "occurred_at"),
    ],
)
def test_what_is_wrong_with_a_change_names_the_field(values: dict[str, object], said: str) -> None:
    with pytest.raises(Unroutable, match=said):
        candidates_of_change(change(**values), configuration(ORDERS))


def test_a_request_is_one_candidate_and_its_own_options_come_first() -> None:
    settings = configuration(ORDERS | {"priority": 3, "delay": 60})

    asked = candidate_of_request(request(priority=9, delay_s=0), settings)
    left_open = candidate_of_request(request(), settings)

    assert (asked.priority, asked.delay_s) == (9, 0)
    assert (left_open.priority, left_open.delay_s, left_open.settings_entry) == (3, 60, "orders")
    assert asked.event_id == "0199-e"
    assert asked.key == b"0199-e"


def test_a_request_of_an_endpoint_nobody_configured_is_accepted() -> None:
    found = candidate_of_request(request(endpoint="webhook/none"), configuration(ORDERS))

    assert (found.endpoint, found.priority, found.settings_entry) == ("webhook/none", 5, None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"priority": 11}, "priority"),
        ({"priority": 0}, "priority"),
        ({"requested_at": AT // 1000}, "requested_at"),
        ({"delay_s": -1}, "delay"),
        ({"delay_s": LONGEST_DELAY_S + 1}, "delay"),
        ({"payload": "[1]"}, "JSON object"),
        ({"payload": "{"}, "JSON"),
        ({"payload": '{"a": "' + "x" * 262_144 + '"}'}, "at most 262144"),
        ({"payload": '{"a":' * 40 + "1" + "}" * 40}, "levels deep"),
        ({"endpoint": "x" * 2000}, "endpoint"),
        ({"options": {"a": "x" * 20_000}}, "options"),
    ],
)
def test_what_the_doors_would_refuse_is_unroutable(values: dict[str, object], said: str) -> None:
    with pytest.raises(Unroutable, match=said):
        candidate_of_request(request(**values), configuration(ORDERS))
