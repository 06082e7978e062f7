import pytest

from handlers.dwd.client import PrintdealClient
from handlers.dwd.fake import FakeUpstream
from handlers.dwd.manager import DwdPluginManager
from handlers.dwd.order import OrderWebhookHandler
from handlers.results import Completed
from schemas.errors import Permanent, Retryable
from tests.handlers.dwd.conftest import MakeContext
from tests.handlers.dwd.test_order import ORDER


@pytest.fixture
def manager(context: MakeContext) -> DwdPluginManager:
    made = context(sku_map={"FLYER": "7f0e64a2-flyers"})
    return DwdPluginManager("1", made.config, made.http)


async def test_categories_and_a_price_in_whole_cents(manager: DwdPluginManager) -> None:
    assert [each["name"] for each in await manager.get_categories()] == ["Flyers", "Posters"]
    assert await manager.get_price(500, {"sku": "FLYER", "specs": {"format": "A5"}}) == {
        "quantity": 500,
        "price_cents": 3245,
        "promised_arrival_date": None,
    }
    with pytest.raises(Permanent, match="attribute quantity is required"):
        await manager.get_price(0, {"sku": "FLYER"})


async def test_check_says_whether_the_credentials_work(manager: DwdPluginManager, fake: FakeUpstream) -> None:
    assert await manager.check() is None
    fake.behaviour.secret = "other"
    assert "credentials" in (await manager.check() or "")
    fake.behaviour.fail_next = 1
    assert "503" in (await manager.check() or "")


def test_the_sync_pipeline_is_data(manager: DwdPluginManager) -> None:
    steps = manager.get_sync_pipeline_config()
    assert [step["id"] for step in steps] == ["categories", "attributes", "combinations"]
    assert [step["action"]["input"]["from"] for step in steps] == [None, "categories", "categories"]


async def test_an_order_is_found_once_the_upstream_has_processed_it(fake: FakeUpstream, context: MakeContext) -> None:
    fake.behaviour.processed_after_s = 3600
    result = await OrderWebhookHandler().handle(ORDER, context())
    assert isinstance(result, Completed)
    client = PrintdealClient(context().config, context().http)

    assert await client.order(result.result["uuid"]) is None
    fake.behaviour.processed_after_s = 0
    found = await client.order(result.result["uuid"])
    assert found is not None
    assert (found["uuid"], found["reference"]) == (result.result["uuid"], "TENANT-1-123")


async def test_a_fault_carries_the_wait_the_upstream_asks_for(manager: DwdPluginManager, fake: FakeUpstream) -> None:
    fake.behaviour.fail_next, fake.behaviour.fail_status, fake.behaviour.retry_after_s = 1, 429, 9
    with pytest.raises(Retryable) as caught:
        await manager.get_categories()
    assert caught.value.retry_after_s == 9


async def test_orders_are_listed_by_our_statuses(fake: FakeUpstream, context: MakeContext) -> None:
    made = context(status_map={"cancelled": "gone"})
    manager = DwdPluginManager("1", made.config, made.http)
    for number in range(3):
        await OrderWebhookHandler().handle({**ORDER, "id": number}, context(f"key-{number}"))
    next(iter(fake.journal.values())).status = "cancelled"
    assert [each["status"] for each in await manager.get_orders()] == ["received", "received", "gone"]
    assert [each["status"] for each in await manager.get_orders("gone")] == ["gone"]
    assert len(await manager.get_orders("received")) == 2
    assert await manager.get_orders("shipped") == []
