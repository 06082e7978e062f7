"""A tier's health lasts: no flapping, nothing bad concealed."""

from itertools import pairwise
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from topics.health import Status
from topics.hysteresis import BETTER_AFTER_S, Hysteresis

ORDER = list(get_args(Status))
looks = st.lists(st.tuples(st.floats(0.01, 3 * BETTER_AFTER_S), st.sampled_from(ORDER)), min_size=1, max_size=60)


def _history(found: list[tuple[float, Status]]) -> list[tuple[float, Status, Status]]:
    """Times, what was judged, what held."""
    hysteresis, now, history = Hysteresis(), 1000.0, []
    for pause, judged in found:
        now += pause
        history.append((now, judged, hysteresis.settle(judged, now)))
    return history


@given(looks)
def test_what_holds_is_the_worst_of_the_last_while(found: list[tuple[float, Status]]) -> None:
    history = _history(found)
    for now, _, held in history:
        lately = [ORDER.index(judged) for at, judged, _ in history if now - BETTER_AFTER_S < at <= now]
        assert ORDER.index(held) == max(lately)


@given(looks)
def test_it_gets_worse_at_once_and_better_at_most_once_in_a_while(found: list[tuple[float, Status]]) -> None:
    history = _history(found)
    assert all(ORDER.index(held) >= ORDER.index(judged) for _, judged, held in history)
    # Whatever was worse had been judged no later than its time ago.
    for (_, _, before), (now, _, after) in pairwise(history):
        if ORDER.index(after) < ORDER.index(before):
            seen = max(at for at, judged, _ in history if at < now and judged == before)
            assert now - seen >= BETTER_AFTER_S


@given(st.sampled_from(ORDER), st.sampled_from(ORDER), st.floats(0.1, BETTER_AFTER_S / 3))
def test_a_tier_at_the_edge_does_not_flap(one: Status, other: Status, pause: float) -> None:
    held = [held for _, _, held in _history([(pause, each) for each in (one, other) * 40])]
    assert len(set(held[1:])) == 1


@given(looks, st.sampled_from(ORDER))
def test_what_stays_is_believed_in_the_end(found: list[tuple[float, Status]], last: Status) -> None:
    assert _history([*found, (0.1, last), (BETTER_AFTER_S, last)])[-1][2] == last
