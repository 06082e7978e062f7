"""The product's own configuration example, as written, in the embedded house with both vendors' stand-ins."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from sqlalchemy import JSON, Engine, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from typing_extensions import override

from handlers.dwd.fake import FakeUpstream
from handlers.printcom.fake import FakePrintcom
from handlers.service import LoadedPlugin, TriggerResult
from handlers.tenants.configuration import read_configuration
from handlers.tenants.current import tenant_context
from handlers.tenants.repository import SqlTenantRepository
from handlers.upstreams.fake import FakeApi
from projections.tables import WEBHOOK_EVENTS
from schemas.kinds import KINDS
from streams.capture.model import WebhookModel
from streams.cli.composition import open_keyring
from streams.cli.embedded import embedded_installation
from streams.cli.pipeline import Pipeline
from streams.scheduling import Scheduling
from streams.settings import Settings
from tests.handlers.examples import SEED_TEXT
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(170)]

BAD = (3, 77, 150, 222, 301, 404, 499)
PIPELINE_PAYLOAD = {
    "order_id": 123,
    "items": [
        {"sku": "ABC123", "quantity": 2, "specs": {"color": "red"}},
        {"sku": "XYZ789", "quantity": 1, "specs": {"size": "large"}},
    ],
    "customer_id": 456,
    "processing_options": {"validate_inventory": True, "apply_discounts": True, "send_confirmation": True},
}


class Base(DeclarativeBase):
    pass


class Order(WebhookModel, Base):
    """The example's model, with the column that its hook watches."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[float]
    status: Mapped[str] = mapped_column(String(20))
    items: Mapped[list[dict[str, object]]] = mapped_column(JSON)
    shipping_address: Mapped[dict[str, object] | None] = mapped_column(JSON)

    @override
    def get_webhook_priority(self, event: str) -> int:
        return {
            "created": 8 if (self.total or 0) > 1000 else 6,
            "updated": 9 if self.status == "cancelled" else 5,
            "deleted": 7,
        }.get(event, 5)

    @override
    def should_trigger_webhook(self, event: str) -> bool:
        return event != "updated" or self.was_changed("status", "total", "shipping_address")


class Quotation(WebhookModel, Base):
    """A quotation that names one of the upstream's."""

    __tablename__ = "quotations"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20))
    quote_id: Mapped[str] = mapped_column(String(40))


@dataclass(frozen=True, slots=True)
class House:
    """The running house, seen from one tenant that is configured as the example says."""

    pipeline: Pipeline
    settings: Settings
    plugin: LoadedPlugin
    fake: FakeApi

    @property
    def engine(self) -> Engine:
        return self.pipeline.engine

    async def event(self, **wanted: Any) -> dict[str, Any]:
        """The newest event that has these values, once it has ended."""
        return await eventually_async(lambda: self._ended(wanted), timeout_s=90, what=f"an event {wanted} ends")

    def _ended(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        self.pipeline.raise_failure()
        columns = WEBHOOK_EVENTS.c
        query = select(WEBHOOK_EVENTS).where(*(columns[name] == value for name, value in wanted.items()))
        with self.engine.connect() as connection:
            row = connection.execute(query.order_by(columns.accepted_at.desc())).mappings().first()
        return dict(row) if row is not None and KINDS[row["kind"]].final else {}

    async def trigger(self, endpoint: str, payload: dict[str, Any], event_type: str, **options: int) -> dict[str, Any]:
        """The result of a manual trigger."""
        result = await asyncio.to_thread(
            self.plugin.trigger_webhook, endpoint, payload, event_type, True, {"priority": 7, "delay": 0, **options}
        )
        assert result, result.reason
        event = await self.event(event_id=result.event_id)
        assert event["status"] == "completed", event["error"]
        done: dict[str, Any] = json.loads(event["result"])
        return {**done, "_event": event}


@asynccontextmanager
async def house(tmp_path: Path, fake: FakeApi, **changes: Any) -> AsyncIterator[House]:
    """The house with a tenant of the example's configuration, whose only change is where its upstream is."""
    settings = Settings(data_dir=tmp_path, http_port=0, outbound_allow=["127.0.0.1"], log_level="error")
    document = dict(read_configuration(SEED_TEXT).document)
    document["auth"] = {**document["auth"], "url": fake.url}
    async with fake, embedded_installation(settings, sample=False) as installation:
        document["auth"] = {**document["auth"], "url": fake.url, **changes.pop("auth", {})}
        pipeline = installation.pipeline
        tenants = SqlTenantRepository(pipeline.engine, open_keyring(settings))
        tenant = tenants.create("Seed", {**document, **changes}, ["shop.example"])
        Base.metadata.create_all(pipeline.engine)
        yield House(pipeline, pipeline.system.settings, pipeline.service.load(tenant.id), fake)


async def order_by_model(shop: House) -> None:
    """Trigger 1: a created order is placed once, an unimportant change does nothing, a cancellation places nothing."""

    def work() -> None:
        with tenant_context(shop.plugin.tenant.id), Session(shop.engine) as session:
            items: list[dict[str, object]] = [{"sku": "ABC123", "quantity": 2, "specs": {"color": "red"}}]
            order = Order(id=7, total=1500.0, status="pending", items=items)
            session.add(order)
            session.commit()
            order.items = [*items, items[0]]
            session.commit()
            order.status = "cancelled"
            session.commit()

    await asyncio.to_thread(work)
    shop.pipeline.relay.wake()
    created = await shop.event(event_type="order_created", model_id="7")
    assert (created["status"], created["handler"], created["priority"]) == ("completed", "OrderWebhookHandler", 8)
    updated = await shop.event(event_type="order_updated", model_id="7")
    assert (json.loads(updated["result"])["status"], updated["priority"]) == ("not_placed", 9)


async def test_the_example_drives_every_trigger_through_dwd(tmp_path: Path) -> None:
    async with house(tmp_path, FakeUpstream()) as shop:
        await order_by_model(shop)
        await pipeline_of_three_steps(shop, "reference", "TENANT-1-123")
        await export(shop, tmp_path, ["7", "123"])
        special = await shop.trigger("webhook/custom/special", {"special_operation": "sync_external"}, "custom_sync")
        assert special["operation"] == "sync_external"
        assert special["categories"] > 0
        await in_the_foreground(shop)
        await quotation_by_model(shop)
        await bulk(shop)


async def test_the_example_drives_every_trigger_through_printcom(tmp_path: Path) -> None:
    changes = {"plugin_name": "print.com", "plugin_route_prefix": "printcom", "auth": {"api_key": "any"}}
    async with house(tmp_path, FakePrintcom(), **changes) as shop:
        await order_by_model(shop)
        await pipeline_of_three_steps(shop, "customerReference", "TENANT-1-123")
        await export(shop, tmp_path, ["7", "123"])
        special = await shop.trigger("webhook/custom/special", {"special_operation": "sync_external"}, "custom_sync")
        assert special["categories"] > 0
        await bulk(shop)


async def pipeline_of_three_steps(shop: House, name: str, reference: str) -> None:
    """Trigger 3: the example's pipeline on the example's payload."""
    result = await shop.trigger("webhook/order/process", PIPELINE_PAYLOAD, "pipeline_processing", priority=8)
    assert result["status"] == "placed"
    assert result["hooks_run"] == ["send_confirmation"]
    assert result["_event"]["tier"] in ("webhook-high", "webhook-beanstalk", "webhook-redis")
    placed = [each for each in shop.fake.journal.values() if each.order[name] == reference]
    assert len(placed) == 1
    lines = placed[0].order.get("orderLines") or placed[0].order["items"]
    assert [line["sku"] for line in lines] == ["ABC123", "XYZ789"]


async def in_the_foreground(shop: House) -> None:
    """A caller that waits gets the outcome of the whole pipeline, good or bad."""

    def trigger(payload: dict[str, Any]) -> TriggerResult:
        return shop.plugin.trigger_webhook("webhook/order/process", payload, run_async=False, options={"priority": 9})

    done = await asyncio.to_thread(trigger, {**PIPELINE_PAYLOAD, "order_id": 124})
    assert done, done.reason
    assert done.outcome is not None
    assert done.outcome.result is not None
    assert done.outcome.result["reference"] == "TENANT-1-124"
    failed = await asyncio.to_thread(trigger, {"items": []})
    assert not failed
    assert failed.code == "failed"
    assert "Order ID is required" in str(failed.reason)


async def export(shop: House, tmp_path: Path, order_ids: list[str]) -> None:
    """Trigger 2: the export names what it found and what is missing, and its workbook holds what the vendor has."""
    payload = {"order_ids": [*map(int, order_ids), 124], "format": "xlsx", "include_items": True}
    result = await shop.trigger("webhook/order/export", payload, "bulk_export")
    assert result["missing"] == ["124"]
    assert result["rows"]["orders"] == len(order_ids)
    book = openpyxl.load_workbook(tmp_path / result["files"][0]["path"], read_only=True)
    header, *rows = book["orders"].iter_rows(values_only=True)
    items = list(book["items"].iter_rows(values_only=True))[1:]
    book.close()
    found = {row[0]: dict(zip(header, row, strict=False)) for row in rows}
    assert set(found) == set(order_ids)
    journal = {str(placed.number): placed for placed in shop.fake.journal.values()}
    for order_id, row in found.items():
        assert row["reference"] == f"TENANT-1-{order_id}"
        order = journal[str(row["number"])].order
        lines = order.get("orderLines") or order["items"]
        assert len([item for item in items if item[0] == order_id]) == len(lines)


async def quotation_by_model(shop: House) -> None:
    """A created quotation waits its minute, unless it is let go, and is then linked to the upstream's."""

    def work() -> None:
        with tenant_context(shop.plugin.tenant.id), Session(shop.engine) as session:
            session.add(Quotation(id=5, status="pending", quote_id="Q-1001"))
            session.commit()

    await asyncio.to_thread(work)
    shop.pipeline.relay.wake()
    scheduling = Scheduling(shop.settings, shop.engine)
    waiting = await eventually_async(lambda: _of(shop.engine, "quotation_created"), timeout_s=60)

    async def let_go() -> str:
        return await asyncio.to_thread(_run_now, scheduling, waiting["event_id"])

    answer: str = await eventually_async(let_go, timeout_s=60)
    assert answer == "done"
    event = await shop.event(event_type="quotation_created")
    assert event["handler"] == "QuotationWebhookHandler"
    assert json.loads(event["result"])["quote_number"] == "Q-1001"


def _of(engine: Engine, event_type: str) -> dict[str, Any]:
    with engine.connect() as connection:
        query = select(WEBHOOK_EVENTS).where(WEBHOOK_EVENTS.c.event_type == event_type)
        row = connection.execute(query).mappings().first()
    return dict(row) if row is not None else {}


def _run_now(scheduling: Scheduling, event_id: str) -> str:
    try:
        return scheduling.run_now(event_id, by="test").answer
    except LookupError:
        return ""


async def bulk(shop: House) -> None:
    """Five hundred orders, seven of which cannot be placed."""
    before = len(shop.fake.journal)
    orders = [
        {"order_id": 1000 + n, "items": [{"sku": "ABC123", "quantity": 0 if n in BAD else 1}]} for n in range(500)
    ]
    result = await shop.trigger("webhook/order/bulk", {"orders": orders}, "bulk_order", priority=5)
    assert (result["total"], result["done"], result["failed"]) == (500, 493, 7)
    assert [failure["index"] for failure in result["failures"]] == list(BAD)
    assert len(shop.fake.journal) - before == 493
