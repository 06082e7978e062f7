"""A rebalance of a full tier while its workers run and one of them is killed: every event runs once (R16)."""

from collections import Counter
from typing import Any, Final

import orjson
from sqlalchemy import func, select

from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS, WEBHOOK_SCHEDULE
from schemas.events import TaskEvent
from streams.health.offsets import OffsetReader
from tests.faults.checker import Evidence
from tests.faults.laboratory import TIER, Equipment, Laboratory
from tests.faults.scenario import Scenario, Size
from topics.routing import DEFAULT_RULES

WORKERS: Final = 3
TARGETS: Final = DEFAULT_RULES[1].tiers[1:]
NARROW: Final = {"WEBHOOK_WINDOW": "10"}
"""So that what waits goes on waiting for a while."""


def play(laboratory: Laboratory, size: Size) -> None:
    """Fill the paused tier, look without touching anything, then move, and kill a worker in the middle of it."""
    load = laboratory.start(WORKERS)
    for tier in TARGETS:
        laboratory.supervisor.add("work", tier)
    laboratory.roles.run("pause", TIER)
    load.start(size.rate, events=size.events)
    load.wait()
    laboratory.wait_accepted(size.events, size.settle_s)
    for tier in TARGETS:
        laboratory.wait_members(1, tier)
    before = _everything(laboratory)
    laboratory.notes["dry_run"] = _rebalance(laboratory, "--dry-run")
    if _everything(laboratory) != before:
        laboratory.violations.append("a dry run has changed something")
    laboratory.roles.run("resume", TIER)
    for _ in range(size.faults):
        laboratory.notes["rebalance"] = _rebalance(laboratory)
        victim = laboratory.random.choice(laboratory.workers)
        laboratory.mark(f"kill -9 of worker {victim.pid}")
        victim.kill()
        laboratory.hold(size.step_s)
        victim.start()


def _rebalance(laboratory: Laboratory, *options: str) -> list[dict[str, Any]]:
    moves: list[dict[str, Any]] = orjson.loads(laboratory.roles.run("rebalance", "--json", *options))["moves"]
    return moves


def _everything(laboratory: Laboratory) -> object:
    """Every offset, and how many rows there are; nothing runs, for the tier is paused."""
    reader = OffsetReader(laboratory.settings)
    offsets = reader.read()
    reader.close()
    tables = WEBHOOK_EVENTS, WEBHOOK_ATTEMPTS, WEBHOOK_SCHEDULE
    with laboratory.engine.connect() as connection:
        rows = [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]
    return offsets, rows


def examine(laboratory: Laboratory, _evidence: Evidence, size: Size) -> None:
    """What was moved, and that it was about what the dry run had said."""
    facts = [fact for fact in laboratory.facts if isinstance(fact, TaskEvent)]
    moved = {fact.event_id for fact in facts if fact.kind == "moved"}
    completed = Counter(fact.tier for fact in facts if fact.kind == "completed")
    planned = sum(each["records"] for each in laboratory.notes["dry_run"])
    laboratory.notes.update(planned=planned, moved=len(moved), completed=dict(completed))
    if completed.total() != size.events or not moved or not all(completed[tier] for tier in TARGETS):
        laboratory.violations.append(
            f"{len(moved)} of {size.events} events were moved, completed are {dict(completed)}"
        )


SCENARIOS: Final = (
    Scenario(
        "rebalance",
        "R16: 50,000 events wait in one tier, a rebalance moves them while a worker is killed",
        play,
        full=Size(rate=2500, faults=1, step_s=10, settle_s=300, events=50_000),
        equipment=Equipment(environment=NARROW),
        # A moved event may come before or after those of its key that stay (R12).
        allowed=frozenset({"repeated", "inversions", "key_overlaps"}),
        examine=examine,
    ),
)
