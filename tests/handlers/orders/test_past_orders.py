"""Orders found again at both vendors' stand-ins, which here do not know idempotency keys, as the real ones."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handlers.contract import Context, PluginManifest
from handlers.dwd.fake import FakeUpstream
from handlers.dwd.manifest import PLUGIN as DWD
from handlers.orders import past_orders
from handlers.outbound import GuardedClient
from handlers.printcom.fake import FakePrintcom
from handlers.printcom.manifest import PLUGIN as PRINTCOM
from handlers.results import Completed
from handlers.upstreams.fake import Behaviour, FakeApi
from schemas.errors import Retryable, Unknown
from schemas.identifiers import new_event_id
from tests.handlers.examples import small
from tests.handlers.orders.vendor import context
from tests.support.waiting import eventually_async


@dataclass
class Vendor:
    fake: FakeApi
    plugin: PluginManifest
    reference_name: str
    http: GuardedClient
    event_id: str

    def context(self, **changes: Any) -> Context:
        auth = {"url": self.fake.url, "client_id": "a", "secret": "s", "api_key": "k"}
        return context(config=small(auth=auth), http=self.http, event_id=self.event_id, **changes)

    def references(self) -> list[str]:
        return [str(placed.order[self.reference_name]) for placed in self.fake.journal.values()]


@pytest.fixture(params=["dwd", "printcom"])
async def vendor(request: pytest.FixtureRequest) -> AsyncIterator[Vendor]:
    behaviour = Behaviour(honours_key=False)
    fake = FakeUpstream(behaviour=behaviour) if request.param == "dwd" else FakePrintcom(behaviour=behaviour)
    plugin, name = (DWD, "reference") if request.param == "dwd" else (PRINTCOM, "customerReference")
    async with fake, GuardedClient(["127.0.0.1"], timeout_s=10) as http:
        yield Vendor(fake, plugin, name, http, new_event_id())


def orders(count: int) -> list[dict[str, Any]]:
    return [{"order_id": number, "items": [{"sku": "flyers", "quantity": 1}]} for number in range(count)]


async def test_a_bulk_that_was_cut_off_is_resumed_without_a_second_order(vendor: Vendor) -> None:
    handler: Any = vendor.plugin.handler("OrderBulkHandler")
    cut_off = asyncio.create_task(handler.handle({"orders": orders(260)}, vendor.context()))
    await eventually_async(lambda: len(vendor.fake.journal) >= 120)
    # Calls that are under way stay so; what the vendor has begun with is done once it has answered another call.
    vendor.fake.behaviour.delay_s = 60.0
    cut_off.cancel()
    await asyncio.wait([cut_off])
    journal = vendor.fake.url.removesuffix("/api") + "/_fake/journal"
    await vendor.http.request("GET", journal)
    vendor.fake.behaviour.delay_s = 0.0
    placed = len(vendor.fake.journal)
    assert 120 <= placed < 260

    done = await handler.handle({"orders": orders(260)}, vendor.context(attempt=2))
    assert isinstance(done, Completed)
    assert (done.result["total"], done.result["done"], done.result["failed"]) == (260, 260, 0)
    assert done.result["left_out_of_the_lists"] == 0
    assert len(done.result["placed"]) == 260
    assert all(isinstance(name, str) for name in done.result["placed"].values())
    references = vendor.references()
    assert len(references) == len(set(references)) == 260


async def test_orders_of_another_day_or_tenant_are_not_taken_for_the_events_own(vendor: Vendor) -> None:
    handler: Any = vendor.plugin.handler("OrderBulkHandler")
    await handler.handle({"orders": orders(2)}, vendor.context())
    for placed in vendor.fake.journal.values():
        placed.date = "2020-01-01T00:00:00+00:00"
    await handler.handle({"orders": orders(2)}, vendor.context(attempt=2))
    assert len(vendor.fake.journal) == 4
    await handler.handle({"orders": orders(2)}, vendor.context(attempt=2, tenant_id="2"))
    assert len(vendor.fake.journal) == 6
    await handler.handle({"orders": orders(2)}, vendor.context(attempt=2))
    assert len(vendor.fake.journal) == 6


async def test_a_list_that_is_too_long_leaves_doubt(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    handler: Any = vendor.plugin.handler("OrderBulkHandler")
    await handler.handle({"orders": orders(130)}, vendor.context())
    monkeypatch.setattr(past_orders, "MOST_LOOKED_AT", 20)
    with pytest.raises(Unknown, match="are not within the upstream's latest"):
        await handler.handle({"orders": orders(131)}, vendor.context(attempt=2))
    assert len(vendor.fake.journal) == 130


class Backwards:
    """An account whose list begins with its oldest orders, and which answers every third call only when asked again."""

    def __init__(self, config: object, http: object) -> None:
        self.calls = 0

    async def pages(self) -> AsyncIterator[list[dict[str, Any]]]:
        today = datetime.now(UTC)
        for start in range(0, 100, 10):
            dates = [(today - timedelta(days=90 - number)).isoformat() for number in range(start, start + 10)]
            yield [{"id": start + place, "date": date} for place, date in enumerate(dates)]

    async def read(self, listed: Mapping[str, Any]) -> dict[str, Any]:
        self.calls += 1
        if self.calls % 3 == 0:
            raise Retryable("the vendor answered 503")
        return {"reference": f"1-{listed['id']}", "uuid": f"u-{listed['id']}"}


async def test_the_lists_order_does_not_matter_and_a_passing_fault_ends_no_search() -> None:
    found = past_orders.PastOrders(
        Backwards, lambda tenant, order: f"{tenant}-{order}", Backwards.read, "reference", "date"
    )
    given = context(event_id=new_event_id())
    placed = await found.placed([{"order_id": number} for number in (5, 95, 99)], given)
    # Order 5 is months old, so it is not this event's.
    assert {order_id: result.result["uuid"] for order_id, result in placed.items()} == {"95": "u-95", "99": "u-99"}
    exported = {order_id async for order_id, _ in found.export(["5", "95", "200"], given)}
    assert exported == {"5", "95"}
