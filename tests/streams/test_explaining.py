"""What would fire and why is what intake and workers would do, entry by entry."""

import pytest

from handlers.dwd.manifest import PLUGIN
from handlers.tenants.configuration import TenantConfiguration, parse_configuration
from streams.agents.matching import Unroutable
from streams.explaining import explain_change, explain_request
from tests.handlers.examples import small
from tests.streams.agents.support import change, request

ORDERS: dict[str, object] = {
    "id": "orders",
    "models": ["Order"],
    "events": ["created", "updated"],
    "webhook_endpoint": "webhook/order",
}
QUOTES: dict[str, object] = {
    "id": "quotes",
    "models": ["Quotation"],
    "events": ["created"],
    "webhook_endpoint": "webhook/quotation",
}


def settings(*entries: dict[str, object]) -> TenantConfiguration:
    return parse_configuration(small(webhook_settings=list(entries)))


def test_every_entry_says_why_it_fires_or_not() -> None:
    created = ORDERS | {"id": "new", "events": ["created"]}
    found = explain_change(change(model_event="updated"), settings(ORDERS, created, QUOTES), PLUGIN)
    assert [(each.settings_entry, each.fires, each.why) for each in found] == [
        ("orders", True, "the entry names Order updated"),
        ("new", False, "of Order it names created, not updated"),
        ("quotes", False, "it names Quotation, not Order"),
    ]
    [fires] = (each for each in found if each.fires)
    assert (fires.handlers, fires.handlers_why) == (("OrderWebhookHandler",), "by its name, after the endpoint")
    assert (fires.event_type, fires.priority, fires.priority_why) == ("order_updated", 5, "what is updated has it")
    assert fires.tier == "webhook-beanstalk"
    assert fires.tier_why == "rule default, of webhook-beanstalk, webhook-redis, webhook-db by health and load"
    assert fires.waits is None


@pytest.mark.parametrize(
    ("entry", "values", "priority", "why"),
    [
        ({"priority": 3}, {}, 3, "the entry's"),
        ({"priority": 3}, {"priority": 8}, 8, "the model's own method"),
        ({}, {"model": "Payment", "model_event": "completed"}, 9, "payment_completed is urgent"),
    ],
)
def test_the_priority_says_whose_it_is(
    entry: dict[str, object], values: dict[str, object], priority: int, why: str
) -> None:
    asked = change(**values)
    configured = settings(ORDERS | entry)
    if asked.model == "Payment":
        asked_for = request(event_type="payment_completed")
        found = explain_request(asked_for, configured, PLUGIN)
    else:
        [found] = explain_change(asked, configured, PLUGIN)
    assert (found.priority, found.priority_why) == (priority, why)


def test_what_waits_says_for_what() -> None:
    strict = ORDERS | {"ordering": "strict", "delay": 5}
    coalesced = ORDERS | {"id": "burst", "coalesce": {"quiet_s": 2, "max_wait_s": 10}}
    found = explain_change(change(), settings(strict, coalesced), PLUGIN)
    assert [each.waits for each in found] == [
        "5 s first, for its turn in its strict lane",
        "until nothing alike has come for 2 s, 10 s at most",
    ]
    assert found[0].tier_why == "rule default, its home in strict order"


def test_a_trigger_without_a_handler_says_what_was_tried() -> None:
    found = explain_request(request(endpoint="webhook/nothing", priority=9), settings(), PLUGIN)
    assert (found.fires, found.settings_entry, found.handlers) == (True, None, ())
    assert (found.tier, found.priority_why) == ("webhook-high", "the trigger's own")
    assert "NothingWebhookHandler" in (found.handlers_why or "")


def test_what_intake_would_refuse_is_refused() -> None:
    with pytest.raises(Unroutable, match="delay"):
        explain_request(request(delay_s=-1), settings(), PLUGIN)
