"""How one tier is at one moment, in the shape in which it travels and is shown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

from schemas.events import Micros
from topics.health import HealthSnapshot, Status, TierHealth
from topics.tiers import TIERS


@dataclass(frozen=True, slots=True, kw_only=True)
class TierState:
    """``load`` is what waits: ``lag``, records that its group has not finished, and ``due``, waits whose time has come.

    ``overdue`` of these count against it (``topics.health``); the first was written ``oldest_s`` seconds ago.
    ``delayed`` are waits whose time has not come; ``None``: nobody could ask the database. ``attempts_per_s`` and
    ``faults`` (the part that ended by a fault of ours, 0 to 1) are of the last minute.
    """

    status: Status
    load: int = 0
    lag: int = 0
    due: int = 0
    delayed: int | None = None
    overdue: int = 0
    oldest_s: float = 0.0
    workers: int = 0
    running: int = 0
    attempts_per_s: float = 0.0
    faults: float = 0.0
    paused: bool = False

    @property
    def clears_in_s(self) -> float | None:
        """Seconds until all that waits is worked off at the present rate; ``None`` where nobody can say."""
        if not self.load:
            return 0.0
        return self.load / self.attempts_per_s if self.attempts_per_s else None


@dataclass(frozen=True, slots=True)
class TierStates:
    """All tiers at one moment, by name in the tiers' order."""

    measured_at: Micros
    tiers: Mapping[str, TierState]

    def snapshot(self) -> HealthSnapshot:
        """What the routing reads of it."""
        return HealthSnapshot({name: TierHealth(each.status, each.load) for name, each in self.tiers.items()})

    def encoded(self) -> dict[str, Any]:
        """As a control state keeps it."""
        return {"measured_at": self.measured_at, "tiers": {name: asdict(each) for name, each in self.tiers.items()}}


def decoded(value: Mapping[str, Any]) -> TierStates:
    """What ``encoded`` made, also of a version that tells more or less.

    Raises ``ValueError``, ``TypeError`` or ``KeyError`` for anything else.
    """
    known = {each.name for each in fields(TierState)}
    tiers: dict[str, TierState] = {}
    for name in TIERS:
        if name in value["tiers"]:
            told = value["tiers"][name]
            if told["status"] not in get_args(Status):
                raise ValueError(f"no status of a tier: {told['status']!r}")
            tiers[name] = TierState(**{key: each for key, each in told.items() if key in known})
    return TierStates(int(value["measured_at"]), tiers)
