"""The three steps of an order's pipeline, one after another."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from handlers.contract import Context, StepHandler
from handlers.orders.submit import OrderSubmitHandler
from handlers.orders.transform import OrderTransformHandler
from handlers.orders.validation import ORDER_RULES, OrderValidationHandler
from handlers.results import Completed, NotFound, Rejected
from handlers.rules import Required
from tests.handlers.orders.vendor import SEED_PAYLOAD, Shop, Vendor, context


def step(number: int, results: list[dict[str, Any]], payload: dict[str, Any]) -> tuple[dict[str, Any], Context]:
    """What the worker hands to a step."""
    data = {
        **payload,
        "previous_step_result": results[-1] if results else None,
        "pipeline_results": results,
        "current_step": number,
    }
    return data, context(step=number, results=results)


async def test_the_seeds_payload_goes_through_all_three_steps() -> None:
    vendor = Vendor()
    transform = OrderTransformHandler(Shop, lambda tenant, order: f"TENANT-{tenant}-{order}")
    results: list[dict[str, Any]] = []
    steps: list[StepHandler] = [OrderValidationHandler(), transform, OrderSubmitHandler(vendor)]
    for number, handler in enumerate(steps):
        data, given = step(number, results, SEED_PAYLOAD)
        done = await handler.handle_step(data, number, given)
        assert isinstance(done, Completed)
        results.append(done.result)

    validated, transformed, submitted = results
    assert validated["validation_status"] == "passed"
    assert validated["rules_checked"] == ["order_id", "items", "sku", "quantity"]
    assert transformed["external_order"] == {
        "ref": "TENANT-1-123",
        "items": [
            {
                "external_sku": "flyers",
                "qty": 2,
                "specifications": [{"attribute": "kleur", "value": "red"}],
            },
            {"external_sku": "posters", "qty": 1, "specifications": []},
        ],
        "validation": validated,
    }
    assert submitted["uuid"] == "u-123"
    assert [each["hooks_run"] for each in results] == [
        ["validate_inventory"],
        ["apply_discounts"],
        ["send_confirmation"],
    ]
    (order,) = vendor.orders
    assert order["items"] == [
        {"sku": "flyers", "quantity": 2, "specs": {"kleur": "red"}},
        {"sku": "posters", "quantity": 1, "specs": {}, "file_url": "https://files.example/1.pdf"},
    ]
    assert order["customer_id"] == 456
    # The vendor's own mapping leaves the words as they are: they are mapped already.
    assert vendor.configs[0]["sku_map"] == {"flyers": "flyers", "posters": "posters"}
    assert vendor.configs[0]["specification_map"] == {"kleur": "kleur"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"order_id": None}, "Order ID is required"),
        ({"items": None}, "items must be a list"),
        ({"items": []}, "items must be a list"),
        ({"items": ["x"]}, "Invalid item format: item 1 is no object"),
        ({"items": [{"quantity": 1}]}, "Invalid item format: item 1: sku is missing"),
        ({"items": [{"sku": "a", "quantity": None}]}, "Invalid item format: item 1: quantity is missing"),
        ({"items": [{"sku": "a", "quantity": 0}]}, "quantity must be a whole number of 1 or more, not 0"),
        ({"items": [{"sku": "a", "quantity": 1.5}]}, "quantity must be a whole number"),
        ({"items": [{"sku": "a", "quantity": True}]}, "quantity must be a whole number"),
    ],
)
async def test_an_order_that_breaks_a_rule_is_rejected_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    rejected = await OrderValidationHandler().handle({**SEED_PAYLOAD, **changes}, context())
    assert isinstance(rejected, Rejected)
    assert reason in rejected.reason


async def test_every_fault_is_told_at_once_and_rules_can_be_added() -> None:
    handler = OrderValidationHandler((*ORDER_RULES, Required("customer_id")))
    rejected = await handler.handle({"items": [{"sku": "a"}, {"quantity": 2}]}, context())
    assert isinstance(rejected, Rejected)
    assert rejected.reason == (
        "Order ID is required; Invalid item format: item 1: quantity is missing; "
        "Invalid item format: item 2: sku is missing; customer_id is missing"
    )
    passed = await handler.handle(SEED_PAYLOAD, context())
    assert isinstance(passed, Completed)
    assert "customer_id" in passed.result["rules_checked"]


async def test_an_order_under_order_with_its_own_id_is_one_too() -> None:
    payload = {"order": {"id": 9, "status": "confirmed"}, "items": SEED_PAYLOAD["items"], "customer": None}
    assert isinstance(await OrderValidationHandler().handle(payload, context()), Completed)


async def test_hooks_are_called_where_the_payload_asks_for_them() -> None:
    called: list[str] = []

    async def confirmation(order: Mapping[str, Any], given: Context) -> None:
        called.append(f"{given.tenant_id}:{order['order_id']}")

    handler = OrderSubmitHandler(Vendor(), confirmation)
    asked = {**SEED_PAYLOAD, "processing_options": {"send_confirmation": True}}
    done = await handler.handle(asked, context())
    assert isinstance(done, Completed)
    assert done.result["hooks_run"] == ["send_confirmation"]
    for options in ({"send_confirmation": False}, {"send_confirmation": "yes"}, None):
        done = await handler.handle({**SEED_PAYLOAD, "processing_options": options}, context())
        assert isinstance(done, Completed)
        assert done.result["hooks_run"] == []
    assert called == ["1:123"]


async def test_what_the_vendor_rejects_stays_rejected() -> None:
    payload = {**SEED_PAYLOAD, "items": [{"sku": "a", "quantity": 0}]}
    assert isinstance(await OrderSubmitHandler(Vendor()).handle(payload, context()), Rejected)


async def test_an_order_that_was_never_validated_is_rejected_by_the_transformation() -> None:
    handler = OrderTransformHandler(Shop, lambda tenant, order: order)
    rejected = await handler.handle_step({"order_id": 1, "items": [{"sku": "ABC123"}]}, 1, context())
    assert isinstance(rejected, Rejected)
    assert "OrderValidationHandler" in rejected.reason


async def test_submitting_is_reconciled_as_the_vendor_does_with_the_same_order() -> None:
    vendor = Vendor()
    handler = OrderSubmitHandler(vendor)
    assert (handler.at_most_once, handler.settle_s) == (True, 30.0)
    assert await handler.reconcile(SEED_PAYLOAD, context()) == NotFound()
    await handler.handle(SEED_PAYLOAD, context())
    found = await handler.reconcile(SEED_PAYLOAD, replace(context(), attempt=2))
    assert found == Completed({"uuid": "u-123", "hooks_run": ["send_confirmation"]})
