"""The printcom plugin under the contract that every plugin inherits."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from handlers.contract import Handler
from handlers.printcom.fake import FakePrintcom
from handlers.printcom.manifest import PLUGIN
from handlers.printcom.order import OrderWebhookHandler
from handlers.registry import load_plugins
from handlers.testing import Bench, HandlerContract, PluginContract
from tests.handlers.examples import small

PREFIX = {"plugin_name": "print.com", "plugin_route_prefix": "printcom"}


class TestPrintcomPlugin(PluginContract):
    manifest = PLUGIN
    document = small(**PREFIX, auth={"api_key": "k"})

    def test_it_is_installed_by_its_entry_point(self) -> None:
        registry = load_plugins()
        assert registry.find("printcom") is registry.find("print.com") is PLUGIN
        assert registry.broken == ()


class TestOrderWebhookHandler(HandlerContract):
    handler: ClassVar[Handler] = OrderWebhookHandler()
    good: ClassVar[Mapping[str, Any]] = {"id": 7, "items": [{"sku": "flyers", "quantity": 100}]}
    bad = ({}, {"id": 7}, {"id": 7, "items": []}, {"id": 7, "items": [{"sku": "flyers"}]})

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[Bench]:
        async with FakePrintcom() as fake:
            fake.behaviour.honours_key = False

            def fail(status: int, times: int) -> None:
                fake.behaviour.fail_status, fake.behaviour.fail_next = status, times

            auth = {"url": fake.url, "api_key": "key"}
            yield Bench(small(**PREFIX, auth=auth), fail, lambda: len(fake.journal))
