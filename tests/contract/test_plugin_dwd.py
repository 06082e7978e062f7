"""The dwd plugin under the contract that every plugin inherits."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from handlers.contract import Context, Handler, PluginManifest
from handlers.dwd.fake import FakeUpstream
from handlers.dwd.manifest import PLUGIN
from handlers.dwd.order import OrderWebhookHandler
from handlers.dwd.quotation import QuotationWebhookHandler
from handlers.registry import load_plugins
from handlers.results import Completed
from handlers.testing import Bench, HandlerContract, PluginContract
from tests.handlers.examples import small


class TestDwdPlugin(PluginContract):
    manifest = PLUGIN
    document = small()

    def test_it_is_installed_by_its_entry_point(self) -> None:
        registry = load_plugins()
        assert registry.find("dwd") is registry.find("drukwerkdeal.nl") is PLUGIN
        assert registry.broken == ()


class TestOrderWebhookHandler(HandlerContract):
    handler: ClassVar[Handler] = OrderWebhookHandler()
    good: ClassVar[Mapping[str, Any]] = {"id": 7, "items": [{"sku": "FLYER-A5", "quantity": 100}]}
    bad: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"id": 7},
        {"id": 7, "items": []},
        {"id": 7, "items": [{"sku": "FLYER-A5"}]},
    )

    @asynccontextmanager
    async def bench(self) -> AsyncIterator[Bench]:
        async with FakeUpstream() as fake:

            def fail(status: int, times: int) -> None:
                fake.behaviour.fail_status, fake.behaviour.fail_next = status, times

            auth = {"url": fake.url, "client_id": "acme", "secret": "s"}
            yield Bench(small(auth=auth), fail, lambda: len(fake.journal))


class TestQuotationWebhookHandler(TestOrderWebhookHandler):
    handler: ClassVar[Handler] = QuotationWebhookHandler()
    good: ClassVar[Mapping[str, Any]] = {"id": 7, "quote_id": "Q-1001", "status": "accepted"}
    bad = (
        {"id": 7, "quote_id": "Q-9", "status": "accepted"},
        {"id": 7, "quote_id": "Q-1002", "status": "accepted"},
        {"quote_id": "Q-1001", "status": "accepted"},
    )


class _Idle:
    async def handle(self, payload: dict[str, Any], context: Context) -> Completed:
        return Completed({})


def test_the_contract_fails_a_handler_that_does_nothing() -> None:
    class Suite(TestOrderWebhookHandler):
        handler = _Idle()

    tests = [getattr(Suite(), name) for name in dir(HandlerContract) if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        with pytest.raises(AssertionError):
            test()


def test_the_contract_fails_a_manifest_of_another_api() -> None:
    class Suite(TestDwdPlugin):
        manifest = PluginManifest(id="x", version="1", handlers=PLUGIN.handlers, api_version=99)

    with pytest.raises(AssertionError):
        Suite().test_the_manifest_fits_this_version()
