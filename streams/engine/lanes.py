"""Which record may start next: order within a key, a window over running tasks, bounded waiting (R13). Pure.

One lane per key spans a tier's topic and its ``.steps``; records of a lane start one after another, lanes with
waiting steps start before the others, and steps start before new work within a lane.
"""

from collections import deque
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

_IDLE: Final = 0
_READY: Final = 1
_BUSY: Final = 2
_PARKED: Final = 3


class LaneItem:
    """A record that waits for its turn. ``size`` in bytes; ``is_step`` for records of a ``.steps`` topic."""

    __slots__ = ("holds_slot", "is_step", "lane", "partition", "size")

    lane: "Lane"

    def __init__(self, partition: object, size: int, is_step: bool) -> None:
        self.partition = partition
        self.size = size
        self.is_step = is_step
        self.holds_slot = False


ItemT = TypeVar("ItemT", bound=LaneItem)


class Lane:
    """The waiting records of one key."""

    __slots__ = ("first", "key", "state", "steps")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        # Lists, not deques: most lanes hold one item, and an empty deque takes 760 bytes.
        self.first: list[LaneItem] = []
        self.steps: list[LaneItem] = []
        self.state = _IDLE


class Lanes(Generic[ItemT]):
    """All lanes of one worker.

    An item goes from ``offer`` through ``take`` (its lane is busy, it holds a window slot) and ``free_slot`` (its
    handler has returned) to ``release`` (its outcome is in the log; the lane's next item may start).
    """

    def __init__(self, window: int, waiting_per_partition: int, waiting_bytes: int) -> None:
        self.window = window
        self.waiting_per_partition = waiting_per_partition
        self.waiting_bytes = waiting_bytes
        self.running = 0
        self.waiting = 0
        self.bytes = 0
        self._lanes: dict[Hashable, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._ready_steps: deque[Lane] = deque()
        self._by_partition: dict[object, int] = {}

    def offer(self, key: Hashable, item: ItemT) -> bool:
        """Let an item wait for its turn. False: the partition has no room for more, so pause it; the item is kept."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        item.lane = lane
        (lane.steps if item.is_step else lane.first).append(item)
        self._count(item, 1)
        # A lane that is ready without steps becomes urgent by its first step; its older ticket goes stale.
        if lane.state == _IDLE or (lane.state == _READY and item.is_step):
            self._make_ready(lane)
        return self.has_room(item.partition)

    def has_room(self, partition: object) -> bool:
        """Whether more records of a partition may be held."""
        return self._by_partition.get(partition, 0) < self.waiting_per_partition and self.bytes < self.waiting_bytes

    @property
    def startable(self) -> bool:
        """Whether ``take`` would probably give an item."""
        return self.running < self.window and bool(self._ready_steps or self._ready)

    def take(self) -> ItemT | None:
        """The item to start now; ``None`` where the window is full or every lane is busy, parked or empty."""
        if self.running >= self.window:
            return None
        while True:
            if self._ready_steps:
                lane = self._ready_steps.popleft()
            elif self._ready:
                lane = self._ready.popleft()
            else:
                return None
            if lane.state != _READY:
                continue
            queue = lane.steps or lane.first
            if not queue:
                self._settle(lane)
                continue
            item: ItemT = queue.pop(0)  # type: ignore[assignment]
            lane.state = _BUSY
            self._count(item, -1)
            item.holds_slot = True
            self.running += 1
            return item

    def free_slot(self, item: ItemT) -> None:
        """The item's handler has returned: the window has one more place. The lane stays busy."""
        if item.holds_slot:
            item.holds_slot = False
            self.running -= 1

    def release(self, item: ItemT) -> None:
        """The item is done with: its lane may go on."""
        self.free_slot(item)
        if item.lane.state == _BUSY:
            self._settle(item.lane)

    def park(self, item: ItemT) -> None:
        """Put a taken item back to the head of its lane and hold the lane until ``unpark``."""
        self.free_slot(item)
        lane = item.lane
        (lane.steps if item.is_step else lane.first).insert(0, item)
        self._count(item, 1)
        lane.state = _PARKED

    def unpark(self, lane: Lane) -> None:
        """Let a parked lane go on."""
        if lane.state == _PARKED:
            self._settle(lane)

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

    def _count(self, item: LaneItem, by: int) -> None:
        self.waiting += by
        self.bytes += by * item.size
        self._by_partition[item.partition] = self._by_partition.get(item.partition, 0) + by

    def _make_ready(self, lane: Lane) -> None:
        lane.state = _READY
        (self._ready_steps if lane.steps else self._ready).append(lane)

    def _settle(self, lane: Lane) -> None:
        """Ready where something waits, gone where not."""
        if lane.steps or lane.first:
            self._make_ready(lane)
        else:
            lane.state = _IDLE
            self._lanes.pop(lane.key, None)
