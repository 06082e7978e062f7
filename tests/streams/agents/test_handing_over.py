"""How long a worker waits before it claims what still runs (R5)."""

import asyncio

from streams.agents.handing_over import quiet


async def test_what_ends_one_after_the_other_is_waited_for() -> None:
    counts = [5, 4, 4, 3, 2, 1, 0]

    def running() -> int:
        return counts.pop(0)

    await asyncio.wait_for(quiet(running, 600.0), 60)
    assert counts == []


async def test_where_nothing_ends_the_partitions_do_not_stand_still_for_the_whole_grace() -> None:
    """Each join and each leave holds the whole group up for as long."""
    await asyncio.wait_for(quiet(lambda: 3, 600.0), 60)


async def test_the_grace_is_the_longest_wait() -> None:
    asked: list[int] = []

    def running() -> int:
        asked.append(1)
        return 1_000_000 - len(asked)

    await asyncio.wait_for(quiet(running, 0.05), 60)
    assert asked
