"""What a scenario is, how it is performed, and the line of figures that comes of it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.checker import Evidence, Verdict, check, standstill
from tests.faults.laboratory import Equipment, Laboratory, laboratory


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it. ``rate`` events a second, ``faults`` of them ``step_s`` apart, ``settle_s`` for the rest.

    ``events`` is for scenarios whose load has an end of its own.
    """

    rate: float = 100.0
    faults: int = 1
    step_s: float = 20.0
    settle_s: float = 120.0
    events: int = 1000

    def __str__(self) -> str:
        return f"{self.rate:g}/s, {self.faults} x {self.step_s:g} s"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One fault under load.

    ``play`` runs it, ``examine`` adds what only it can judge to the laboratory's notes and violations. ``allowed``
    names the findings of the checker that may be there: all others have to be empty. ``short``: its size in CI.
    """

    name: str
    title: str
    play: Callable[[Laboratory, Size], None]
    full: Size
    short: Size | None = None
    equipment: Equipment = field(default_factory=Equipment)
    allowed: frozenset[str] = frozenset()
    examine: Callable[[Laboratory, Evidence, Size], None] = lambda _laboratory, _evidence, _size: None


@dataclass(frozen=True, slots=True)
class Report:
    """One line of the table. ``recovery_s``: longest time that a partition with load stood still from a fault on."""

    fault: str
    load: str
    events: int
    lost: int
    repeated: int
    inversions: int
    recovery_s: float
    seconds: float
    seed: int
    violations: Sequence[str]
    notes: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def perform(scenario: Scenario, size: Size, seed: int, logs: Path | None = None) -> Report:
    """Run a scenario on services of its own and judge it; what its processes printed goes to ``logs``."""
    began = time.monotonic()
    with laboratory(scenario.equipment, seed) as made:
        made.phases_s["services"] = round(time.monotonic() - began, 1)
        is_whole = True
        try:
            scenario.play(made, size)
        except AssertionError as error:
            # What was waited for did not come; what was lost by it is shown all the same.
            made.violations.append(str(error))
            is_whole = False
        evidence = made.finish(size.settle_s)
        if logs is not None:
            made.keep_logs(logs / scenario.name)
        verdict = check(evidence)
        made.violations.extend(broken_promises(verdict, scenario.allowed))
        if is_whole:
            scenario.examine(made, evidence, size)
        made.end_phase("judge")
        made.notes["phases_s"] = made.phases_s
        return Report(
            fault=scenario.name,
            load=str(size),
            events=len(evidence.requested),
            lost=len(verdict.lost),
            repeated=len(verdict.repeated),
            inversions=len(verdict.inversions),
            recovery_s=round(max(_recoveries(made, evidence), default=0.0), 1),
            seconds=round(time.monotonic() - began, 1),
            seed=seed,
            violations=made.violations,
            notes=made.notes,
        )


def broken_promises(verdict: Verdict, allowed: frozenset[str]) -> list[str]:
    """What the checker found and the scenario does not allow, each with a few examples."""
    found = []
    for each in fields(Verdict):
        wrong = getattr(verdict, each.name)
        if wrong and each.name not in allowed:
            found.append(f"{each.name}: {len(wrong)}, such as {', '.join(sorted(map(str, wrong))[:3])}")
    return found


def _recoveries(made: Laboratory, evidence: Evidence) -> list[float]:
    times = [fault.at for fault in made.faults] + [made.load_ended]
    return [standstill(evidence, begin, end).partition_s for begin, end in pairwise(times)]


def resized(size: Size, **given: float | None) -> Size:
    """``size`` with those of its values that are given."""
    return replace(size, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
