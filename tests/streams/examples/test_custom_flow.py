import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from handlers.dwd.manifest import PLUGIN
from handlers.orders.validation import OrderValidationHandler
from handlers.registry import PluginRegistry
from handlers.results import Completed
from handlers.service import PluginService
from handlers.tenants.configuration import read_configuration
from handlers.tenants.current import tenant_context
from handlers.tenants.repository import MemoryTenantRepository
from schemas.codec import decode_as
from schemas.events import WebhookRequested
from streams.capture.outbox import OUTBOX
from streams.database import create_database_engine
from streams.examples.custom_flow import Customer, ExampleBase, Order, OrderItem, determine_handler, use_service
from tests.handlers.examples import SEED_TEXT
from tests.handlers.test_contract import Recorder, context
from tests.streams.capture.captured import shop_database

ROOT = Path(__file__).parents[3]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with shop_database(tmp_path, ExampleBase.metadata) as engine, tenant_context("1"):
        prepare_flow()
        yield engine


def prepare_flow() -> None:
    """The flow of a tenant whose configuration is the product's own example."""
    tenants = MemoryTenantRepository()
    tenants.create("Shop", read_configuration(SEED_TEXT).document)
    use_service(lambda sink: PluginService(tenants, PluginRegistry({"dwd": PLUGIN}), sink))


def place(session: Session, items: int, status: str = "pending", total: str = "1000", specs: bool = False) -> Order:
    order = Order(status=status, total=Decimal(total), customer=Customer(name="Ann"))
    session.add(order)
    session.flush()
    for number in range(items):
        order.items.append(OrderItem(sku=f"A{number}", quantity=1, specs={"size": "large"} if specs else None))
        session.flush()
    return order


def requests(engine: Engine) -> list[WebhookRequested]:
    with engine.connect() as connection:
        payloads = connection.execute(select(OUTBOX.c.payload).order_by(OUTBOX.c.id)).scalars().all()
    return [decode_as(WebhookRequested, each) for each in payloads]


BULK = ("webhook/order/bulk", "order_bulk_processing", None)
PIPELINE = ("webhook/order/process", "order_pipeline_processing", 8)
CUSTOM = ("webhook/order", "order_created_complete", None)

TABLE = [
    (0, "pending", "1000", None),
    (0, "pending", "1000.01", None),
    (0, "confirmed", "1000", None),
    (0, "confirmed", "1000.01", None),
    (10, "pending", "1000", None),
    (10, "pending", "1000.01", PIPELINE),
    (10, "confirmed", "1000", CUSTOM),
    (10, "confirmed", "1000.01", PIPELINE),
    (11, "pending", "1000", BULK),
    (11, "pending", "1000.01", BULK),
    (11, "confirmed", "1000", BULK),
    (11, "confirmed", "1000.01", BULK),
]


@pytest.mark.parametrize(("items", "status", "total", "expected"), TABLE)
def test_what_an_order_holds_decides_which_webhook_it_has(
    engine: Engine, items: int, status: str, total: str, expected: tuple[str, str, int | None] | None
) -> None:
    with Session(engine) as session:
        order = place(session, items, status, total)
        session.commit()
        order_id = order.id
    found = requests(engine)
    assert [(each.endpoint, each.event_type, each.priority) for each in found] == ([expected] if expected else [])
    for each in found:
        assert (each.tenant_id, each.model, each.model_id) == ("1", "Order", str(order_id))
        assert orjson.loads(each.payload)["metadata"]["total_items"] == items


def test_specifications_make_an_order_complex_and_no_total_counts_as_nothing() -> None:
    assert determine_handler(10, Decimal(1), "pending", is_complex=True) == "pipeline"
    assert determine_handler(11, Decimal(1), "pending", is_complex=True) == "bulk"
    assert determine_handler(0, None, "confirmed", is_complex=True) is None
    assert determine_handler(1, None, "pending", is_complex=False) is None


async def test_its_payload_passes_the_validation_of_its_own_pipeline(engine: Engine) -> None:
    with Session(engine) as session:
        place(session, 2, specs=True)
        session.commit()
    (request,) = requests(engine)
    assert request.endpoint == "webhook/order/process"
    payload = orjson.loads(request.payload)
    assert payload["customer"] == {"id": 1, "name": "Ann"}
    assert isinstance(await OrderValidationHandler().handle_step(payload, 0, context(Recorder())), Completed)


def test_a_later_change_of_what_matters_is_told_once_a_transaction(engine: Engine) -> None:
    with Session(engine) as session:
        order = place(session, 1)
        session.commit()
        order.status = "confirmed"
        session.flush()
        order.total = Decimal(5)
        session.commit()
        order.customer = None
        session.commit()
    assert [each.event_type for each in requests(engine)] == ["order_updated"]


def test_a_rolled_back_order_asks_for_nothing(engine: Engine) -> None:
    with Session(engine) as session:
        place(session, 11)
        session.rollback()
        savepoint = session.begin_nested()
        place(session, 11)
        savepoint.rollback()
        session.commit()
    assert requests(engine) == []


def test_an_order_is_kept_although_its_webhook_is_refused(engine: Engine) -> None:
    tenants = MemoryTenantRepository()
    tenants.create("Shop", {**read_configuration(SEED_TEXT).document, "route_handlers": {}, "webhook_settings": []})
    use_service(lambda sink: PluginService(tenants, PluginRegistry({"dwd": PLUGIN}), sink))
    with Session(engine) as session, capture_logs() as logs:
        place(session, 1, specs=True)
        session.commit()
        assert session.execute(select(func.count()).select_from(Order)).scalar_one() == 1
    assert [each["event"] for each in logs] == ["the order's webhook was refused"]


CRASHING = """
import os, sys
from sqlalchemy import event
from sqlalchemy.orm import Session
from handlers.tenants.current import tenant_context
from streams.database import create_database_engine
from tests.streams.examples.test_custom_flow import place, prepare_flow

engine = create_database_engine(sys.argv[1])
prepare_flow()
with tenant_context("1"), Session(engine) as session:
    place(session, 11)
    if sys.argv[2] == "before":
        event.listen(engine, "commit", lambda connection: os._exit(9))
    else:
        event.listen(Session, "after_commit", lambda session: os._exit(9))
    session.commit()
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_around_the_commit_leaves_the_order_and_its_webhook_or_neither(engine: Engine, moment: str) -> None:
    url = engine.url.render_as_string()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.run([sys.executable, "-c", CRASHING, url, moment], cwd=ROOT, env=environment, check=False)
    assert child.returncode == 9
    expected = 0 if moment == "before" else 1
    assert len(requests(engine)) == expected
    with Session(create_database_engine(url)) as session:
        assert session.execute(select(func.count()).select_from(Order)).scalar_one() == expected
        session.get_bind().dispose()  # type: ignore[union-attr]
