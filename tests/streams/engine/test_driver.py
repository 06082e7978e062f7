"""The driver's own order of things, where a broker could not be made to show it each time."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from faust.types.tuples import TP

from streams.engine.assignment import Position
from streams.engine.driver import BatchConsumer
from streams.engine.fence import Fence
from tests.support.waiting import eventually_async

PLACE = TP("tier", 0)


class Thread:
    """The consumer's thread, as far as a seek or a fetch asks it."""

    def __init__(self) -> None:
        self.sought: list[Mapping[TP, int]] = []
        self.fetches: list[asyncio.Future[dict[TP, list[int]]]] = []

    def begin_fetch(self, _partitions: Collection[TP], _wait_s: float) -> "asyncio.Future[dict[TP, list[int]]]":
        self.fetches.append(asyncio.get_running_loop().create_future())
        return self.fetches[-1]

    async def positions(self) -> dict[TP, Position]:
        return {PLACE: Position(7, None)}

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        self.sought.append(offsets)


class Assigned:
    """An assignment of one partition of which nothing is known yet."""

    def take(self, positions: Mapping[TP, Position], generation: int) -> dict[TP, int]:
        return {tp: position.offset for tp, position in positions.items()}

    def marks(self) -> dict[TP, Any]:
        return {}


class App:
    consumer_generation_id = 3
    fence = Fence(6.0)


async def test_a_fetch_of_the_stopped_flow_that_ends_amid_a_seek_is_sought_back() -> None:
    consumer: Any = BatchConsumer.__new__(BatchConsumer)
    consumer._stops, consumer._behind, consumer._read_offset = 1, True, {}
    consumer.assigned, consumer.app, consumer._thread = Assigned(), App(), Thread()
    seen: list[bool] = []

    async def commit(_marks: object) -> bool:
        # While the assignment is marked (R4), the older fetch comes back and is thrown away.
        seen.append(consumer._behind)
        consumer._behind = True
        return False

    consumer._commit = commit
    await consumer.perform_seek()
    assert consumer._thread.sought == [{PLACE: 7}]
    assert (seen, consumer._behind) == ([False], True)


class Fetched:
    """An assignment whose partition expects its first record."""

    def next_offsets(self) -> dict[TP, int]:
        return {PLACE: 7}


class Fetching(BatchConsumer):
    """A consumer whose fetches are given, and told to ``_messages`` as they are."""

    should_stop = False

    def _get_active_partitions(self) -> set[TP]:
        return {PLACE}

    def _has_room(self, tp: TP) -> bool:
        return True

    async def _messages(self, records: Any) -> list[Any]:
        return list(records.items())


def fetching() -> Any:
    consumer: Any = Fetching.__new__(Fetching)
    consumer._stops, consumer._behind, consumer._ahead, consumer.flow_active = 1, False, None, True
    consumer.assigned, consumer._thread = Fetched(), Thread()
    return consumer


async def taken(consumer: Any) -> list[Any]:
    """What one call of ``getmany`` gives out."""
    return [each async for each in consumer.getmany(1.0)]


async def begun(consumer: Any, count: int) -> "asyncio.Future[dict[TP, list[int]]]":
    """The fetch with that number, once it has been begun."""
    await eventually_async(lambda: len(consumer._thread.fetches) >= count)
    found: asyncio.Future[dict[TP, list[int]]] = consumer._thread.fetches[count - 1]
    return found


async def test_a_fetch_during_which_the_flow_was_stopped_is_discarded_and_sought_again() -> None:
    """R23. Its records have moved the positions, and nobody would ever finish them."""
    consumer = fetching()
    first = asyncio.create_task(taken(consumer))
    fetch = await begun(consumer, 1)
    # The flow is stopped, and goes on before the fetch is back.
    consumer._stops += 1
    fetch.set_result({PLACE: [7]})
    assert await first == []
    assert consumer._thread.sought == []
    second = asyncio.create_task(taken(consumer))
    (await begun(consumer, 2)).set_result({PLACE: [7]})
    assert await second == [(PLACE, [7])]
    assert consumer._thread.sought == [{PLACE: 7}]


async def test_the_next_fetch_is_begun_before_records_are_given_out_and_is_the_next_to_be_taken() -> None:
    consumer = fetching()
    first = consumer.getmany(1.0)
    giving = asyncio.create_task(anext(first))
    (await begun(consumer, 1)).set_result({PLACE: [7]})
    assert await giving == (PLACE, [7])
    ahead = await begun(consumer, 2)
    assert [each async for each in first] == []
    ahead.set_result({PLACE: [8]})
    assert await taken(consumer) == [(PLACE, [8])]
    assert consumer._thread.sought == []


async def test_what_was_fetched_ahead_of_a_stop_is_discarded_and_sought_again() -> None:
    """R23. It was complete before the stop, and nobody had asked for it yet."""
    consumer = fetching()
    first = asyncio.create_task(taken(consumer))
    (await begun(consumer, 1)).set_result({PLACE: [7]})
    await first
    (await begun(consumer, 2)).set_result({PLACE: [8]})
    consumer._stops += 1
    assert await taken(consumer) == []
    third = asyncio.create_task(taken(consumer))
    (await begun(consumer, 3)).set_result({PLACE: [8]})
    assert await third == [(PLACE, [8])]
    assert consumer._thread.sought == [{PLACE: 7}]


class Processor:
    """Lets go when it is told to, and does not tell before somebody waits for it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.told = asyncio.Event()

    async def hand_over(self, _partitions: Sequence[Any], _grace_s: float) -> None:
        self.asked.set()
        await self.told.wait()


class Revoked:
    """An assignment that is closed once, and has nothing to commit."""

    def __init__(self) -> None:
        self.processor = Processor()
        self._open = [PLACE]

    def close(self) -> list[Any]:
        closed, self._open = self._open, []
        return closed

    def commits(self) -> dict[TP, Any]:
        return {}

    def forget(self) -> None:
        pass


async def test_an_end_amid_a_revocation_waits_until_all_is_handed_over() -> None:
    """R5. Else it stops the thread that the revocation's commit needs, and the group waits for the member."""
    consumer: Any = BatchConsumer.__new__(BatchConsumer)
    consumer.assigned, consumer.app, consumer._letting_go = Revoked(), App(), asyncio.Lock()
    consumer.app.handed_over, consumer.app.rebalance_grace_s = asyncio.Event(), 1.0
    consumer._commit_fut, consumer._clean_unacked_messages = None, lambda: None
    revocation = asyncio.create_task(consumer.wait_empty())
    await consumer.assigned.processor.asked.wait()
    end = asyncio.create_task(consumer.wait_empty())
    # One more turn of the loop than the end would need if it did not wait.
    for _ in range(3):
        await asyncio.sleep(0)
    assert not end.done()
    assert not consumer.app.handed_over.is_set()
    consumer.assigned.processor.told.set()
    await asyncio.gather(revocation, end)
    assert consumer.app.handed_over.is_set()
