"""Shares of the window between tenants (R15): rounds over tenants, nothing left empty, places kept for newcomers."""

from collections import Counter
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from streams.control.view import Weight
from streams.engine.lanes import LaneItem, Lanes

WINDOW = 100
_KEYS = count(1)


def lanes_with(
    waiting: dict[str, int], shares: dict[str, Weight] | None = None, window: int = WINDOW
) -> Lanes[LaneItem]:
    """Lanes in which each tenant has so many records, each of a key of its own."""
    lanes: Lanes[LaneItem] = Lanes(window, 1_000_000, 1 << 40, shares)
    for tenant, records in waiting.items():
        add(lanes, tenant, records)
    return lanes


def add(lanes: Lanes[LaneItem], tenant: str, records: int) -> None:
    for _ in range(records):
        lanes.offer(next(_KEYS), LaneItem("p", 10, False, tenant))


def take_all(lanes: Lanes[LaneItem]) -> list[LaneItem]:
    """What may start now."""
    taken = []
    while (item := lanes.take()) is not None:
        taken.append(item)
    return taken


def rounds(lanes: Lanes[LaneItem], starts: int) -> Counter[str]:
    """Tenants of the next starts, each of which ends at once."""
    order: Counter[str] = Counter()
    for _ in range(starts):
        item = lanes.take()
        assert item is not None
        order[item.tenant] += 1
        lanes.release(item)
    return order


def test_rounds_go_over_tenants_not_keys() -> None:
    order = rounds(lanes_with({"many": 10_000, "few": 50}), 100)
    assert order == {"many": 50, "few": 50}


def test_a_tenant_gets_starts_in_proportion_to_its_weight() -> None:
    order = rounds(lanes_with({"three": 1000, "one": 1000}, {"three": Weight(3.0)}), 400)
    assert 2.7 <= order["three"] / order["one"] <= 3.3


def test_a_weight_holds_from_when_it_is_set() -> None:
    shares: dict[str, Weight] = {}
    lanes = lanes_with({"a": 1000, "b": 1000}, shares)
    assert rounds(lanes, 100) == {"a": 50, "b": 50}
    shares["a"] = Weight(4.0)
    assert rounds(lanes, 500)["a"] > 380


def test_who_was_away_does_not_catch_up() -> None:
    lanes = lanes_with({"a": 1000})
    rounds(lanes, 500)
    add(lanes, "b", 400)
    assert rounds(lanes, 100) == {"a": 50, "b": 50}


def test_a_lone_tenant_uses_the_window_but_for_the_places_that_are_kept() -> None:
    lanes = lanes_with({"a": 1000})
    assert len(take_all(lanes)) == 95


def test_one_whose_upstream_hangs_cannot_take_every_place() -> None:
    lanes = lanes_with({"hangs": 1000})
    take_all(lanes)
    add(lanes, "other", 3)
    taken = take_all(lanes)
    assert [each.tenant for each in taken] == ["other"] * 3
    # What ended comes free for those below their share first.
    add(lanes, "other", 100)
    assert {each.tenant for each in take_all(lanes)} == {"other"}


def test_nobody_starts_beyond_its_share_while_another_is_below_it() -> None:
    lanes = lanes_with({"a": 1000, "b": 1000})
    running = Counter(each.tenant for each in take_all(lanes))
    assert max(running.values()) <= 50
    assert sum(running.values()) >= 95


def test_a_cap_binds_only_while_another_waits() -> None:
    shares = {"a": Weight(1.0, cap=5)}
    alone = lanes_with({"a": 1000}, shares)
    assert len(take_all(alone)) == 95
    both = lanes_with({"a": 1000, "b": 50}, shares)
    order = [each.tenant for each in take_all(both)]
    assert order[:55].count("a") == 5


def test_a_small_window_keeps_nothing_free() -> None:
    assert len(take_all(lanes_with({"a": 10}, window=1))) == 1


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 40)), max_size=12), st.data())
def test_it_is_work_conserving_and_forgets_who_is_gone(offers: list[tuple[str, int]], data: st.DataObject) -> None:
    lanes = lanes_with({})
    running: list[LaneItem] = []
    for tenant, records in offers:
        add(lanes, tenant, records)
        running += take_all(lanes)
        # Either nothing waits, or the window is full but for the places that are kept.
        assert not lanes.waiting or lanes.running >= WINDOW - lanes.fairness.reserve
        for _ in range(data.draw(st.integers(0, len(running)))):
            lanes.release(running.pop())
    while lanes.waiting or running:
        running += take_all(lanes)
        lanes.release(running.pop())
    assert lanes.take() is None
    assert (lanes.running, lanes.waiting) == (0, 0)
    assert not lanes.fairness._turns
    assert abs(lanes.fairness._weights) < 1e-9
