"""The state machine of a circuit (R15)."""

from handlers.results import Completed, Rejected
from schemas.errors import Permanent, Retryable, Unknown
from streams.control.view import Breaker
from streams.engine.breaker import BreakerPolicy, Circuit, is_answer, upstream_failure
from streams.engine.decide import TimedOut

S = 1_000_000
POLICY = BreakerPolicy(failures=3, window_s=60, open_s=10, longest_s=35)


def opened(at: int = 100 * S) -> Circuit:
    circuit = Circuit(POLICY)
    assert [circuit.failed(at - 1, at) for _ in range(3)] == [False, False, True]
    return circuit


def test_it_opens_at_so_many_failures_in_a_row() -> None:
    circuit = opened()
    assert circuit.state == Breaker("open", 110 * S, 3, 100 * S)
    circuit = Circuit(POLICY)
    for second in range(1, 20):
        assert not circuit.failed(second * S, second * S)
        assert not circuit.failed(second * S, second * S)
        assert not circuit.succeeded(second * S, second * S)
    assert circuit.is_idle


def test_failures_spread_wider_than_the_window_do_not_open_it() -> None:
    circuit = Circuit(POLICY)
    assert not any(circuit.failed(minute * 61 * S, minute * 61 * S) for minute in range(1, 20))


def test_the_upstream_may_name_the_time_itself() -> None:
    circuit = Circuit(POLICY)
    assert circuit.failed(S, 2 * S, retry_after_s=120)
    assert (circuit.state.state, circuit.state.open_until) == ("open", 122 * S)


def test_a_probe_goes_when_the_time_is_up_and_its_answer_closes_it() -> None:
    circuit = opened()
    assert not circuit.probes(109 * S)
    assert circuit.probes(110 * S)
    assert (circuit.state.state, circuit.is_closed) == ("half_open", False)
    assert circuit.succeeded(110 * S, 111 * S)
    assert circuit.state == Breaker(since=111 * S)


def test_a_failed_probe_opens_it_for_twice_as_long_within_bounds() -> None:
    circuit, now, waits = opened(), 100 * S, []
    for _ in range(4):
        now = circuit.state.open_until
        assert circuit.probes(now)
        assert circuit.failed(now, now)
        waits.append((circuit.state.open_until - now) // S)
    assert waits == [20, 35, 35, 35]


def test_calls_from_before_it_opened_say_nothing() -> None:
    circuit = opened()
    assert not circuit.succeeded(99 * S, 105 * S)
    assert not circuit.failed(99 * S, 105 * S)
    assert circuit.state == Breaker("open", 110 * S, 3, 100 * S)


def test_it_adopts_what_is_later_and_not_its_own_echo() -> None:
    circuit = opened()
    circuit.adopt(Breaker(since=90 * S))
    assert circuit.state.since == 100 * S
    circuit.adopt(Breaker("half_open", 110 * S, 3, 100 * S))
    assert circuit.state.state == "half_open"
    circuit.adopt(Breaker(since=120 * S))
    assert circuit.state == Breaker(since=120 * S)
    circuit.adopt(Breaker("open", 110 * S, 3, 100 * S))
    assert circuit.state == Breaker(since=120 * S)


def test_which_verdicts_count() -> None:
    failures = [TimedOut("t"), *(Retryable("x", code=code) for code in ("not_connected", "connection", "http_503"))]
    assert [upstream_failure(each) for each in failures] == failures
    for each in failures:
        unclear = Unknown("whether the order was placed is not known")
        unclear.__cause__ = each
        assert upstream_failure(unclear) is each
    others = [Retryable("not processed yet"), ValueError("a bug"), Permanent("no"), Rejected("no"), Completed({})]
    assert [upstream_failure(each) for each in (*others, Unknown("nobody knows"))] == [None] * 6
    assert [is_answer(each) for each in others] == [False, False, True, True, True]
