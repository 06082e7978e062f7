"""Time: delays over restarts of everything."""

import random
from collections.abc import Sequence
from typing import Final

from tests.faults.checker import Evidence, quantile
from tests.faults.laboratory import Laboratory
from tests.faults.load import Wanted
from tests.faults.scenario import Scenario, Size
from tests.support.waiting import eventually

WORKERS: Final = 2
LONGEST_DELAY_S: Final = 120
LATENESS_S: Final = 1.0
"""Bound of the 99th percentile outside the restarts, in seconds."""

NOTICED_S: Final = 3
"""By then a restart shows, whatever was restarted, in seconds."""


def play_delays(laboratory: Laboratory, size: Size) -> None:
    """Events with delays of all lengths; meanwhile relay, projector, a worker and the broker are restarted in turn."""
    load = laboratory.start(WORKERS)
    longest = _longest(size)

    def shape(_sequence: int, chance: random.Random) -> Wanted:
        return Wanted({"sleep_s": 0.005}, delay_s=chance.randint(1, longest))

    load.start(size.rate, shape=shape, events=size.events)
    units = (laboratory.relay, laboratory.projector, laboratory.workers[0], None)
    for number in range(size.faults):
        laboratory.hold(size.step_s)
        unit = units[number % len(units)]
        if unit is None:
            laboratory.mark("restart of the broker")
            for worker in laboratory.workers:
                worker.disturb()
            laboratory.kafka.restart(1)
            # On a slow machine the next restart would else come before the end of this one.
            eventually(laboratory.kafka.is_whole, 180, "the broker answers")
        else:
            laboratory.mark(f"restart of {unit.role.name}")
            unit.kill()
            unit.start()
    load.wait()
    laboratory.hold(longest)


def _longest(size: Size) -> int:
    """Long enough that each restart falls into somebody's delay."""
    return min(LONGEST_DELAY_S, int(size.step_s * size.faults))


def examine_delays(laboratory: Laboratory, evidence: Evidence, _size: Size) -> None:
    """How late they came, apart from those that were due between a restart and the first calm second after it."""
    begins = {each.task.event_id: each.began for each in sorted(evidence.executions, key=lambda one: -one.began)}
    due = [(each.due, begins[each.event_id] - each.due) for each in evidence.requested if each.event_id in begins]
    windows = [(fault.at - 1.0, _calm_from(due, fault.at)) for fault in laboratory.faults]
    calm = sorted(late for when, late in due if not any(begin <= when < end for begin, end in windows))
    laboratory.notes["lateness_p50_s"] = round(quantile(calm, 0.5), 3)
    laboratory.notes["lateness_p99_s"] = round(quantile(calm, 0.99), 3)
    laboratory.notes["lateness_max_s"] = round(max(late for _, late in due), 3)
    laboratory.notes["calm_after_s"] = [round(end - begin - 1.0, 1) for begin, end in windows]
    laboratory.notes["due_outside_restarts"] = len(calm)
    if quantile(calm, 0.99) >= LATENESS_S:
        laboratory.violations.append(f"the 99th percentile of lateness is {quantile(calm, 0.99):.2f} s")


def _calm_from(due: Sequence[tuple[float, float]], fault: float) -> float:
    """Begin of the first second in which nothing was due that came late, from ``NOTICED_S`` after the fault on."""
    late_seconds = {int(when - fault) for when, late in due if late >= LATENESS_S}
    second = NOTICED_S
    while second in late_seconds:
        second += 1
    return fault + second


SCENARIOS: Final = (
    Scenario(
        "delays",
        "delays of 1 to 120 s over restarts of relay, projector, worker and broker",
        play_delays,
        full=Size(rate=100, events=10_000, faults=12, step_s=14, settle_s=120),
        # What was due during a restart comes all at once, in the order of due times: a key's events were delayed.
        allowed=frozenset({"repeated", "repeated_without_reason", "inversions"}),
        examine=examine_delays,
    ),
)
