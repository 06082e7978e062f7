from typing import Any

import pytest

from handlers.dwd.fake import FakeUpstream
from handlers.dwd.order import REFERENCE_LIMIT, OrderWebhookHandler, order_reference, upstream_order
from handlers.results import Completed, NotFound, Rejected
from schemas.errors import Permanent, Retryable, Unknown
from tests.handlers.dwd.conftest import MakeContext

ORDER: dict[str, Any] = {
    "id": 123,
    "customer_id": 456,
    "total": 1500.0,
    "status": "pending",
    "items": [
        {"sku": "ABC123", "quantity": 2, "specs": {"color": "red", "size": "large"}},
        {"sku": "XYZ789", "quantity": 1, "file_url": "https://files.example/a.pdf"},
    ],
}


async def test_a_new_order_is_placed(fake: FakeUpstream, context: MakeContext) -> None:
    result = await OrderWebhookHandler().handle(
        ORDER, context(sku_map={"ABC123": "7f0e64a2-flyers"}, specification_map={"color": "Colour"})
    )

    (placed,) = fake.journal.values()
    assert placed.key == "key-1"
    assert result == Completed(
        {"status": "placed", "uuid": placed.uuid, "reference": "TENANT-1-123", "lines": 2, "test_order": True}
    )
    assert placed.order == {
        "orderLines": [
            {
                "sku": "7f0e64a2-flyers",
                "attributes": [
                    {"attribute": "Colour", "value": "red"},
                    {"attribute": "size", "value": "large"},
                    {"attribute": "quantity", "value": "2"},
                ],
                "externalId": "TENANT-1-123-1",
            },
            {
                "sku": "XYZ789",
                "attributes": [{"attribute": "quantity", "value": "1"}],
                "files": [{"url": "https://files.example/a.pdf"}],
                "externalId": "TENANT-1-123-2",
            },
        ],
        "deliveryMethod": 1,
        "reference": "TENANT-1-123",
        "testOrder": True,
    }


async def test_the_seeds_manual_payload_is_placed_too(fake: FakeUpstream, context: MakeContext) -> None:
    payload = {
        "order_id": 123,
        "items": [{"sku": "ABC123", "quantity": 2, "specs": {"color": "red"}}],
        "customer_id": 4,
    }
    nested = {"order": {"id": 124, "status": "confirmed"}, "items": payload["items"]}

    for number, each in enumerate((payload, nested)):
        result = await OrderWebhookHandler().handle(each, context(f"key-{number}", "manual_trigger"))
        assert isinstance(result, Completed)
    assert [placed.order["reference"] for placed in fake.journal.values()] == ["TENANT-1-123", "TENANT-1-124"]


@pytest.mark.parametrize(
    ("event_type", "status"),
    [("order_updated", "paid"), ("order_deleted", "paid"), ("order_restored", "paid"), ("order_created", "cancelled")],
)
async def test_a_change_or_a_cancelled_order_prints_nothing(
    fake: FakeUpstream, context: MakeContext, event_type: str, status: str
) -> None:
    result = await OrderWebhookHandler().handle({**ORDER, "status": status}, context(event_type=event_type))

    assert isinstance(result, Completed)
    assert result.result["status"] == "not_placed"
    assert fake.journal == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": None}, "Order ID is required"),
        ({"id": True}, "Order ID is required"),
        ({"id": " "}, "Order ID is required"),
        ({"items": []}, "order 123 has no items"),
        ({"items": {"sku": "A"}}, "order 123 has no items"),
        ({"items": ["A"]}, "Invalid item format"),
        ({"items": [{"quantity": 1}]}, "Invalid item format: item 1 has no sku"),
        ({"items": [{"sku": "A", "quantity": 0}]}, "quantity of item 1"),
        ({"items": [{"sku": "A", "quantity": True}]}, "quantity of item 1"),
        ({"items": [{"sku": "A", "quantity": "2"}]}, "quantity of item 1"),
    ],
)
async def test_an_order_that_can_never_be_placed_is_rejected(
    fake: FakeUpstream, context: MakeContext, changes: dict[str, Any], reason: str
) -> None:
    result = await OrderWebhookHandler().handle({**ORDER, **changes}, context())

    assert isinstance(result, Rejected)
    assert reason in result.reason
    assert fake.journal == {}


async def test_an_upstreams_refusal_is_a_rejection_with_its_words(fake: FakeUpstream, context: MakeContext) -> None:
    fake.behaviour.fail_next, fake.behaviour.fail_status = 1, 422
    result = await OrderWebhookHandler().handle(ORDER, context())
    reason = "the upstream answered 422: switched-on fault; mend what it names, then trigger anew"
    assert result == Rejected(reason, code="upstream_refused")


async def test_refused_credentials_say_what_to_check(fake: FakeUpstream, context: MakeContext) -> None:
    fake.behaviour.secret = "other"
    with pytest.raises(Permanent, match=r"auth\.client_id and auth\.secret") as caught:
        await OrderWebhookHandler().handle(ORDER, context())
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("fault", ["lost", "garbage", "late_error", "stall"])
async def test_an_order_without_an_answer_is_unknown_and_found_by_its_reference(
    fake: FakeUpstream, context: MakeContext, fault: str
) -> None:
    fake.behaviour.faults, fake.behaviour.stall_s = [fault], 60
    handler = OrderWebhookHandler()
    with pytest.raises(Unknown, match="TENANT-1-123") as caught:
        await handler.handle(ORDER, context())
    assert "before it is sent again" in str(caught.value)

    (order,) = fake.journal.values()
    found = await handler.reconcile(ORDER, context())
    assert isinstance(found, Completed)
    assert found.result["uuid"] == order.uuid
    assert await handler.reconcile({**ORDER, "id": 124}, context()) == NotFound()


@pytest.mark.parametrize("fault", ["rate_limit", "not_connected"])
async def test_what_certainly_had_no_effect_is_simply_retried(
    fake: FakeUpstream, context: MakeContext, fault: str
) -> None:
    fake.behaviour.faults = [fault] if fault == "rate_limit" else []
    closed = {"auth": {"url": "http://127.0.0.1:1/api", "client_id": "acme", "secret": "s"}}
    made = context(**(closed if fault == "not_connected" else {}))
    with pytest.raises(Retryable):
        await OrderWebhookHandler().handle(ORDER, made)
    assert fake.journal == {}
    assert isinstance(await OrderWebhookHandler().handle(ORDER, context()), Completed)


async def test_an_order_that_is_not_processed_yet_is_not_found_and_later_is(
    fake: FakeUpstream, context: MakeContext
) -> None:
    fake.behaviour.processed_after_s = 3600
    handler = OrderWebhookHandler()
    placed = await handler.handle(ORDER, context())
    assert await handler.reconcile(ORDER, context()) == NotFound()
    fake.behaviour.processed_after_s = 0
    assert await handler.reconcile(ORDER, context()) == placed
    assert handler.settle_s >= 600
    assert len(fake.journal) == 1


@pytest.mark.parametrize(("production", "test_order"), [(True, False), (False, True), ("true", True), (1, True)])
def test_only_a_plain_true_means_production(production: object, test_order: bool) -> None:
    assert upstream_order(ORDER, "1", {"production": production})["testOrder"] is test_order


def test_a_long_reference_is_cut_and_stays_unique() -> None:
    tenant = "2f6d7c1e-8a54-4b52-9a0d-6d6a3f1f2b77"
    references = [order_reference(tenant, str(number)) for number in range(2000)]

    assert {len(reference) for reference in references} == {REFERENCE_LIMIT}
    assert len(set(references)) == 2000
    assert order_reference(tenant, "7") == references[7]
    assert order_reference("1", "123") == "TENANT-1-123"
    assert len(order_reference("1", "9" * 26)) == REFERENCE_LIMIT


def test_addresses_are_taken_along_and_the_external_id_has_no_slash() -> None:
    address = {"street": "Main", "housenumber": "1", "city": "Breda", "country": "nl"}
    body = upstream_order({**ORDER, "id": "A/7", "shipping_address": address, "invoice_address": "?"}, "1", {})

    assert body["deliveryAddress"] == address
    assert "invoiceAddress" not in body
    assert body["orderLines"][0]["externalId"] == "TENANT-1-A_7-1"
