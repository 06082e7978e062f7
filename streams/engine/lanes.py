"""Which record may start next: order within a key, a window over running tasks, bounded waiting (R13). Pure.

One lane per key spans a tier's topic and its ``.steps``; records of a lane start one after another, lanes with
waiting steps start before the others, and steps start before new work within a lane. Between tenants their shares
decide (``fairness``).
"""

from collections import deque
from collections.abc import Collection, Hashable, Mapping
from typing import Any, Final, Generic, TypeVar

from streams.engine.fairness import FairShare, Share, Turn

_IDLE: Final = 0
_READY: Final = 1
_BUSY: Final = 2
_PARKED: Final = 3


class LaneItem:
    """A record that waits for its turn. ``size`` in bytes; ``is_step`` for records of a ``.steps`` topic."""

    __slots__ = ("holds_slot", "is_step", "lane", "partition", "size", "tenant", "turn")

    lane: "Lane"
    turn: Turn

    def __init__(self, partition: object, size: int, is_step: bool, tenant: str = "") -> None:
        self.tenant = tenant
        self.partition = partition
        self.size = size
        self.is_step = is_step
        self.holds_slot = False


ItemT = TypeVar("ItemT", bound=LaneItem)


class Lane:
    """The waiting records of one key, which is of one tenant."""

    __slots__ = ("first", "key", "state", "steps", "tenant")

    def __init__(self, key: Hashable, tenant: str) -> None:
        self.key = key
        self.tenant = tenant
        # Lists, not deques: most lanes hold one item, and an empty deque takes 760 bytes.
        self.first: list[LaneItem] = []
        self.steps: list[LaneItem] = []
        self.state = _IDLE


class _Ready:
    """The lanes of one tenant that may go on, those with steps apart."""

    __slots__ = ("first", "steps")

    def __init__(self) -> None:
        self.first: deque[Lane] = deque()
        self.steps: deque[Lane] = deque()

    def pop(self) -> Lane | None:
        """The lane whose turn it is; tickets of lanes that have gone on since are thrown away."""
        for queue in (self.steps, self.first):
            while queue:
                lane = queue.popleft()
                if lane.state == _READY and (lane.steps or lane.first):
                    return lane
        return None


class Lanes(Generic[ItemT]):
    """All lanes of one worker.

    An item goes from ``offer`` through ``take`` (its lane is busy, it holds a window slot) and ``free_slot`` (its
    handler has returned) to ``release`` (its outcome is in the log; the lane's next item may start).
    """

    def __init__(
        self,
        window: int,
        waiting_per_partition: int,
        waiting_bytes: int,
        shares: Mapping[str, Share] | None = None,
    ) -> None:
        self.window = window
        self.fairness = FairShare(window, shares)
        self.waiting_per_partition = waiting_per_partition
        self.waiting_bytes = waiting_bytes
        self.running = 0
        self.waiting = 0
        self.bytes = 0
        self._lanes: dict[Hashable, Lane] = {}
        self._ready: dict[str, _Ready] = {}
        self._by_partition: dict[object, int] = {}

    def offer(self, key: Hashable, item: ItemT) -> bool:
        """Let an item wait for its turn. False: the partition has no room for more, so pause it; the item is kept."""
        self.put(key, item)
        return self.has_room(item.partition)

    def put(self, key: Hashable, item: ItemT) -> None:
        """``offer`` where nobody asks for the room."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key, item.tenant)
        item.lane = lane
        (lane.steps if item.is_step else lane.first).append(item)
        self._count(item)
        # A lane that is ready without steps becomes urgent by its first step; its older ticket goes stale.
        if lane.state == _IDLE or (lane.state == _READY and item.is_step):
            self._make_ready(lane)

    def has_room(self, partition: object) -> bool:
        """Whether more records of a partition may be held."""
        return self._by_partition.get(partition, 0) < self.waiting_per_partition and self.bytes < self.waiting_bytes

    @property
    def startable(self) -> bool:
        """Whether ``take`` would probably give an item."""
        return self.running < self.window and bool(self._ready)

    def take(self) -> ItemT | None:
        """The item to start now; ``None`` where the window is full or every lane is busy, parked or empty."""
        while True:
            turn = self.fairness.next(self.running)
            if turn is None:
                return None
            ready = self._ready.get(turn.tenant)
            lane = ready.pop() if ready is not None else None
            if ready is None or not (ready.first or ready.steps):
                self._ready.pop(turn.tenant, None)
                turn.waits = False
            if lane is None:
                continue
            item: ItemT = (lane.steps or lane.first).pop(0)  # type: ignore[assignment]
            lane.state = _BUSY
            self.waiting -= 1
            self.bytes -= item.size
            self._by_partition[item.partition] -= 1
            item.holds_slot = True
            item.turn = turn
            turn.running += 1
            self.running += 1
            return item

    def free_slot(self, item: ItemT) -> None:
        """The item's handler has returned: the window has one more place. The lane stays busy."""
        if item.holds_slot:
            item.holds_slot = False
            self.running -= 1
            self.fairness.ended(item.turn)

    def release(self, item: ItemT) -> None:
        """The item is done with: its lane may go on."""
        if item.holds_slot:
            self.free_slot(item)
        lane = item.lane
        if lane.state == _BUSY:
            self._settle(lane)

    def park(self, item: ItemT) -> None:
        """Put a taken item back to the head of its lane and hold the lane until ``unpark``."""
        self.free_slot(item)
        lane = item.lane
        (lane.steps if item.is_step else lane.first).insert(0, item)
        self._count(item)
        lane.state = _PARKED

    def untouched(self) -> list[Lane]:
        """Lanes of which nothing has been taken and no step waits."""
        return [lane for lane in self._lanes.values() if lane.state == _READY and not lane.steps]

    def unpark(self, lane: Lane) -> None:
        """Let a parked lane go on."""
        if lane.state == _PARKED:
            self._settle(lane)

    def rest(self, tenant: str) -> None:
        """Give nothing of a tenant until ``go_on``; what comes meanwhile waits."""
        # Where an entry is, nobody lets the tenant wait for its turn.
        self._ready.setdefault(tenant, _Ready())
        self.fairness.rest(tenant)

    def go_on(self, tenant: str) -> None:
        """Give again what waits of a tenant that rests."""
        ready = self._ready.get(tenant)
        if ready is not None and (ready.first or ready.steps):
            self.fairness.wait(self.fairness.turn(tenant))
        else:
            self._ready.pop(tenant, None)

    def full(self) -> dict[Any, int]:
        """How many wait of each partition that has no room for more."""
        return {each: count for each, count in self._by_partition.items() if count and not self.has_room(each)}

    def waiting_of(self, partitions: Collection[object]) -> dict[Any, list[ItemT]]:
        """What waits of these partitions, in no order."""
        found: dict[Any, list[ItemT]] = {each: [] for each in partitions}
        if found:
            for lane in self._lanes.values():
                for item in (*lane.steps, *lane.first):
                    if item.partition in found:
                        found[item.partition].append(item)  # type: ignore[arg-type]
        return found

    def is_waiting(self, item: ItemT) -> bool:
        """Whether an item that was offered still waits for its turn."""
        return item in (item.lane.steps if item.is_step else item.lane.first)

    def withdraw(self, item: ItemT) -> None:
        """Take a waiting item that is not parked out before its turn. It has a lane of its own from then on."""
        lane = item.lane
        (lane.steps if item.is_step else lane.first).remove(item)
        self._uncount(item)
        if not lane.steps and not lane.first and lane.state in (_READY, _PARKED):
            lane.state = _IDLE
            self._lanes.pop(lane.key, None)
        item.lane = Lane(lane.key, lane.tenant)

    def drop(self, partition: object) -> int:
        """Forget every waiting item of a partition; returns how many. Taken items are the caller's."""
        if not self._by_partition.get(partition):
            self._by_partition.pop(partition, None)
            return 0
        dropped = 0
        for lane in list(self._lanes.values()):
            for queue in (lane.steps, lane.first):
                kept = [item for item in queue if item.partition is not partition]
                for item in queue:
                    if item.partition is partition:
                        self.waiting -= 1
                        self.bytes -= item.size
                dropped += len(queue) - len(kept)
                queue[:] = kept
            if not lane.steps and not lane.first and lane.state in (_READY, _PARKED):
                lane.state = _IDLE
                self._lanes.pop(lane.key, None)
        self._by_partition.pop(partition, None)
        return dropped

    def _count(self, item: LaneItem) -> None:
        self.waiting += 1
        self.bytes += item.size
        self._by_partition[item.partition] = self._by_partition.get(item.partition, 0) + 1

    def _uncount(self, item: LaneItem) -> None:
        self.waiting -= 1
        self.bytes -= item.size
        self._by_partition[item.partition] -= 1

    def _make_ready(self, lane: Lane) -> None:
        lane.state = _READY
        ready = self._ready.get(lane.tenant)
        if ready is None:
            ready = self._ready[lane.tenant] = _Ready()
            self.fairness.wait(self.fairness.turn(lane.tenant))
        (ready.steps if lane.steps else ready.first).append(lane)

    def _settle(self, lane: Lane) -> None:
        """Ready where something waits, gone where not."""
        if lane.steps or lane.first:
            self._make_ready(lane)
        else:
            lane.state = _IDLE
            self._lanes.pop(lane.key, None)
