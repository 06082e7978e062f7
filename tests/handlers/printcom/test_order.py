from typing import Any

import pytest
from aiohttp import web

from handlers.outbound import GuardedClient
from handlers.printcom import client as printcom_client
from handlers.printcom.fake import FakePrintcom
from handlers.printcom.manifest import PLUGIN
from handlers.printcom.order import OrderWebhookHandler
from handlers.resolution import resolve
from handlers.results import Completed, NotFound, Rejected
from handlers.tenants.configuration import parse_configuration
from schemas.errors import Permanent, Retryable, Unknown
from tests.handlers.examples import small
from tests.handlers.printcom.conftest import MakeContext
from tests.support.waiting import eventually_async

ADDRESS = {
    "first_name": "Ann",
    "last_name": "Smit",
    "company": "Acme",
    "street": "Kade",
    "housenumber": 12,
    "house_number_addition": "b",
    "zipcode": "1000 AA",
    "city": "Breda",
    "country": "nl",
    "phone": "0031",
    "iban": "not sent",
}
ORDER: dict[str, Any] = {
    "id": 123,
    "status": "pending",
    "delivery_address": ADDRESS,
    "items": [
        {"sku": "FLYER", "quantity": 500, "specs": {"format": "a5"}, "file_url": "https://files.example/a.pdf"},
        {"sku": "any", "quantity": 100, "preset_id": "flyers_a5"},
    ],
}
MAPS = {"sku_map": {"FLYER": "flyers"}, "specification_map": {"format": "size"}}


async def test_a_new_order_is_placed_in_the_upstreams_words(fake: FakePrintcom, context: MakeContext) -> None:
    result = await OrderWebhookHandler().handle(ORDER, context(**MAPS))

    (placed,) = fake.journal.values()
    number = str(placed.number)
    assert result == Completed({"status": "placed", "order_number": number, "reference": "TENANT-1-123", "lines": 2})
    address = {
        "companyName": "Acme",
        "firstName": "Ann",
        "lastName": "Smit",
        "fullstreet": "Kade 12 b",
        "postcode": "1000 AA",
        "city": "Breda",
        "country": "NL",
        "telephone": "0031",
    }
    assert placed.order == {
        "customerReference": "TENANT-1-123",
        "items": [
            {
                "sku": "flyers",
                "customerReference": "TENANT-1-123-1",
                "approveDesign": True,
                "options": {"size": "a5", "copies": 500},
                "fileUrl": "https://files.example/a.pdf",
                "shipments": [{"copies": 500, "address": address}],
            },
            {
                "sku": "flyers",
                "customerReference": "TENANT-1-123-2",
                "approveDesign": True,
                "options": {"size": "a5", "variants": [], "copies": 100},
                "shipments": [{"copies": 100, "address": address}],
            },
        ],
    }


@pytest.mark.parametrize("fault", ["lost", "garbage", "late_error", "stall"])
async def test_an_order_without_an_answer_is_unknown_and_found_by_its_reference(
    fake: FakePrintcom, context: MakeContext, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(printcom_client, "ORDER_TIMEOUT_S", 0.5)
    fake.behaviour.faults, fake.behaviour.stall_s = ["none", fault], 60
    handler = OrderWebhookHandler()
    with pytest.raises(Unknown, match="TENANT-1-123") as caught:
        await handler.handle(ORDER, context())
    assert "canary" not in str(caught.value)

    (placed,) = fake.journal.values()
    found = await handler.reconcile(ORDER, context())
    assert isinstance(found, Completed)
    assert found.result["order_number"] == str(placed.number)
    assert await handler.reconcile({**ORDER, "id": 124}, context()) == NotFound()


def test_an_order_may_take_two_minutes_whatever_the_workers_own_limit() -> None:
    document = small(plugin_name="print.com", plugin_route_prefix="printcom", auth={"api_key": "k"})
    (step,) = resolve("webhook/order", parse_configuration(document), PLUGIN).steps
    assert printcom_client.ORDER_TIMEOUT_S == 120
    assert step.timeout_s is not None
    assert step.timeout_s > 120
    assert OrderWebhookHandler.at_most_once


async def test_a_call_that_was_not_let_in_is_retried(fake: FakePrintcom, context: MakeContext) -> None:
    fake.behaviour.faults, fake.behaviour.retry_after_s = ["none", "rate_limit"], 7
    with pytest.raises(Retryable) as caught:
        await OrderWebhookHandler().handle(ORDER, context())
    assert caught.value.retry_after_s == 7
    assert fake.journal == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None}, "Order ID is required"),
        ({"items": []}, "order 123 has no items"),
        ({"items": [{"sku": "A", "quantity": 0}]}, "quantity of item 1"),
    ],
)
async def test_an_order_that_can_never_be_placed_is_rejected(
    fake: FakePrintcom, context: MakeContext, changes: dict[str, Any], reason: str
) -> None:
    result = await OrderWebhookHandler().handle({**ORDER, **changes}, context())
    assert isinstance(result, Rejected)
    assert reason in result.reason
    assert fake.journal == {}


async def test_a_product_that_is_not_mapped_is_refused_where_the_tenant_wants_that(
    fake: FakePrintcom, context: MakeContext
) -> None:
    with pytest.raises(Permanent, match="'FLYER' is not in sku_map"):
        await OrderWebhookHandler().handle(ORDER, context(sku_map={"any": "b"}, unmapped_sku="reject"))
    assert fake.journal == {}


async def test_a_preset_that_is_missing_is_a_refusal_in_words(fake: FakePrintcom, context: MakeContext) -> None:
    order = {**ORDER, "items": [{"sku": "A", "quantity": 1, "preset_id": "gone"}]}
    result = await OrderWebhookHandler().handle(order, context())
    assert isinstance(result, Rejected)
    assert "Preset not found" in result.reason


async def test_a_login_is_used_again_and_made_anew_when_it_has_ended(fake: FakePrintcom, context: MakeContext) -> None:
    auth = {"url": fake.url, "username": "ann", "password": "pw"}
    handler = OrderWebhookHandler()
    for number in range(3):
        assert isinstance(await handler.handle({**ORDER, "id": number}, context(auth=auth)), Completed)
    assert len(fake.tokens) == 1
    fake.tokens.clear()
    assert isinstance(await handler.handle({**ORDER, "id": 4}, context(auth=auth)), Completed)
    assert len(fake.tokens) == 1

    fake.tokens.clear()
    fake.behaviour.secret = "other"
    with pytest.raises(Permanent, match=r"auth\.api_key, or auth\.username and auth\.password"):
        await handler.handle(ORDER, context(auth=auth))
    assert len(fake.journal) == 4


async def test_a_login_that_fails_leaves_nothing_open(fake: FakePrintcom, context: MakeContext) -> None:
    fake.behaviour.faults = ["late_error"]
    auth = {"url": fake.url, "username": "bob", "password": "pw"}
    with pytest.raises(Retryable):
        await OrderWebhookHandler().handle({"id": 1, "items": [{"sku": "flyers", "quantity": 1}]}, context(auth=auth))
    assert fake.journal == {}


async def test_missing_credentials_are_named(context: MakeContext, fake: FakePrintcom) -> None:
    with pytest.raises(Permanent, match=r"set auth\.api_key"):
        await OrderWebhookHandler().handle(ORDER, context(auth={"url": fake.url}))


async def test_every_page_of_the_list_is_searched(fake: FakePrintcom, context: MakeContext) -> None:
    handler = OrderWebhookHandler()
    items = [{"sku": "flyers", "quantity": 1}]
    for number in range(230):
        await handler.handle({"id": number, "items": items}, context(f"key-{number}"))
    for number in (0, 115, 229):
        found = await handler.reconcile({"id": number, "items": items}, context())
        assert isinstance(found, Completed)
        assert found.result["reference"] == f"TENANT-1-{number}"
    assert await handler.reconcile({"id": 230, "items": items}, context()) == NotFound()


async def test_without_production_the_staging_host_is_called() -> None:
    async with GuardedClient() as client:
        for production, host in ((True, "https://api.print.com"), (False, "https://api.stg.print.com")):
            made = printcom_client.PrintcomClient({"production": production}, client)
            assert made._base == host


async def test_a_call_back_reaches_the_orders_own_address_as_often_as_wanted(
    fake: FakePrintcom, context: MakeContext
) -> None:
    received: list[tuple[dict[str, str], Any]] = []

    async def take(request: web.Request) -> web.Response:
        received.append((dict(request.query), await request.json()))
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/in", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.behaviour.callbacks = 2
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/in?tenant=1"
    await OrderWebhookHandler().handle(ORDER, context(callback_url=url))

    await eventually_async(lambda: len(fake.called_back) == 2)
    await runner.cleanup()
    (query, body), again = received
    assert (query, body) == again
    assert query["reference"] == "TENANT-1-123"
    assert len(query["token"]) == 32
    assert body == {"event_type": "ORDER_STATUS_CHANGED", "payload": {"status": "ACCEPTEDBYSUPPLIER"}}
