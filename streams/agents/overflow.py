"""Makes room where one tenant's records fill what a worker holds and another's wait behind them (R15).

Waiting happens in the worker, a bounded number of records for each partition. A tenant whose upstream hangs would fill
it, and nobody behind could even be seen. What of it is over the tenant's share then goes behind the tenant's gate, in
its order, and comes back as the relay lets it go. It stays where it is while nobody else waits.

Where a partition's records go through in a few seconds nothing is looked for: who waits behind is reached soon, and
sooner than by deferring all that stands before. So a worker that is merely busy pays nothing for this.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from schemas.errors import Undecodable
from schemas.events import now_micros
from streams.agents.deferral import put_behind
from streams.agents.executions import ExecutionLookup
from streams.agents.tier_records import TierTask
from streams.agents.tier_state import TierState
from streams.engine.contract import AssignedPartition
from streams.engine.lookahead import Lookahead
from topics.gates import tenant_gate

LOOK_S: Final = 1.0
"""How often full partitions are looked for, in seconds."""

AGAIN_S: Final = 0.1
"""The same while one has been relieved: it fills up again at once."""

PATIENCE_S: Final = 10.0
"""A partition stands where what waits of it takes longer than this to go through, at its present rate."""

_AT_A_TIME: Final = 50
_MOST_UNDELIVERED: Final = 5000


class Overflow:
    """One per worker, on its event loop."""

    def __init__(self, state: TierState, executions: ExecutionLookup, lookahead: Lookahead) -> None:
        self._state = state
        self._executions = executions
        self._lookahead = lookahead
        self.may_defer: Callable[[int], bool] = _always
        """Asked before each record, by partition number, where the brokers' room is small (R21)."""
        self._seen: dict[AssignedPartition, tuple[int, float]] = {}
        self._relieved: set[AssignedPartition] = set()

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            has_relieved = await self.relieve()
            await asyncio.sleep(AGAIN_S if has_relieved else LOOK_S)

    async def relieve(self) -> bool:
        """Look at each full partition that stands. True: something was deferred."""
        full = self._state.lanes.full()
        standing = self._standing(full)
        if not standing:
            await self._lookahead.rest()
        relieved: set[AssignedPartition] = set()
        for partition, items in self._state.lanes.waiting_of(standing).items():
            if items and not partition.closed and await self._relieve(partition, items, len(full)):
                relieved.add(partition)
        self._relieved = relieved
        return bool(relieved)

    def _standing(self, full: Mapping[AssignedPartition, int]) -> list[AssignedPartition]:
        """Those full partitions that stand, by what was finished of each since the last look.

        One just relieved goes on to: what is deferred counts as finished too, though nothing has moved. One that was
        not full at the last look is looked at the next time.
        """
        now, before = time.monotonic(), self._seen
        self._seen = {each: (each.finished, now) for each in full}
        standing: list[AssignedPartition] = []
        for partition, waiting in full.items():
            if partition.is_careful or partition not in before:
                continue
            finished, at = before[partition]
            gone_through = (partition.finished - finished) * PATIENCE_S
            if partition in self._relieved or gone_through < waiting * (now - at):
                standing.append(partition)
        return standing

    async def _relieve(self, partition: AssignedPartition, items: Sequence[TierTask], full: int) -> bool:
        shares = self._shares(items)
        over = self._over(items, shares, full)
        if not over:
            return False
        begin = max(item.record.offset for item in items) + 1
        crowding = {item.tenant for item in over}
        if all(item.tenant in crowding for item in items):
            # Within the room nobody else waits: then perhaps behind it.
            other = await self._lookahead.other(partition.topic, partition.number, begin, crowding)
            if other is None:
                return False
        count = 0
        for item in over:
            if partition.closed or not self._may_go_on():
                break
            count += self._defer(item)
            if count % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        return count > 0

    def _may_go_on(self) -> bool:
        state = self._state
        return not (state.brake.is_on or state.fence.is_up) and state.writer.undelivered < _MOST_UNDELIVERED

    def _shares(self, items: Sequence[TierTask]) -> dict[str, float]:
        """Each tenant's part of a partition's room, as if one more tenant were there."""
        shares = self._state.admission.shares
        weights = {tenant: shares[tenant].weight if tenant in shares else 1.0 for tenant in {i.tenant for i in items}}
        whole = sum(weights.values()) + 1.0
        return {tenant: weight / whole for tenant, weight in weights.items()}

    def _over(self, items: Sequence[TierTask], shares: dict[str, float], full: int) -> list[TierTask]:
        """What is over its tenant's share, in the order in which it came: the first of each tenant stay."""
        lanes = self._state.lanes
        counts: Counter[str] = Counter()
        sizes: dict[str, int] = defaultdict(int)
        over: list[TierTask] = []
        for item in sorted(items, key=lambda each: each.record.offset):
            tenant, share = item.tenant, shares[item.tenant]
            counts[tenant] += 1
            sizes[tenant] += item.size
            if counts[tenant] > share * lanes.waiting_per_partition or sizes[tenant] > (
                share * lanes.waiting_bytes / full
            ):
                over.append(item)
        return over

    def _defer(self, item: TierTask) -> bool:
        """Put a waiting record behind its gate; False: it stays where it is."""
        state = self._state
        if not state.lanes.is_waiting(item):
            return False
        try:
            item.read()
        except Undecodable:
            # Its turn tells.
            return False
        ledger = item.partition.ledger
        is_known = ledger.knows(item.source, item.identity) or item.repeat_from
        # What a gate has let go is never deferred for its tenant's share again.
        if is_known or item.task.gate is not None or item.identity in state.started:
            return False
        if not state.admission.may_follow(item) or not self.may_defer(item.partition.number):
            return False
        item.execution = self._executions.cached(item.task)
        # Where its turn would send it behind another gate, it goes there at once.
        gate = state.admission.gate(item) if item.execution is not None else None
        state.lanes.withdraw(item)
        item.started_at = now_micros()
        put_behind(state, item, gate or tenant_gate(item.tenant))
        return True


def _always(_number: int) -> bool:
    """Where the brokers have room for all that is deferred."""
    return True
