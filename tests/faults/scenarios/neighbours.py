"""What one does to the others: a flood of the low tier must not slow the high one (F18)."""

import random
from typing import Final

from tests.faults.checker import Evidence, lateness, quantile
from tests.faults.laboratory import Laboratory
from tests.faults.load import Wanted
from tests.faults.scenario import Scenario, Size

LOW: Final = "webhook-low"
LOW_PRIORITY: Final = 1
FLOOD_RATE: Final = 2000.0
LEAST_BOUND_S: Final = 0.1
_FLOOD_S: Final = 900.0


def play_flood(laboratory: Laboratory, size: Size) -> None:
    """Measure the high tier alone, then while the low tier has thousands of events waiting."""
    load = laboratory.start(1)
    laboratory.supervisor.add("work", LOW)
    laboratory.wait_members(1, LOW)
    flood = laboratory.tenant()
    load.start(size.rate)
    # Roles that have just started look up their tenant, fill caches and pools: that is no measure of an idle tier.
    laboratory.hold(size.step_s / 2)
    laboratory.mark("alone")
    laboratory.hold(size.step_s)
    load.stop()
    flood.start(FLOOD_RATE, keys=200, shape=_slow, events=size.events)
    flood.wait()
    # Until they have left the outbox: what is measured is the tiers, not the relay's one queue.
    laboratory.wait_accepted(len(load.requested) + len(flood.requested), _FLOOD_S)
    laboratory.notes["waiting_at_begin"] = laboratory.waiting(LOW)
    laboratory.mark("flooded")
    load.start(size.rate)
    laboratory.hold(size.step_s)
    load.stop()
    laboratory.notes["waiting_at_end"] = laboratory.waiting(LOW)


def _slow(_sequence: int, _chance: random.Random) -> Wanted:
    return Wanted({"sleep_s": 0.2}, priority=LOW_PRIORITY)


def examine_flood(laboratory: Laboratory, evidence: Evidence, _size: Size) -> None:
    """The 99th percentile from request to start, alone and beside the flood."""
    high = {each.event_id for each in laboratory.loads[0].requested}
    alone, flooded = (fault.at for fault in laboratory.faults)
    waits: dict[str, float] = {}
    for name, begin, end in (("alone", alone, flooded), ("flooded", flooded, laboratory.load_ended)):
        chosen = [each for each in evidence.requested if each.event_id in high and begin <= each.due < end]
        late = lateness(Evidence(chosen, evidence.executions, (), {}))
        waits[name] = quantile(late, 0.99)
        laboratory.notes[f"{name}_p50_s"] = round(quantile(late, 0.5), 3)
        laboratory.notes[f"{name}_p99_s"] = round(waits[name], 3)
    bound = max(3 * waits["alone"], LEAST_BOUND_S)
    if waits["flooded"] > bound:
        laboratory.violations.append(f"99 % start within {waits['flooded']:.3f} s, {bound:.3f} s is the bound")
    if not laboratory.notes["waiting_at_end"]:
        laboratory.violations.append("the flood was over before the measurement: ask for more events")


SCENARIOS: Final = (
    Scenario(
        "flood",
        "200 ms handlers waiting in the low tier, the high tier's latency",
        play_flood,
        full=Size(rate=50, events=100_000, faults=2, step_s=30, settle_s=900),
        examine=examine_flood,
    ),
)
