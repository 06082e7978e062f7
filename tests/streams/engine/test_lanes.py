"""Order within a key, the window, and the bounds of what waits (R13), under random sequences of what can happen."""

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.engine.lanes import LaneItem, Lanes

WINDOW = 3
PARTITIONS = ("a", "b")


class Numbered(LaneItem):
    __slots__ = ("key", "number")

    def __init__(self, partition: str, is_step: bool, key: str, number: int) -> None:
        super().__init__(partition, 10, is_step)
        self.key = key
        self.number = number


class LanesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.lanes: Lanes[Numbered] = Lanes(WINDOW, 5, 1000)
        self.count = 0
        self.waiting: list[Numbered] = []
        self.running: list[Numbered] = []
        self.recording: list[Numbered] = []
        self.parked: list[Numbered] = []

    @rule(key=st.sampled_from("xyz"), is_step=st.booleans())
    def offer(self, key: str, is_step: bool) -> None:
        self.count += 1
        # A key belongs to one partition number, so lanes of different partitions have different keys here.
        item = Numbered("a" if key == "x" else "b", is_step, key, self.count)
        has_room = self.lanes.offer(key, item)
        self.waiting.append(item)
        assert has_room == (sum(each.partition == item.partition for each in self.waiting) < 5)

    def _startable(self) -> list[Numbered]:
        held = {each.key for each in (*self.running, *self.recording, *self.parked)}
        return [each for each in self.waiting if each.key not in held]

    @rule()
    def take(self) -> None:
        startable = self._startable()
        item = self.lanes.take()
        if len(self.running) >= WINDOW or not startable:
            assert item is None
            return
        assert item is not None
        same = [each for each in startable if each.key == item.key]
        first = next((each for each in same if each.is_step), same[0])
        assert item is first
        assert item.is_step or not any(each.is_step for each in startable), "steps come first"
        self.waiting.remove(item)
        self.running.append(item)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def handler_returns(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.running))
        self.lanes.free_slot(item)
        self.running.remove(item)
        self.recording.append(item)

    @precondition(lambda self: self.recording)
    @rule(data=st.data())
    def outcome_is_acknowledged(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.recording))
        self.lanes.release(item)
        self.recording.remove(item)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.running))
        self.lanes.park(item)
        self.running.remove(item)
        self.parked.append(item)
        self.waiting.insert(0, item)

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def unpark(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self.parked))
        self.parked.remove(item)
        self.lanes.unpark(item.lane)

    def _withdrawable(self) -> list[Numbered]:
        # A parked item waits for what the log says of it, so nobody withdraws it. A lane whose steps are withdrawn
        # keeps its early turn, which this model does not know.
        return [each for each in self.waiting if each not in self.parked and not each.is_step]

    @precondition(lambda self: self._withdrawable())
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(self._withdrawable()))
        assert self.lanes.is_waiting(item)
        self.lanes.withdraw(item)
        assert not self.lanes.is_waiting(item)
        self.waiting.remove(item)
        # It is done with in its own time, whatever its lane does meanwhile.
        self.lanes.release(item)

    @invariant()
    def full_partitions_are_known(self) -> None:
        counts = {name: [each for each in self.waiting if each.partition == name] for name in PARTITIONS}
        full = {name: items for name, items in counts.items() if len(items) >= 5}
        assert self.lanes.full() == {name: len(items) for name, items in full.items()}
        found = self.lanes.waiting_of(full)
        assert found.keys() == full.keys()
        assert all(sorted(map(id, found[name])) == sorted(map(id, full[name])) for name in full)

    @rule(partition=st.sampled_from(PARTITIONS))
    def drop(self, partition: str) -> None:
        gone = [each for each in self.waiting if each.partition == partition]
        assert self.lanes.drop(partition) == len(gone)
        self.waiting = [each for each in self.waiting if each.partition != partition]
        self.parked = [each for each in self.parked if each.partition != partition]

    @invariant()
    def untouched_lanes_are_those_of_which_nothing_is_taken_and_no_step_waits(self) -> None:
        steps = {each.key for each in self.waiting if each.is_step}
        untouched = {lane.key: lane.first for lane in self.lanes.untouched()}
        expected = {each.key for each in self._startable()} - steps
        assert untouched == {key: [each for each in self.waiting if each.key == key] for key in expected}

    @invariant()
    def counts_agree(self) -> None:
        assert self.lanes.waiting == len(self.waiting)
        assert self.lanes.bytes == 10 * len(self.waiting)
        assert self.lanes.running == len(self.running) <= WINDOW


LanesMachine.TestCase.settings = hypothesis_settings(max_examples=150, stateful_step_count=60)
TestLanes = LanesMachine.TestCase


def test_a_hot_key_leaves_the_window_to_others() -> None:
    lanes: Lanes[Numbered] = Lanes(2, 1000, 1_000_000)
    for number in range(100):
        lanes.offer("hot", Numbered("a", False, "hot", number))
    lanes.offer("cold", Numbered("a", False, "cold", 100))
    taken = [lanes.take(), lanes.take()]
    assert [each.key for each in taken if each] == ["hot", "cold"]
