"""Contains a handler that kills its process (R4): in a careful partition each start is announced in the log."""

from typing import Final

from streams.agents.tier_records import TierTask
from streams.agents.tier_state import TierState
from streams.engine.decide import WorkersDied

MOST_STARTS: Final = 2


async def announce(state: TierState, item: TierTask) -> WorkersDied | None:
    """Write ``started`` before a task runs; what is wrong instead where it was started twice without an outcome."""
    entries = item.partition.ledger.by_source(item.source)
    starts = sum(entry.kind == "started" and entry.identity == item.identity for entry in entries)
    if starts >= MOST_STARTS:
        return WorkersDied(f"{starts} workers died while they ran this task; its handler ends the process")
    await state.note(item, "started", None)
    return None
