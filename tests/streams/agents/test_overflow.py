"""When somebody is looked for behind a full partition (R15); with records: tests/integration/test_overflow.py."""

from streams.agents.tier import TierProcessor
from streams.engine.contract import AssignedPartition
from streams.engine.outcomes import OutcomeWriter
from streams.settings import Settings
from tests.streams.agents.support import Partition
from tests.streams.engine.workload import TIER, FunctionExecutions, complete

ROOM = 2000


async def test_only_a_partition_that_stands_is_looked_behind(embedded_settings: Settings) -> None:
    writer = OutcomeWriter(embedded_settings, lambda *_: None)
    overflow = TierProcessor(TIER, embedded_settings, FunctionExecutions(complete), writer, lambda *_: None).overflow
    standing, moving = Partition(number=0), Partition(number=1)
    full: dict[AssignedPartition, int] = {standing: ROOM, moving: ROOM}
    assert overflow._standing(full) == []  # nothing is known yet of how they move
    moving.finished_offsets += range(ROOM)
    assert overflow._standing(full) == [standing]
    # What is deferred is finished too, and nothing has moved by it.
    overflow._relieved = {standing}
    standing.finished_offsets += range(ROOM)
    moving.finished_offsets += range(ROOM)
    assert overflow._standing(full) == [standing]
    full = {Partition(number=2, is_careful=True): ROOM}
    assert overflow._standing(full) == overflow._standing(full) == []
    await writer.stop()
