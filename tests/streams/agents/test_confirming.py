"""An intent of an embedded installation counts once it is projected (R6)."""

import asyncio
from threading import Thread

from streams.agents.confirming import ProjectedIntents
from tests.support.waiting import eventually_async


async def test_each_intent_waits_until_its_own_record_is_on_the_disk() -> None:
    intents, counted = ProjectedIntents("events"), []

    async def confirm(partition: int, offset: int) -> None:
        await intents.confirm(partition, offset)
        counted.append((partition, offset))

    waiting = [asyncio.create_task(confirm(*place)) for place in ((0, 4), (0, 5), (1, 0), (0, 6))]
    given_up = waiting.pop()
    await asyncio.sleep(0)
    given_up.cancel()
    # A position is the offset of the next record.
    for positions in ({("events", 0): 4, ("other", 1): 9}, {("events", 0): 5}):
        thread = Thread(target=intents.written, args=(positions,))
        thread.start()
        thread.join()
    await eventually_async(lambda: counted == [(0, 4)])
    intents.written({("events", 0): 8, ("events", 1): 1})
    await asyncio.gather(*waiting)
    assert sorted(counted) == [(0, 4), (0, 5), (1, 0)]
    await asyncio.wait_for(intents.confirm(0, 7), 60)
