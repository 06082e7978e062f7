"""Proof of the stand-in that fault runs call: it counts, hangs and answers."""

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest

from tests.faults.upstream import Upstream
from tests.support.waiting import eventually_async


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    made = Upstream()
    yield made
    made.close()


async def test_each_call_is_answered_and_noted(upstream: Upstream) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.post(upstream.url, json={"sequence": 1}) as answer:
                assert (answer.status, await answer.json()) == (200, {})
    assert len(upstream.calls) == 2


async def test_who_calls_while_it_hangs_is_answered_afterwards(upstream: Upstream) -> None:
    upstream.hang()
    async with aiohttp.ClientSession() as session:
        call = asyncio.ensure_future(session.post(upstream.url, json={}))
        await eventually_async(lambda: len(upstream.calls) == 1)
        assert not call.done()
        upstream.answer()
        async with await call as answer:
            assert answer.status == 200
