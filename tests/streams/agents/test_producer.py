"""Publishing within the embedded broker's room (R21)."""

import asyncio
from collections.abc import Mapping

import pytest

from streams.agents.producer import WriterPublisher
from streams.capture.budget import Budget
from streams.engine.outcomes import OutcomeWriter, Outgoing
from streams.settings import Settings
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.embedded


async def test_offsets_come_back_and_a_full_tier_makes_records_wait(embedded_settings: Settings) -> None:
    catalogue = embedded_settings.catalogue()
    tier = catalogue.topic("webhook-high")
    read: dict[int, int] = {}

    asked: list[str] = []

    def committed(topic: str) -> Mapping[int, int]:
        asked.append(topic)
        return dict(read)

    crashes: list[BaseException] = []
    budget = Budget(catalogue, committed, unread_bytes=2500)
    writer = OutcomeWriter(embedded_settings, lambda _, error: crashes.append(error))
    publisher = WriterPublisher(writer, budget, {*catalogue.tier_by_topic, catalogue.scheduled})
    await publisher.start()
    try:
        decided = [Outgoing(catalogue.events, bytes(1000), b"k", [], 1) for _ in range(5)]
        assert await publisher.publish(decided) == [0, 1, 2, 3, 4]
        assert await publisher.publish([]) == []
        too_many = [Outgoing(tier, bytes(1000), b"k", []) for _ in range(3)]
        waiting = asyncio.create_task(publisher.publish(too_many))
        await eventually_async(lambda: len(asked) >= 2)
        assert not waiting.done()
        read[budget.partition(tier, b"k")] = 2
        assert await asyncio.wait_for(waiting, 60) == [0, 1, 2]
        read.clear()
        waiting = asyncio.create_task(publisher.publish([Outgoing(catalogue.scheduled, bytes(1000), b"k", [], 3)] * 3))
        await eventually_async(lambda: catalogue.scheduled in asked)
        assert not waiting.done()
        read[3] = 2
        assert await asyncio.wait_for(waiting, 60) == [0, 1, 2]
    finally:
        await publisher.stop()
    assert crashes == []
