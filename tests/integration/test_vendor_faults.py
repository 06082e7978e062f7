"""Both vendors' fakes with every fault on: each order is placed exactly once, and each failure says what to do.

``VENDOR_FAULT_ORDERS`` sets how many orders, ``VENDOR_FAULT_STALL_S`` how long a stall lasts (120 at the real one).
"""

import asyncio
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from sqlalchemy import func, select

from handlers.contract import Context
from handlers.dwd.fake import FakeUpstream
from handlers.dwd.manifest import PLUGIN as DWD
from handlers.dwd.order import OrderWebhookHandler as DwdOrder
from handlers.outbound import GuardedClient
from handlers.printcom import client as printcom_client
from handlers.printcom.fake import FakePrintcom
from handlers.printcom.manifest import PLUGIN as PRINTCOM
from handlers.printcom.order import OrderWebhookHandler as PrintcomOrder
from handlers.results import Completed, NotFound, Reconciled
from handlers.tenants.repository import SqlTenantRepository
from handlers.upstreams.fake import FAULTS, Behaviour, FakeApi
from handlers.upstreams.placement import OrderPlacement
from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS
from schemas.errors import Retryable, Unknown
from schemas.identifiers import new_event_id
from schemas.kinds import FINAL_KINDS
from streams.cli.composition import open_keyring
from streams.cli.embedded import embedded_installation
from streams.settings import Settings
from tests.support.waiting import eventually_async

ORDERS: Final = int(os.environ.get("VENDOR_FAULT_ORDERS", "40"))
STALL_S: Final = float(os.environ.get("VENDOR_FAULT_STALL_S", "1.5"))
SETTLED_S: Final = 0.4
CALL_S: Final = 0.8
pytestmark = pytest.mark.timeout(120 + 20 * ORDERS)

MET: Final = frozenset({"http_500", "http_429", "timeout", "connection", "bad_answer"})
ADVICE: Final = re.compile(r"tried again|asked again|looked for|check |retry the event|trigger anew")


def behaviour() -> Behaviour:
    """Every fault in turn between calls that go well; nothing at the upstream tells a repeated order from another."""
    return Behaviour(
        # Of an odd length, so that every kind of call meets every fault.
        faults=["none", *(each for fault in FAULTS for each in (fault, "none", "none", "none"))],
        repeat_faults=True,
        stall_s=STALL_S,
        retry_after_s=0,
        rate_per_s=200,
        processed_after_s=SETTLED_S / 2,
        callbacks=2,
        honours_key=False,
    )


def order(number: int) -> dict[str, Any]:
    return {"order_id": number, "items": [{"sku": "flyers", "quantity": 1 + number}]}


@dataclass
class Worker:
    """Carries out orders as the engine does: an unknown one is reconciled, and repeated only when it is not there."""

    handler: OrderPlacement
    config: Mapping[str, Any]
    client: GuardedClient
    texts: list[str] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    async def carry_out(self, number: int) -> Completed:
        context = Context(
            tenant_id="1",
            event_id=new_event_id(),
            event_type="order_created",
            endpoint="webhook/order",
            run=1,
            step=0,
            attempt=1,
            idempotency_key=f"key-{number}",
            config=self.config,
            http=self.client,
            log=logging.LoggerAdapter(logging.getLogger("test"), {}),
        )
        while True:
            found: Reconciled | None = None
            try:
                found = await self.handler.handle(order(number), context)
            except Unknown as error:
                self._note(error)
                found = await self._reconciled(number, context)
            except Retryable as error:
                self._note(error)
            if isinstance(found, Completed):
                return found
            assert found is None or isinstance(found, NotFound)

    async def _reconciled(self, number: int, context: Context) -> Reconciled:
        sent_at = time.monotonic()
        while True:
            # What counts is when the search began: it may have passed the order's place before the order showed.
            settled = time.monotonic() - sent_at > SETTLED_S
            try:
                found = await self.handler.reconcile(order(number), context)
            except Retryable as error:
                self._note(error)
                continue
            if not isinstance(found, NotFound) or settled:
                return found
            await asyncio.sleep(SETTLED_S / 4)

    def _note(self, error: Retryable | Unknown) -> None:
        self.texts.append(str(error))
        cause = error.__cause__ if isinstance(error, Unknown) else error
        self.codes[getattr(cause, "code", "")] += 1


@pytest.mark.parametrize("vendor", ["dwd", "printcom"])
async def test_with_every_fault_on_each_order_is_placed_exactly_once(
    vendor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printcom_client, "ORDER_TIMEOUT_S", CALL_S)
    fake: FakeApi = FakeUpstream(behaviour=behaviour()) if vendor == "dwd" else FakePrintcom(behaviour=behaviour())
    handler: OrderPlacement = DwdOrder() if vendor == "dwd" else PrintcomOrder()
    async with fake, GuardedClient(["127.0.0.1"], timeout_s=CALL_S) as client:
        auth = {"url": fake.url, "client_id": "a", "secret": "s3cr3t-canary", "api_key": "k3y-canary"}
        worker = Worker(handler, {"auth": auth}, client)
        limit = asyncio.Semaphore(8)

        async def one(number: int) -> Completed:
            async with limit:
                return await worker.carry_out(number)

        results = await asyncio.gather(*(one(number) for number in range(ORDERS)))
        # How many calls that takes is chance, for searches share them.
        while not set(worker.codes) >= MET and len(results) < 10 * ORDERS:
            results.append(await one(len(results)))

        names = ("uuid", "order_number")
        placed = Counter(str(each.order.get("reference") or each.order["customerReference"]) for each in _journal(fake))
        assert placed == {f"TENANT-1-{number}": 1 for number in range(len(results))}
        known = {value for each in _journal(fake) for value in (each.uuid, str(each.number))}
        assert {str(next(each.result[n] for n in names if n in each.result)) for each in results} <= known
    # Each fault was met, and each text says what to do and holds no secret.
    assert set(worker.codes) >= MET
    assert [text for text in worker.texts if not ADVICE.search(text)] == []
    assert "canary" not in " ".join(worker.texts)


def _journal(fake: FakeApi) -> list[Any]:
    return list(fake.journal.values())


@pytest.mark.embedded
@pytest.mark.parametrize("vendor", ["dwd", "printcom"])
async def test_the_house_places_every_order_exactly_once(
    vendor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(printcom_client, "ORDER_TIMEOUT_S", CALL_S)
    fake: FakeApi = FakeUpstream(behaviour=behaviour()) if vendor == "dwd" else FakePrintcom(behaviour=behaviour())
    submit: Any = (DWD if vendor == "dwd" else PRINTCOM).handler("OrderSubmitHandler")
    monkeypatch.setattr(submit, "settle_s", SETTLED_S)
    settings = Settings(data_dir=tmp_path, http_port=0, outbound_allow=["127.0.0.1"], log_level="error")
    async with fake, embedded_installation(settings, sample=False) as installation:
        pipeline = installation.pipeline
        tenants = SqlTenantRepository(pipeline.engine, open_keyring(settings))
        tenant = tenants.create("Shop", configuration(vendor, fake.url))
        plugin = pipeline.service.load(tenant.id)
        for number in range(ORDERS):
            result = await asyncio.to_thread(plugin.trigger_webhook, "webhook/order", order(number))
            assert result, result.reason

        def ended() -> dict[str, int]:
            pipeline.raise_failure()
            query = select(WEBHOOK_EVENTS.c.kind, func.count()).group_by(WEBHOOK_EVENTS.c.kind)
            with pipeline.engine.connect() as connection:
                found = connection.execute(query).all()
            kinds: dict[str, int] = dict(found)
            return kinds if sum(kinds.get(kind, 0) for kind in FINAL_KINDS) == ORDERS else {}

        kinds = await eventually_async(ended, timeout_s=60 + 10 * ORDERS)
        with pipeline.engine.connect() as connection:
            events = connection.execute(select(WEBHOOK_EVENTS.c.result)).all()
            attempts = select(WEBHOOK_ATTEMPTS.c.error).where(WEBHOOK_ATTEMPTS.c.kind == "unclear")
            unclear = connection.execute(attempts).scalars().all()
    references = Counter(str(each.order.get("reference") or each.order["customerReference"]) for each in _journal(fake))
    # R6: what was unclear was looked for, and sent again only where it was not there.
    assert kinds == {"completed": ORDERS}
    assert references == {f"TENANT-{tenant.id}-{number}": 1 for number in range(ORDERS)}
    assert {orjson.loads(each.result)["reference"] for each in events} == set(references)
    assert unclear
    assert [text for text in unclear if not ADVICE.search(text)] == []


def configuration(vendor: str, url: str) -> dict[str, Any]:
    name = "drukwerkdeal.nl" if vendor == "dwd" else "print.com"
    return {
        "auth": {"url": url, "client_id": "a", "secret": "s", "api_key": "k"},
        "plugin_name": name,
        "plugin_port": 5000,
        "plugin_route_prefix": vendor,
        "plugin_routes": [{"route": "orders", "method": "POST"}, {"route": "webhook/order", "method": "POST"}],
        "webhook_settings": [
            {
                "webhook_endpoint": "webhook/order",
                "pipeline": [{"handler_class": "OrderSubmitHandler", "retry_attempts": 20, "timeout": 60}],
            }
        ],
    }
