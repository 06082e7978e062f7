"""How much waits and for how long, by looks at where partitions end."""

from hypothesis import given
from hypothesis import strategies as st

from streams.health.loads import Load, TierLoad
from streams.health.offsets import Place, Progress
from topics.health import OVERDUE_S

ONE: Place = ("tier", 0)
OTHER: Place = ("tier", 1)


def test_what_has_just_come_is_no_burden_and_what_stays_is() -> None:
    loads = TierLoad()
    assert loads.look({ONE: Progress(0, 0)}, 100.0, {}) == Load()
    assert loads.look({ONE: Progress(0, 300)}, 101.0, {}) == Load(300, 0, 0.0)
    # 200 of these are done a while later, and 50 more have come.
    assert loads.look({ONE: Progress(200, 350)}, 101.0 + OVERDUE_S, {}) == Load(150, 100, OVERDUE_S)
    assert loads.look({ONE: Progress(310, 350)}, 102.0 + OVERDUE_S, {}) == Load(40, 0, 1.0)


def test_a_busy_tier_always_lags_and_is_never_overdue() -> None:
    loads = TierLoad()
    for second in range(60):
        end = 5000 * second
        found = loads.look({ONE: Progress(max(0, end - 2500), end)}, float(second), {})
        assert found.overdue == 0
        assert found.oldest_s <= 1.0


def test_at_a_first_look_the_lag_is_as_old_as_its_first_record() -> None:
    loads = TierLoad()
    assert loads.look({ONE: Progress(10, 260), OTHER: Progress(5, 7)}, 50.0, {ONE: 90.0}) == Load(252, 250, 90.0)
    assert loads.look({ONE: Progress(260, 260), OTHER: Progress(5, 7)}, 51.0, {ONE: 90.0}) == Load(2, 0, 1.0)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), min_size=1, max_size=300))
def test_it_never_counts_more_than_waits_nor_forgets_the_oldest(steps: list[tuple[int, int]]) -> None:
    """Against a list of every record with the time at which it was first seen."""
    loads, written, done = TierLoad(), [], 0
    for now, (more, finished) in enumerate(steps):
        written += [float(now)] * more
        done = min(len(written), done + finished)
        found = loads.look({ONE: Progress(done, len(written))}, float(now), {})
        waiting = written[done:]
        assert found.lag == len(waiting)
        assert found.overdue <= sum(now - seen >= OVERDUE_S for seen in waiting)
        oldest = now - waiting[0] if waiting else 0.0
        # Of a long history looks are forgotten: then it is younger than it was, by a few looks.
        assert 0 <= oldest - found.oldest_s <= (0 if now < 200 else 8)
