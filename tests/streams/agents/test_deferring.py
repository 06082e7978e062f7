"""Deferring: a tenant with many deferrals under way rests, the others do not (R15)."""

from streams.agents.deferring import MOST_UNDER_WAY, Deferring
from streams.engine.lanes import LaneItem, Lanes

WINDOW = 1000


def put(lanes: Lanes[LaneItem], tenant: str, count: int) -> None:
    for number in range(count):
        lanes.put((tenant, number, lanes.waiting), LaneItem("a", 1, False, tenant))


def taken(lanes: Lanes[LaneItem], most: int = WINDOW) -> list[str]:
    """Tenants of all that the lanes give."""
    found: list[str] = []
    while len(found) < most and (item := lanes.take()) is not None:
        found.append(item.tenant)
        lanes.release(item)
    return found


def test_a_tenant_rests_until_half_of_its_deferrals_are_acknowledged() -> None:
    lanes: Lanes[LaneItem] = Lanes(WINDOW, 10_000, 1_000_000)
    deferring = Deferring(lanes)
    put(lanes, "noisy", 100)
    assert taken(lanes, MOST_UNDER_WAY) == ["noisy"] * MOST_UNDER_WAY
    for _ in range(MOST_UNDER_WAY):
        deferring.begin("noisy")
    put(lanes, "quiet", 3)
    put(lanes, "noisy", 1)
    assert taken(lanes) == ["quiet"] * 3
    for _ in range(MOST_UNDER_WAY // 2 - 1):
        assert not deferring.end("noisy")
    assert taken(lanes) == []
    assert deferring.end("noisy")
    assert taken(lanes) == ["noisy"] * (101 - MOST_UNDER_WAY)


def test_what_comes_while_nothing_of_a_resting_tenant_waits_waits_too() -> None:
    lanes: Lanes[LaneItem] = Lanes(WINDOW, 10_000, 1_000_000)
    deferring = Deferring(lanes)
    for _ in range(MOST_UNDER_WAY):
        deferring.begin("noisy")
    put(lanes, "noisy", 2)
    assert taken(lanes) == []
    for _ in range(MOST_UNDER_WAY):
        deferring.end("noisy")
    assert taken(lanes) == ["noisy"] * 2


def test_a_rest_that_ends_with_nothing_left_leaves_nothing_behind() -> None:
    lanes: Lanes[LaneItem] = Lanes(WINDOW, 10_000, 1_000_000)
    deferring = Deferring(lanes)
    for _ in range(2):
        for _ in range(MOST_UNDER_WAY):
            deferring.begin("noisy")
        for _ in range(MOST_UNDER_WAY):
            deferring.end("noisy")
        assert not lanes.startable
    put(lanes, "noisy", 1)
    assert taken(lanes) == ["noisy"]
