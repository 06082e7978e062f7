"""Attempts and faults of a tier's workers, by what their heartbeats count."""

from dataclasses import replace

from streams.health.rates import FEWEST_ATTEMPTS, WINDOW_S, Rate, TierRate
from tests.streams.control.test_signals import BEAT


def test_counts_of_several_workers_are_added_from_when_they_were_first_heard_of() -> None:
    rates = TierRate()
    one, other = replace(BEAT, attempts=1000, faults=7), replace(BEAT, worker="host:8", attempts=50)
    assert rates.look([one], 100.0) == Rate()
    assert rates.look([replace(one, attempts=1060, faults=7), other], 110.0) == Rate(6.0, 0.0)
    assert rates.look([replace(one, attempts=1060, faults=22), replace(other, attempts=90)], 120.0) == Rate(5.0, 0.15)


def test_a_worker_that_began_anew_counts_from_zero_again() -> None:
    rates = TierRate()
    rates.look([replace(BEAT, attempts=500)], 0.0)
    assert rates.look([replace(BEAT, started_at=2, attempts=3)], 10.0) == Rate()
    assert rates.look([replace(BEAT, started_at=2, attempts=43)], 20.0) == Rate(2.0, 0.0)


def test_a_few_attempts_say_nothing_of_faults_and_old_ones_are_forgotten() -> None:
    rates = TierRate()
    rates.look([BEAT], 0.0)
    few = FEWEST_ATTEMPTS - 1
    assert rates.look([replace(BEAT, attempts=few, faults=few)], 10.0).faults == 0.0
    many = replace(BEAT, attempts=FEWEST_ATTEMPTS, faults=FEWEST_ATTEMPTS)
    assert rates.look([many], 20.0).faults == 1.0
    assert rates.look([many], 21.0 + WINDOW_S) == Rate()
