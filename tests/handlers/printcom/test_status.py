from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from handlers.printcom.callback import callback_url, called_about
from handlers.printcom.mapping import STATUSES
from handlers.printcom.status import OrderStatusWebhookHandler
from handlers.results import Completed, Rejected
from handlers.upstreams.mapping import our_status, upstream_statuses
from tests.handlers.printcom.conftest import MakeContext

CONFIG: dict[str, Any] = {"auth": {"api_key": "k3y-canary"}, "callback_url": "https://in.example/in/t/printcom/x"}


def query_of(tenant_id: str = "1", reference: str = "TENANT-1-7", **changes: Any) -> dict[str, str]:
    url = callback_url({**CONFIG, **changes}, tenant_id, reference)
    assert url is not None
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def told(event: str, query: dict[str, str] | None = None, **payload: Any) -> dict[str, Any]:
    return {"event_type": event, "payload": payload, "query": query_of() if query is None else query}


@pytest.mark.parametrize(
    ("upstream", "status"),
    [
        ("ORDERRECEIVED", "received"),
        ("AcceptedBySupplier", "in_production"),
        ("shipped", "shipped"),
        ("NEW", "unknown"),
    ],
)
async def test_a_status_arrives_in_our_words_every_time_it_is_told(
    context: MakeContext, upstream: str, status: str
) -> None:
    handler = OrderStatusWebhookHandler()
    results = [await handler.handle(told("ORDER_STATUS_CHANGED", status=upstream), context()) for _ in range(2)]
    expected = Completed(
        {"reference": "TENANT-1-7", "event": "ORDER_STATUS_CHANGED", "status": status, "upstream_status": upstream}
    )
    assert results == [expected, expected]


async def test_a_shipment_brings_its_tracking_address_and_nothing_but_a_web_address(context: MakeContext) -> None:
    for code, url in (("https://t.example/1", "https://t.example/1"), ("javascript:alert(1)", None)):
        payload = told("SHIPMENT_CREATED", order_item_number="60001234-1", tracking_code=code)
        result = await OrderStatusWebhookHandler().handle(payload, context(status_map={"shipped": "on its way"}))
        assert isinstance(result, Completed)
        assert result.result["tracking_url"] == url
        assert result.result["status"] == "on its way"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"reference": "TENANT-1-7"},
        {"reference": "TENANT-1-7", "token": "0" * 32},
        {"reference": "TENANT-1-7", "token": "é"},
        query_of() | {"reference": "TENANT-1-8"},
        query_of(tenant_id="2"),
        query_of(auth={"api_key": "other"}),
    ],
)
async def test_a_token_of_another_order_tenant_or_secret_is_refused(
    context: MakeContext, query: dict[str, str]
) -> None:
    result = await OrderStatusWebhookHandler().handle(told("ORDER_STATUS_CHANGED", query, status="SHIPPED"), context())
    assert isinstance(result, Rejected)
    assert result.code == "invalid_token"


async def test_what_is_no_known_event_changes_nothing(context: MakeContext) -> None:
    result = await OrderStatusWebhookHandler().handle(told("ORDER_LIKED"), context())
    assert isinstance(result, Completed)
    assert result.result["status"] == "ignored"
    without = await OrderStatusWebhookHandler().handle({"event_type": "X", "query": query_of()}, context())
    assert isinstance(without, Rejected)


def test_a_secret_of_its_own_outlives_the_credentials() -> None:
    old, new = ({"auth": {"api_key": key, "callback_secret": "c"}} for key in ("a", "b"))
    url = callback_url({**old, "callback_url": "https://x.example/in?a=b"}, "1", "r")
    assert url is not None
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query["a"] == "b"
    assert called_about(query, new, "1") == "r"
    assert callback_url(old, "1", "r") is None


def test_statuses_are_mapped_both_ways() -> None:
    config = {"status_map": {"in_production": "printing"}}
    for upstream in STATUSES:
        assert upstream in upstream_statuses(our_status(upstream, STATUSES, config), STATUSES, config)
    assert upstream_statuses("printing", STATUSES, config) == ["ACCEPTEDBYSUPPLIER", "PROCESSING"]
    assert upstream_statuses("nothing", STATUSES, config) == []
