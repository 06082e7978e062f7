"""Routing goes round a tier whose workers have died, and comes back to it; equal tiers share what comes (R17)."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from schemas.events import TaskEvent
from streams.control.log import follow_control
from streams.control.view import ControlView
from streams.health.snapshots import told_states
from tests.faults.checker import Evidence
from tests.faults.laboratory import TIER, Laboratory
from tests.faults.scenario import Scenario, Size
from tests.support.waiting import eventually
from topics.routing import DEFAULT_RULES

RULE: Final = DEFAULT_RULES[1].tiers
"""The tiers of urgent events, the first of them that of the laboratory's own workers."""

LEAST, MOST = 0.20, 0.47
ILL_WITHIN_S: Final = 15.0
WELL_WITHIN_S: Final = 30.0
WORKERS: Final = 2


def play(laboratory: Laboratory, size: Size) -> None:
    """An even load on three tiers; then the workers of the first are killed, and after a while started again."""
    load = laboratory.start(WORKERS)
    for tier in RULE[1:]:
        for _ in range(WORKERS):
            laboratory.supervisor.add("work", tier)
    laboratory.supervisor.add("monitor")
    for tier in RULE[1:]:
        laboratory.wait_members(WORKERS, tier)
    view = ControlView()
    follower = follow_control(laboratory.settings, view, lambda _name, _error: None)
    follower.start()
    laboratory.cleanup.callback(follower.stop)
    _wait(view, lambda status: status is not None)
    load.start(size.rate, events=size.events)
    load.wait()
    laboratory.wait_accepted(size.events, size.settle_s)
    load.start(size.rate)
    laboratory.hold(size.step_s)
    _kill_and_start(laboratory, view, size)
    laboratory.hold(size.step_s)


def _kill_and_start(laboratory: Laboratory, view: ControlView, size: Size) -> None:
    killed_at = laboratory.mark(f"kill -9 of every worker of {TIER}")
    for worker in laboratory.workers:
        worker.kill()
    _wait(view, lambda status: status in ("unhealthy", "error"))
    laboratory.notes["ill_after_s"] = round(time.monotonic() - killed_at, 1)
    # What the intake had read before is on its way for a moment.
    laboratory.hold(2)
    laboratory.notes["ill"] = len(laboratory.loads[0].requested)
    laboratory.hold(size.step_s)
    laboratory.notes["back"] = len(laboratory.loads[0].requested)
    begun_at = laboratory.mark(f"the workers of {TIER} are started")
    for worker in laboratory.workers:
        worker.start()
    _wait(view, lambda status: status == "healthy")
    laboratory.notes["well_after_s"] = round(time.monotonic() - begun_at, 1)


def _wait(view: ControlView, wanted: Callable[[str | None], bool]) -> None:
    def is_so() -> bool:
        states = told_states(view)
        return wanted(None if states is None else states.tiers[TIER].status)

    eventually(is_so, 60)


def examine(laboratory: Laboratory, _evidence: Evidence, size: Size) -> None:
    """How the first events were shared, how soon the tier's state was known, and where the others went meanwhile."""
    notes, requested = laboratory.notes, laboratory.loads[0].requested
    accepted = {
        fact.event_id: fact for fact in laboratory.facts if isinstance(fact, TaskEvent) and fact.kind == "accepted"
    }
    shares = Counter(accepted[each.event_id].tier for each in requested[: size.events])
    notes["shares"] = {tier: round(count / size.events, 3) for tier, count in shares.items()}
    if set(shares) != set(RULE) or not all(LEAST <= share <= MOST for share in notes["shares"].values()):
        laboratory.violations.append(f"equal tiers did not share alike: {notes['shares']}")
    for name, most_s in (("ill_after_s", ILL_WITHIN_S), ("well_after_s", WELL_WITHIN_S)):
        if notes[name] > most_s:
            laboratory.violations.append(f"{name} is {notes[name]}, more than {most_s:g}")
    meanwhile = [accepted[each.event_id] for each in requested[notes["ill"] : notes["back"]]]
    notes["meanwhile"] = dict(Counter(each.tier for each in meanwhile))
    wrong = [each for each in meanwhile if each.tier == TIER or each.failover_from != TIER]
    if wrong or not meanwhile:
        laboratory.violations.append(f"{len(wrong)} of {len(meanwhile)} events did not go round the dead tier")


SCENARIOS: Final = (
    Scenario(
        "dead-tier",
        "R17: every worker of a tier dies, new events go to the next tiers of its rule and come back",
        play,
        full=Size(rate=150, faults=1, step_s=15, settle_s=120, events=3000),
        # Between tiers there is no order (R12), and killed workers' tasks run again.
        allowed=frozenset({"repeated", "inversions", "key_overlaps"}),
        examine=examine,
    ),
)
