from typing import Any

import pytest

from handlers.dwd.fake import FakeUpstream
from handlers.dwd.quotation import QuotationWebhookHandler
from handlers.results import Completed, NotFound, Rejected
from schemas.errors import Unknown
from tests.handlers.dwd.conftest import MakeContext

ACCEPTED: dict[str, Any] = {
    "id": 5,
    "quote_id": "Q-1001",
    "status": "accepted",
    "files": {"Q-1001-1": "https://files.example/a.pdf"},
}


async def test_a_quotation_without_the_upstreams_is_left_alone(fake: FakeUpstream, context: MakeContext) -> None:
    result = await QuotationWebhookHandler().handle({"id": 5, "total": 12}, context())
    assert isinstance(result, Completed)
    assert result.result["status"] == "not_placed"
    assert "quote_id" in result.result["reason"]


async def test_a_quotation_is_linked_until_it_is_accepted(fake: FakeUpstream, context: MakeContext) -> None:
    result = await QuotationWebhookHandler().handle({**ACCEPTED, "status": "open"}, context())
    assert isinstance(result, Completed)
    assert (result.result["status"], result.result["price"], result.result["lines"]) == ("linked", 32.45, 1)
    assert fake.journal == {}


async def test_an_accepted_quotation_is_ordered_once(fake: FakeUpstream, context: MakeContext) -> None:
    fake.behaviour.honours_key = False
    fake.behaviour.faults = ["none", "lost"]
    handler = QuotationWebhookHandler()
    with pytest.raises(Unknown):
        await handler.handle({"quotation": ACCEPTED}, context(event_type="quotation_updated"))
    (placed,) = fake.journal.values()
    assert placed.order == {
        "quoteId": fake.quotes["Q-1001"]["quoteId"],
        "orderLines": [{"quoteLineItemId": "Q-1001-1", "files": [{"url": "https://files.example/a.pdf"}]}],
        "deliveryMethod": 1,
        "reference": "TENANT-1-Q5",
        "testOrder": True,
    }
    found = await handler.reconcile({"quotation": ACCEPTED}, context())
    assert isinstance(found, Completed)
    assert found.result["uuid"] == placed.uuid
    assert await handler.reconcile({**ACCEPTED, "id": 6}, context()) == NotFound()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"quote_id": "Q-9"}, "no quotation Q-9"), ({"quote_id": "Q-1002"}, "expired"), ({"id": None}, "Order ID")],
)
async def test_what_cannot_be_ordered_is_rejected(
    fake: FakeUpstream, context: MakeContext, changes: dict[str, Any], reason: str
) -> None:
    result = await QuotationWebhookHandler().handle({**ACCEPTED, **changes}, context())
    assert isinstance(result, Rejected)
    assert reason in result.reason
    assert fake.journal == {}
