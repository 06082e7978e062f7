"""Orders that the vendor has taken, and whose answers are under way when everything is killed (R6, R22)."""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from handlers.dwd.fake import FakeUpstream
from handlers.printcom.fake import FakePrintcom
from handlers.service import PluginService
from handlers.tenants.repository import SqlTenantRepository
from handlers.upstreams.fake import Behaviour, FakeApi
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS
from streams.broker.runtime import resolve
from streams.capture.outbox import OutboxSink
from streams.cli.composition import open_keyring, open_system
from streams.settings import Settings
from tests.integration.test_vendor_faults import configuration, order
from tests.support.house import House
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(170)]

ORDERS = 40


@pytest.mark.parametrize("vendor", ["dwd", "printcom"])
async def test_an_order_under_way_at_kill_9_is_found_and_not_placed_again(vendor: str, tmp_path: Path) -> None:
    house = House(tmp_path, (sys.executable, Path(__file__).with_name("shop_child.py")))
    stalled = Behaviour(faults=["none", "stall"], repeat_faults=True, stall_s=300, processed_after_s=0.2)
    fake: FakeApi = FakeUpstream(behaviour=stalled) if vendor == "dwd" else FakePrintcom(behaviour=stalled)
    async with fake:
        with house.up(kill=True) as engine:
            await asyncio.to_thread(_trigger, house, vendor, fake.url)
            await eventually_async(lambda: len(fake.journal) == ORDERS, timeout_s=60)
            await eventually_async(lambda: _count(engine, WEBHOOK_EVENTS.c.kind).get("completed", 0) >= ORDERS // 4)
        before = _count(engine, WEBHOOK_ATTEMPTS.c.kind)
        # R6: no order without an intent that outlives the process.
        assert before.total() == ORDERS
        assert before["intent"] >= ORDERS // 4
        fake.behaviour.faults = []
        with house.up() as engine:
            await eventually_async(lambda: _count(engine, WEBHOOK_EVENTS.c.kind) == {"completed": ORDERS}, timeout_s=90)
        placed = Counter(str(each.order.get("reference") or each.order["customerReference"]) for each in _journal(fake))
    assert placed == {f"TENANT-1-{number}": 1 for number in range(ORDERS)}


def _trigger(house: House, vendor: str, url: str) -> None:
    settings = resolve(Settings(data_dir=house.data_dir), kafka=False)
    system = open_system(settings)
    SqlTenantRepository(system.engine, open_keyring(settings)).create("Shop", configuration(vendor, url))
    plugin = PluginService(system.tenants, system.plugins, OutboxSink(system.engine, system.catalogue)).load("1")
    for number in range(ORDERS):
        assert plugin.trigger_webhook("webhook/order", order(number))
    system.engine.dispose()


def _count(engine: Engine, column: object) -> "Counter[str]":
    with engine.connect() as connection:
        found = connection.execute(select(column, func.count()).group_by(column)).all()  # type: ignore[call-overload]
    return Counter(dict(found))


def _journal(fake: FakeApi) -> list[Any]:
    return list(fake.journal.values())
