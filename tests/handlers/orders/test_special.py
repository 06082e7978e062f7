from typing import Any

import pytest

from handlers.orders.special import SpecialOrderWebhookHandler
from handlers.results import Completed, Rejected
from tests.handlers.orders.vendor import Shop, context


async def test_the_seeds_operation_reads_the_upstream() -> None:
    done = await SpecialOrderWebhookHandler(Shop).handle({"special_operation": "sync_external"}, context())
    assert done == Completed({"operation": "sync_external", "categories": 2, "steps": ["categories"]})


async def test_a_plugin_may_add_operations() -> None:
    async def count(manager: Any, payload: Any, given: Any) -> dict[str, Any]:
        return {"counted": len(payload["things"])}

    handler = SpecialOrderWebhookHandler(Shop, {"count": count})
    done = await handler.handle({"special_operation": "count", "things": [1, 2]}, context())
    assert done == Completed({"operation": "count", "counted": 2})


@pytest.mark.parametrize("name", [None, "", "system", ["sync_external"]])
async def test_an_unknown_operation_is_rejected_naming_the_known(name: object) -> None:
    rejected = await SpecialOrderWebhookHandler(Shop).handle({"special_operation": name}, context())
    assert isinstance(rejected, Rejected)
    assert "known are: sync_external" in rejected.reason
