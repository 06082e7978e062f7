import asyncio
from typing import Any

import orjson
import pytest

from handlers.orders.bulk import OrderBulkHandler, orders_of
from handlers.results import Completed, NotFound, Rejected
from schemas.errors import Retryable, Unknown
from schemas.limits import MAX_STEP_RESULT_BYTES
from tests.handlers.orders.vendor import Vendor, context

BAD = (3, 77, 150, 222, 301, 404, 499)


def payload(count: int = 500, bad: tuple[int, ...] = BAD) -> dict[str, Any]:
    return {
        "orders": [
            {"order_id": number, "items": [{"sku": "FLYER", "quantity": 0 if number in bad else 10}]}
            for number in range(count)
        ]
    }


async def bulk(vendor: Vendor, wanted: dict[str, Any], **changes: Any) -> dict[str, Any]:
    done = await OrderBulkHandler(vendor, vendor.known).handle(wanted, context(**changes))
    assert isinstance(done, Completed)
    return done.result


async def test_five_hundred_with_seven_bad_ones() -> None:
    vendor = Vendor()
    result = await bulk(vendor, payload())

    assert (result["total"], result["done"], result["failed"]) == (500, 493, 7)
    assert [each["index"] for each in result["failures"]] == list(BAD)
    assert all("Invalid item format" in each["reason"] for each in result["failures"])
    assert result["placed"]["0"] == "u-0"
    assert len(result["placed"]) + result["left_out_of_the_lists"] == 493
    assert len(orjson.dumps(result)) <= MAX_STEP_RESULT_BYTES
    assert len(vendor.orders) == len(set(vendor.keys)) == 493


async def test_an_attempt_after_a_crash_places_only_what_the_vendor_does_not_have() -> None:
    vendor = Vendor()
    first = asyncio.create_task(OrderBulkHandler(vendor, vendor.known).handle(payload(), context()))

    class Crash(Exception):
        pass

    place = vendor.handle

    async def dies(order: dict[str, Any], given: Any) -> Any:
        done = await place(order, given)
        if len(vendor.orders) == 200:
            raise Crash
        return done

    vendor.handle = dies  # type: ignore[assignment, method-assign]
    with pytest.raises(ExceptionGroup):
        await first
    assert 200 <= len(vendor.orders) < 300
    vendor.handle = place  # type: ignore[method-assign]
    result = await bulk(vendor, payload(), attempt=2)

    assert (result["done"], result["failed"]) == (493, 7)
    assert len({order["order_id"] for order in vendor.orders}) == len(vendor.orders) == 493


async def test_a_passing_fault_stops_no_other_order_and_the_next_attempt_goes_on() -> None:
    vendor = Vendor()
    vendor.fail = {"5": 1, "9": 1}
    with pytest.raises(Retryable, match=r"16 of 20 orders are placed, 2 cannot be, 2 wait: the vendor") as caught:
        await bulk(vendor, payload(20, (1, 2)))
    # Not before the vendor shows what was placed just now.
    assert caught.value.retry_after_s == vendor.settle_s
    result = await bulk(vendor, payload(20, (1, 2)), attempt=2)
    assert (result["done"], result["failed"]) == (18, 2)
    assert len(vendor.orders) == 18


async def test_an_upstream_that_asks_to_wait_is_not_asked_again_now() -> None:
    class Busy(Vendor):
        async def handle(self, payload: dict[str, Any], given: Any) -> Any:
            self.orders.append(payload)
            raise Retryable("the vendor answered 429", retry_after_s=90)

    vendor = Busy()
    with pytest.raises(Retryable) as caught:
        await bulk(vendor, payload(100, ()))
    assert caught.value.retry_after_s == 90
    assert len(vendor.orders) <= 8


async def test_an_upstream_that_fails_every_order_is_left_alone_after_a_few() -> None:
    vendor = Vendor()
    vendor.fail = {str(number): 1 for number in range(100)}
    with pytest.raises(Retryable):
        await bulk(vendor, payload(100, ()))
    assert sum(vendor.fail.values()) >= 100 - 16
    assert vendor.orders == []


async def test_doubt_about_one_order_is_doubt_about_the_bulk() -> None:
    class Silent(Vendor):
        async def handle(self, payload: dict[str, Any], given: Any) -> Any:
            raise Unknown("no answer within 120 s", code="no_answer")

    with pytest.raises(Unknown, match=r"0 of 3 orders are placed, 0 cannot be, 3 wait: no answer"):
        await bulk(Silent(), payload(3, ()))
    assert await OrderBulkHandler(Silent(), Silent().known).reconcile(payload(), context()) == NotFound()


async def test_keys_are_the_orders_own_and_stay() -> None:
    first, second, reordered = Vendor(), Vendor(), Vendor()
    await bulk(first, payload(3, ()))
    await bulk(second, payload(3, ()), idempotency_key="another")
    await bulk(reordered, {"orders": payload(3, ())["orders"][::-1]})
    assert set(first.keys) == set(reordered.keys)
    assert set(first.keys).isdisjoint(second.keys)


async def test_what_is_no_order_or_repeats_one_is_reported() -> None:
    vendor = Vendor()
    order = {"id": 7, "items": [{"sku": "A", "quantity": 1}]}
    result = await bulk(vendor, {"orders": [order, "x", order, {"items": []}]})
    assert [(each["index"], each["reason"]) for each in result["failures"]] == [
        (1, "Order ID is required"),
        (2, "order 7 is in the list already"),
        (3, "Order ID is required"),
    ]
    assert len(vendor.orders) == 1


def test_items_of_one_order_become_orders_of_their_own() -> None:
    items = [{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2}]
    orders = orders_of({"order": {"id": 5, "status": "confirmed"}, "items": items, "customer": {"name": "x"}})
    assert [(each["order_id"], each["items"], each["status"]) for each in orders] == [
        ("5-1", [items[0]], "confirmed"),
        ("5-2", [items[1]], "confirmed"),
    ]


@pytest.mark.parametrize("wanted", [{}, {"orders": []}, {"orders": "x"}, {"order_id": 1}])
async def test_nothing_to_place_is_rejected(wanted: dict[str, Any]) -> None:
    assert isinstance(await OrderBulkHandler(Vendor(), Vendor().known).handle(wanted, context()), Rejected)
