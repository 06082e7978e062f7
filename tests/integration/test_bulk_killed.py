"""A bulk of orders whose worker is killed in the middle: it is resumed, and no order is placed twice."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from handlers.dwd.fake import FakeUpstream
from handlers.upstreams.fake import Behaviour
from projections.tables import WEBHOOK_EVENTS
from tests.handlers.examples import small
from tests.support.house import House
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(170)]

BAD = (3, 77, 150, 222, 301, 404, 499)


async def test_a_killed_bulk_is_resumed_and_places_nothing_twice(tmp_path: Path) -> None:
    child = Path(__file__).with_name("shop_child.py")
    house = House(tmp_path, (sys.executable, child))
    async with FakeUpstream(behaviour=Behaviour(delay_s=0.05, honours_key=False)) as fake:
        auth = {"url": fake.url, "client_id": "acme", "secret": "s"}
        configuration = tmp_path / "tenant.json"
        configuration.write_text(
            json.dumps(small(auth=auth, route_handlers={"webhook/order/bulk": "OrderBulkHandler"}))
        )
        orders = [{"order_id": n, "items": [{"sku": "A", "quantity": 0 if n in BAD else 1}]} for n in range(500)]
        payload = tmp_path / "bulk.json"
        payload.write_text(json.dumps({"orders": orders}))
        trigger = ("trigger", "webhook/order/bulk", "--tenant", "1", "--payload", f"@{payload}", "--json")

        with house.up(kill=True) as engine:
            made = await asyncio.to_thread(house.webhook, "tenants", "create", "Acme", "--config", str(configuration))
            assert made.returncode == 0, made.stderr
            asked = await asyncio.to_thread(house.webhook, *trigger)
            assert asked.returncode == 0, asked.stderr
            event_id = json.loads(asked.stdout)["event_id"]
            await eventually_async(lambda: len(fake.journal) >= 150, timeout_s=60)
        assert _ended(engine, event_id) == {}
        assert len(fake.journal) < 493
        fake.behaviour.delay_s = 0.0
        with house.up() as engine:
            event: dict[str, Any] = await eventually_async(lambda: _ended(engine, event_id), timeout_s=100)
    assert event["status"] == "completed", event["error"]
    result = json.loads(event["result"])
    assert (result["total"], result["done"], result["failed"]) == (500, 493, 7)
    assert [each["index"] for each in result["failures"]] == list(BAD)
    references = [placed.order["reference"] for placed in fake.journal.values()]
    assert len(references) == len(set(references)) == 493


def _ended(engine: Engine, event_id: str) -> dict[str, Any]:
    with engine.connect() as connection:
        query = select(WEBHOOK_EVENTS).where(WEBHOOK_EVENTS.c.event_id == event_id)
        row = connection.execute(query).mappings().one_or_none()
    return dict(row) if row is not None and row["status"] not in ("pending", "processing") else {}
