import pytest

from handlers.printcom.fake import FakePrintcom
from handlers.printcom.manager import PrintcomPluginManager
from handlers.printcom.order import OrderWebhookHandler
from schemas.errors import Permanent
from tests.handlers.printcom.conftest import MakeContext
from tests.handlers.printcom.test_status import CONFIG, query_of


@pytest.fixture
def manager(context: MakeContext) -> PrintcomPluginManager:
    made = context(sku_map={"FLYER": "flyers"}, specification_map={"format": "size"})
    return PrintcomPluginManager("1", made.config, made.http)


async def test_products_presets_and_a_price_in_whole_cents(manager: PrintcomPluginManager, fake: FakePrintcom) -> None:
    assert [each["sku"] for each in await manager.get_categories()] == ["flyers", "posters"]
    assert [each["slug"] for each in (await manager.get_product("FLYER"))["properties"]] == ["size"]
    assert [each["id"] for each in await manager.get_presets()] == ["flyers_a5"]
    assert await manager.get_price(500, {"sku": "FLYER", "specs": {"format": "a5"}}) == {
        "quantity": 500,
        "price_cents": 3250,
        "promised_arrival_date": None,
    }
    with pytest.raises(Permanent, match="Product not found"):
        await manager.get_product("NONE")


async def test_check_says_whether_the_credentials_work(manager: PrintcomPluginManager, fake: FakePrintcom) -> None:
    assert await manager.check() is None
    fake.behaviour.secret = "other"
    assert "credentials" in (await manager.check() or "")
    fake.behaviour.fail_next = 1
    assert "503" in (await manager.check() or "")


def test_names_are_mapped_and_the_sync_pipeline_is_data(manager: PrintcomPluginManager) -> None:
    assert manager.map_sku("FLYER") == "flyers"
    assert manager.map_specifications({"specs": {"format": "a5"}}) == [{"attribute": "size", "value": "a5"}]
    steps = manager.get_sync_pipeline_config()
    assert {step["id"]: step["action"]["input"]["from"] for step in steps} == {
        "products": None,
        "properties": "products",
        "presets": None,
    }


def test_a_call_backs_query_is_verified(context: MakeContext) -> None:
    manager = PrintcomPluginManager("1", CONFIG, context().http)
    assert manager.verify_callback(query_of())
    assert not manager.verify_callback({**query_of(), "token": "x"})


async def test_orders_are_listed_by_our_statuses(
    manager: PrintcomPluginManager, fake: FakePrintcom, context: MakeContext
) -> None:
    for number in range(2):
        order = {"id": number, "items": [{"sku": "flyers", "quantity": 1}]}
        await OrderWebhookHandler().handle(order, context(f"key-{number}"))
    first, second = fake.journal.values()
    first.status, second.status = "SHIPPED", "ORDERRECEIVED"
    assert [each["status"] for each in await manager.get_orders()] == ["received", "shipped"]
    assert [each["orderNumber"] for each in await manager.get_orders("shipped")] == [str(first.number)]
