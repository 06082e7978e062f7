import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from handlers.contract import Context
from handlers.outbound import GuardedClient
from handlers.printcom.fake import FakePrintcom
from tests.handlers.examples import small

MakeContext = Callable[..., Context]


@pytest.fixture
async def fake() -> AsyncIterator[FakePrintcom]:
    async with FakePrintcom() as fake:
        yield fake


@pytest.fixture
async def context(fake: FakePrintcom) -> AsyncIterator[MakeContext]:
    """Makes a handler's context against the fake; ``config`` replaces keys of the configuration."""
    async with GuardedClient(["127.0.0.1"], timeout_s=5) as client:

        def make(key: str = "key-1", event_type: str = "order_created", **config: Any) -> Context:
            auth = {"url": fake.url, "api_key": "k3y-canary"}
            prefix = {"plugin_name": "print.com", "plugin_route_prefix": "printcom"}
            return Context(
                tenant_id="1",
                event_id="event-1",
                event_type=event_type,
                endpoint="webhook/order",
                run=1,
                step=0,
                attempt=1,
                idempotency_key=key,
                config=small(**{"auth": auth, **prefix, **config}),
                http=client,
                log=logging.LoggerAdapter(logging.getLogger("test"), {}),
            )

        yield make
