"""What gates let go: limits by control state, and rates that no second exceeds (R15)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from streams.capture.gates import ControlledLimits, GateKeeper, GateLimit
from streams.control.view import Breaker, ControlView, Rate, Weight
from topics.gates import call_back_gate, host_gate, parse_gate, rate_gate, tenant_gate, version_gate

NOW = 1_000_000
CLOSED = Breaker()


class Fixed(NamedTuple):
    """The same limit for every gate."""

    value: GateLimit

    def limit(self, gate: str, now: int) -> GateLimit:
        return self.value


class Controls(ControlView):
    """A control state with one circuit, one rate and one weight."""

    def __init__(self, breaker: Breaker = CLOSED, rate: Rate | None = None, weight: float = 1.0) -> None:
        super().__init__()
        self._told = breaker, rate, Weight(weight)

    def breaker(self, tenant: str, host: str) -> Breaker:
        return self._told[0]

    def rate(self, tenant: str, host: str) -> Rate | None:
        return self._told[1]

    def weight(self, tenant: str) -> Weight:
        return self._told[2]


@pytest.mark.parametrize(
    ("gate", "controls", "expected"),
    [
        (tenant_gate("7"), Controls(), GateLimit(100)),
        (tenant_gate("7"), Controls(weight=2.5), GateLimit(250)),
        (tenant_gate("7"), Controls(weight=0.001), GateLimit(1)),
        (host_gate("7", "h"), Controls(), GateLimit(100)),
        (host_gate("7", "h"), Controls(Breaker("open", NOW + 1)), GateLimit(0)),
        (host_gate("7", "h"), Controls(Breaker("open", NOW)), GateLimit(1)),
        (host_gate("7", "h"), Controls(Breaker("half_open")), GateLimit(1)),
        (rate_gate("7", "h"), Controls(rate=Rate(10, 2.0, 5)), GateLimit(5, 5.0, 5)),
        (rate_gate("7", "h"), Controls(), GateLimit(100)),
        (rate_gate("7", "h"), Controls(Breaker("open", NOW + 1), Rate(10)), GateLimit(0)),
        (rate_gate("7", "h"), Controls(Breaker("half_open"), Rate(10)), GateLimit(1)),
        ("what is this", Controls(), GateLimit(100)),
    ],
)
def test_limits_are_those_of_the_control_state(gate: str, controls: Controls, expected: GateLimit) -> None:
    assert ControlledLimits(controls, 100).limit(gate, NOW) == expected


class Live(NamedTuple):
    """A worker that lives."""

    tier: str
    versions: dict[str, str]
    partitions: tuple[int, ...] = (0,)
    accepts: Mapping[str, str] = MappingProxyType({})


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([], GateLimit(0, tiers=frozenset())),
        ([Live("high", {"dwd": "2.0"})], GateLimit(100, tiers=frozenset({"high"}))),
        ([Live("high", {"dwd": "2.1"}, accepts={"dwd": ">=2,<=2.1"})], GateLimit(100, tiers=frozenset({"high"}))),
        # The relay does not choose which worker of a tier gets a task: one that could not run it shuts the gate.
        ([Live("high", {"dwd": "2.0"}), Live("high", {"dwd": "3.0"})], GateLimit(0, tiers=frozenset())),
        ([Live("high", {"dwd": "3.0"}), Live("high", {"dwd": "2.0"})], GateLimit(0, tiers=frozenset())),
        ([Live("high", {"dwd": "2.0"}), Live("low", {"dwd": "3.0"})], GateLimit(100, tiers=frozenset({"high"}))),
        ([Live("high", {"dwd": "2.0"}), Live("high", {}, ())], GateLimit(100, tiers=frozenset({"high"}))),
        ([Live("high", {})], GateLimit(0, tiers=frozenset())),
    ],
)
def test_a_version_waits_for_tiers_whose_workers_all_carry_it_on(workers: list[Live], expected: GateLimit) -> None:
    limits = ControlledLimits(Controls(), 100, lambda: workers)
    assert limits.limit(version_gate("dwd", "2.0"), NOW) == expected


@pytest.mark.parametrize("name", ["api.example.com", "a|b%7C", "|", "%"])
def test_gates_keep_their_parts(name: str) -> None:
    for gate in (each(name, name) for each in (host_gate, rate_gate, version_gate, call_back_gate)):
        assert tuple(parse_gate(gate))[1:] == (name, name)
    assert parse_gate(tenant_gate(name)) == ("tenant", name, "")


@pytest.mark.parametrize("text", ["", "tenant", "tenant|1|2", "host|1", "other|1|2"])
def test_what_is_no_gate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no gate"):
        parse_gate(text)


def test_as_many_go_as_may_be_on_their_way() -> None:
    keeper = GateKeeper(Fixed(GateLimit(3)))
    assert [keeper.room("g", published) for published in (0, 2, 3, 5)] == [3, 1, 0, -2]


def test_gates_take_turns() -> None:
    keeper = GateKeeper(Fixed(GateLimit(3)))
    assert list(keeper.in_turn(["a", "b", "c"])) == ["a", "b", "c"]
    keeper.take("b", 1)
    assert list(keeper.in_turn(["a", "b", "c"])) == ["c", "a", "b"]
    # A database may leave out `|` where it compares, so that its order is another one.
    keeper.take("host|1|b", 1)
    assert list(keeper.in_turn(["host|10|a", "host|1|b", "host|1|c"])) == ["host|1|c", "host|10|a", "host|1|b"]
    assert list(keeper.in_turn([])) == []


@hypothesis_settings(max_examples=300)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["wait", "start", "end", "takeover"]), st.sampled_from([0.05, 0.3, 20.0])),
        max_size=60,
    ),
    limit=st.integers(1, 10),
    burst=st.integers(1, 8),
)
# A whole burst starts late, and what was saved up meanwhile must not follow it at once.
@example(steps=[*[("wait", 20.0)] * 3, ("start", 0.05), ("end", 0.05), ("start", 0.05)], limit=1, burst=8)
def test_no_second_sees_more_calls_than_the_rate_and_one_burst(
    steps: list[tuple[str, float]], limit: int, burst: int
) -> None:
    """Whenever the relay looks, however long what it released waits for its start, whoever takes over."""
    now = 0.0

    def begin_tenure() -> GateKeeper:
        return GateKeeper(Fixed(GateLimit(burst, float(limit), burst)), lambda: now)

    keeper = begin_tenure()
    released, running, calls = 0, 0, []
    for step, seconds in steps:
        if step == "wait":
            now += seconds
        elif step == "start" and released:
            calls += [now] * released
            running, released = running + released, 0
        elif step == "end":
            running = 0
        elif step == "takeover":
            keeper = begin_tenure()
        room = max(0, keeper.room("g", released + running))
        keeper.take("g", room)
        released += room
    for begin in calls:
        assert sum(begin <= call < begin + 1 for call in calls) <= limit + burst


def test_a_rate_is_used_to_the_full() -> None:
    now = 0.0
    keeper = GateKeeper(Fixed(GateLimit(5, 10.0, 5)), lambda: now)
    released = 0
    for _ in range(1000):
        now += 0.01
        room = keeper.room("g", 0)
        keeper.take("g", room)
        released += room
    assert 95 <= released <= 105
