"""The order handlers of both vendors under the contract that every plugin's handlers inherit."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from handlers.dwd.fake import FakeUpstream
from handlers.dwd.manager import DwdPluginManager
from handlers.dwd.mapping import order_reference
from handlers.dwd.order import OrderWebhookHandler as DwdOrder
from handlers.orders.submit import OrderSubmitHandler
from handlers.orders.transform import OrderTransformHandler
from handlers.orders.validation import OrderValidationHandler
from handlers.printcom.fake import FakePrintcom
from handlers.printcom.order import OrderWebhookHandler as PrintcomOrder
from handlers.testing import Bench, HandlerContract, StepContract
from handlers.upstreams.fake import FakeApi
from tests.handlers.examples import small

ORDER: Mapping[str, Any] = {"order_id": 7, "items": [{"sku": "flyers", "quantity": 100}]}
BAD: tuple[Mapping[str, Any], ...] = ({}, {"order_id": 7}, {"order_id": 7, "items": []}, {"items": [{"sku": "a"}]})


class TestOrderValidationHandler(StepContract):
    handler = OrderValidationHandler()
    good = ORDER
    bad = BAD


class TestOrderTransformHandler(StepContract):
    handler = OrderTransformHandler(DwdPluginManager, order_reference)
    good = ORDER
    bad = ({}, {"order_id": 7}, {"items": [{"sku": "a", "quantity": 1}]})
    results = ({"validation_status": "passed"},)
    config = small()


@asynccontextmanager
async def served(fake: FakeApi) -> AsyncIterator[Bench]:
    async with fake:
        fake.behaviour.honours_key = False

        def fail(status: int, times: int) -> None:
            fake.behaviour.fail_status, fake.behaviour.fail_next = status, times

        auth = {"url": fake.url, "client_id": "a", "secret": "s", "api_key": "k"}
        yield Bench(small(auth=auth), fail, lambda: len(fake.journal))


class TestSubmissionToDwd(HandlerContract):
    handler: ClassVar[OrderSubmitHandler] = OrderSubmitHandler(DwdOrder())
    good = ORDER
    bad = BAD

    def bench(self) -> Any:
        return served(FakeUpstream())


class TestSubmissionToPrintcom(HandlerContract):
    handler: ClassVar[OrderSubmitHandler] = OrderSubmitHandler(PrintcomOrder())
    good = ORDER
    bad = BAD

    def bench(self) -> Any:
        return served(FakePrintcom())


class _Raises:
    async def handle_step(self, data: dict[str, Any], step: int, context: Any) -> Any:
        return data["items"][0]["nothing"]


def test_the_contract_fails_a_step_that_raises() -> None:
    class Suite(TestOrderValidationHandler):
        handler = _Raises()  # type: ignore[assignment]

    for name in ("test_a_good_payload_gives_a_result_that_can_be_kept", "test_what_can_never_work_is_rejected"):
        with pytest.raises(KeyError):
            getattr(Suite(), name)()
