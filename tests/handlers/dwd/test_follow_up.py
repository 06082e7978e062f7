"""What comes after an order: its confirmation, its cancellation, and what the upstream tells of it."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from handlers.contract import HttpClient, HttpResponse
from handlers.dwd.cancel import OrderCancelWebhookHandler
from handlers.dwd.client import PrintdealClient
from handlers.dwd.confirm import OrderConfirmWebhookHandler
from handlers.dwd.fake import FakeUpstream
from handlers.dwd.manager import DwdPluginManager
from handlers.dwd.mapping import LINE_STATUSES, ORDER_STATUSES
from handlers.dwd.order import OrderWebhookHandler
from handlers.dwd.status import OrderStatusWebhookHandler
from handlers.results import Completed, Rejected
from handlers.upstreams.fake import PlacedOrder
from handlers.upstreams.mapping import STATUSES, our_status, upstream_statuses
from schemas.errors import Retryable
from tests.handlers.dwd.conftest import MakeContext
from tests.handlers.dwd.test_order import ORDER
from tests.support.waiting import eventually_async


async def placed(fake: FakeUpstream, context: MakeContext) -> tuple[dict[str, Any], PlacedOrder]:
    result = await OrderWebhookHandler().handle(ORDER, context())
    assert isinstance(result, Completed)
    (order,) = fake.journal.values()
    return result.result, order


async def test_an_order_is_asked_for_until_it_shows(fake: FakeUpstream, context: MakeContext) -> None:
    fake.behaviour.processed_after_s = 3600
    result, order = await placed(fake, context)
    handler = OrderConfirmWebhookHandler()
    waits: list[float | None] = []
    for attempt in (1, 2, 3, 4):
        with pytest.raises(Retryable) as caught:
            await handler.handle_step({}, 1, replace(context(), results=[result], attempt=attempt))
        waits.append(caught.value.retry_after_s)
    assert sum(each or 0 for each in waits) == 600

    fake.behaviour.processed_after_s = 0
    shown = await handler.handle_step({}, 1, replace(context(), results=[result, {"x": 1}], attempt=5))
    assert isinstance(shown, Completed)
    assert shown.result["number"] == str(order.number)
    assert shown.result["status"] == "received"
    assert [line["external_id"] for line in shown.result["lines"]] == ["TENANT-1-123-1", "TENANT-1-123-2"]


async def test_an_order_that_never_shows_has_failed_and_the_tenant_hears_what_to_do(
    fake: FakeUpstream, context: MakeContext
) -> None:
    fake.behaviour.processed_after_s = 3600
    result, order = await placed(fake, context)
    failed = await OrderConfirmWebhookHandler().handle({"uuid": result["uuid"]}, replace(context(), attempt=5))
    assert isinstance(failed, Rejected)
    assert failed.code == "order_failed"
    assert order.uuid in failed.reason
    assert "place the order anew" in failed.reason
    nothing = await OrderConfirmWebhookHandler().handle({}, context())
    assert isinstance(nothing, Rejected)


@pytest.mark.parametrize("by", ["uuid", "reference"])
async def test_an_order_is_cancelled_once(fake: FakeUpstream, context: MakeContext, by: str) -> None:
    result, order = await placed(fake, context)
    payload = {"uuid": result["uuid"]} if by == "uuid" else {"order_id": 123}
    for _ in range(2):
        cancelled = await OrderCancelWebhookHandler().handle(payload, context())
        assert isinstance(cancelled, Completed)
        assert cancelled.result["status"] == "cancelled"
    assert order.status == "cancelled"


async def test_too_late_is_told_apart_from_a_passing_fault(fake: FakeUpstream, context: MakeContext) -> None:
    result, order = await placed(fake, context)
    fake.behaviour.faults = ["none", "error"]
    with pytest.raises(Retryable):
        await OrderCancelWebhookHandler().handle({"uuid": result["uuid"]}, context())
    order.status = "in-production"
    late = await OrderCancelWebhookHandler().handle({"uuid": result["uuid"]}, context())
    assert isinstance(late, Rejected)
    assert late.code == "too_late"
    assert "in_production" in late.reason
    for payload in ({"uuid": "none"}, {"order_id": 9}, {}):
        assert isinstance(await OrderCancelWebhookHandler().handle(payload, context()), Rejected)


async def test_call_backs_are_registered_once_sent_and_lead_to_the_order(
    fake: FakeUpstream, context: MakeContext
) -> None:
    received: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        received.append(await request.json())
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/in", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    auth = {"url": fake.url, "webhook_url": fake.url.removesuffix("/api"), "client_id": "a", "secret": "s"}
    made = context(auth=auth)
    manager = DwdPluginManager("1", made.config, made.http)
    assert await manager.ensure_webhook(url) == await manager.ensure_webhook(url)
    assert len(fake.webhooks) == 1

    fake.behaviour.callbacks = 2
    _, order = await placed(fake, context)
    await eventually_async(lambda: len(received) == 2)
    order.status = "shipped"
    fake.status_changed(order)
    await eventually_async(lambda: len(received) == 4)
    await runner.cleanup()
    assert [each["event"] for each in received] == ["order.created"] * 2 + ["orderline.status.updated"] * 2

    results = [await OrderStatusWebhookHandler().handle(body, made) for body in received[2:]]
    assert results[0] == results[1]
    assert isinstance(results[0], Completed)
    (line, _) = results[0].result["lines"]
    assert line["status"] == "shipped"
    assert line["tracking_urls"] == [f"https://track.example/{order.number}"]


async def test_what_a_call_back_may_hold(fake: FakeUpstream, context: MakeContext) -> None:
    handler = OrderStatusWebhookHandler()
    ignored = await handler.handle({"event": "order.liked", "data": {"uuid": "x"}}, context())
    assert ignored == Completed(
        {"status": "ignored", "event": "order.liked", "reason": "no event that this plugin follows"}
    )
    for body in ({}, {"event": "order.created", "data": {"uuid": "../products"}}, {"event": "order.created"}):
        assert isinstance(await handler.handle(body, context()), Rejected)
    failed = await handler.handle({"type": "order.failed", "payload": {"orderUuid": "a-b"}}, context())
    assert isinstance(failed, Completed)
    assert failed.result["status"] == "failed"
    with pytest.raises(Retryable):
        await handler.handle({"event": "order.created", "data": {"uuid": "a-b"}}, context())


async def test_the_whole_list_is_searched_page_by_page(fake: FakeUpstream, context: MakeContext) -> None:
    for number in range(120):
        await OrderWebhookHandler().handle({**ORDER, "id": number}, context(f"key-{number}"))
    client = PrintdealClient(context().config, context().http)
    for number in (0, 60, 119):
        order = await client.find_order(f"TENANT-1-{number}")
        assert order is not None
        assert order["reference"] == f"TENANT-1-{number}"
    assert await client.find_order("TENANT-1-120") is None


class Counting:
    """A client that counts the calls that were answered."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client
        self.answered = 0
        self.stream = client.stream

    async def request(self, *arguments: Any, **options: Any) -> HttpResponse:
        answer = await self._client.request(*arguments, **options)
        self.answered += 1
        return answer


async def test_many_unclear_orders_are_found_in_about_as_many_calls_as_there_are_orders(
    fake: FakeUpstream, context: MakeContext
) -> None:
    for number in range(120):
        await OrderWebhookHandler().handle({**ORDER, "id": number}, context(f"key-{number}"))
    fake.behaviour.rate_per_s = 100
    made = context()
    counting = Counting(made.http)
    looked_up = replace(made, http=counting)

    found = await asyncio.gather(
        *(OrderWebhookHandler().reconcile({**ORDER, "id": number}, looked_up) for number in range(130))
    )

    assert [isinstance(each, Completed) for each in found] == [True] * 120 + [False] * 10
    # Each order once, and three pages twice.
    assert counting.answered <= 120 + 2 * 3


def test_statuses_are_mapped_both_ways() -> None:
    for table in (ORDER_STATUSES, LINE_STATUSES):
        assert set(table.values()) <= set(STATUSES)
        for upstream in table:
            assert upstream in upstream_statuses(our_status(upstream, table, {}), table, {})
    assert our_status("Shipped", LINE_STATUSES, {"status_map": {"shipped": "sent"}}) == "sent"
    assert upstream_statuses("sent", LINE_STATUSES, {"status_map": {"shipped": "sent"}}) == ["shipped"]
    assert our_status(None, LINE_STATUSES, {}) == "unknown"
