"""The demonstration's audit: what the shop committed against what the history says, one by one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from projections.tables import WEBHOOK_ATTEMPTS, WEBHOOK_EVENTS
from schemas.kinds import FINAL_KINDS
from streams.cli.print_shop import Journal


@dataclass(frozen=True, slots=True)
class TierCount:
    """Events of one tier: all of them, those that completed, attempts, and the median attempt in milliseconds."""

    tier: str
    events: int
    completed: int
    attempts: int
    median_ms: float | None


@dataclass(frozen=True, slots=True)
class Audit:
    """Counts of one run. ``missing``: committed and without a final outcome; ``unexpected``: an event of nothing."""

    committed_changes: int
    manual_triggers: int
    rolled_back: int
    requested: int
    outcomes: int
    missing: int
    unexpected: int

    @property
    def passed(self) -> bool:
        """Whether each thing committed has exactly one event with a final outcome, and nothing else has one."""
        return self.missing == 0 and self.unexpected == 0


def finished_events(engine: Engine) -> int:
    """Events of the history that have a final outcome."""
    query = select(func.count()).select_from(WEBHOOK_EVENTS).where(WEBHOOK_EVENTS.c.kind.in_(FINAL_KINDS))
    with engine.connect() as connection:
        return connection.execute(query).scalar_one()


def audit(engine: Engine, journal: Journal, triggered: Sequence[str]) -> Audit:
    """Compare the shop's journal and the ids of its manual triggers with the history."""
    events = WEBHOOK_EVENTS.c
    with engine.connect() as connection:
        rows = connection.execute(
            select(events.event_id, events.model_id, events.event_type, events.trigger, events.kind)
        ).all()
    expected = Counter((order_id, f"order_{event}") for order_id, event in journal.committed)
    expected.update((event_id, "") for event_id in triggered)
    found: Counter[tuple[str, str]] = Counter()
    final: Counter[tuple[str, str]] = Counter()
    for row in rows:
        identity = (row.model_id, row.event_type) if row.trigger == "model" else (row.event_id, "")
        found[identity] += 1
        final[identity] += row.kind in FINAL_KINDS
    return Audit(
        committed_changes=len(journal.committed),
        manual_triggers=len(triggered),
        rolled_back=journal.rolled_back,
        requested=found.total(),
        outcomes=final.total(),
        missing=(expected - final).total(),
        unexpected=(found - expected).total(),
    )


def tier_counts(engine: Engine) -> list[TierCount]:
    """What each tier did, in the order of the tiers' names."""
    with engine.connect() as connection:
        events = connection.execute(
            select(WEBHOOK_EVENTS.c.tier, WEBHOOK_EVENTS.c.kind, func.count()).group_by(
                WEBHOOK_EVENTS.c.tier, WEBHOOK_EVENTS.c.kind
            )
        ).all()
        attempts = connection.execute(select(WEBHOOK_ATTEMPTS.c.tier, WEBHOOK_ATTEMPTS.c.duration_ms)).all()
    durations: dict[str, list[float]] = {}
    for tier, duration_ms in attempts:
        durations.setdefault(tier, []).append(duration_ms or 0.0)
    counts = []
    for tier in sorted({row[0] for row in events if row[0]}):
        of_tier = sorted(durations.get(tier, []))
        counts.append(
            TierCount(
                tier=tier,
                events=sum(count for name, _, count in events if name == tier),
                completed=sum(count for name, kind, count in events if name == tier and kind == "completed"),
                attempts=len(of_tier),
                median_ms=round(of_tier[len(of_tier) // 2], 1) if of_tier else None,
            )
        )
    return counts
