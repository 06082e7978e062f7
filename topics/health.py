"""What routing knows of the tiers' health. A snapshot is a picture of one moment, made elsewhere and passed in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Status: TypeAlias = Literal["healthy", "warning", "unhealthy", "error"]

_PASSED_OVER: Final[frozenset[Status]] = frozenset({"unhealthy", "error"})


@dataclass(frozen=True, slots=True)
class TierHealth:
    """Health of one tier. ``load`` is the number of records waiting in it: consumer lag plus due schedule rows."""

    status: Status = "healthy"
    load: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether routing may choose the tier. One with a warning is still chosen."""
        return self.status not in _PASSED_OVER


_NOTHING_KNOWN: Final = TierHealth()


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """Health of the tiers by name."""

    states: Mapping[str, TierHealth] = field(default_factory=dict)

    def of(self, tier: str) -> TierHealth:
        """Health of a tier. One that is not in the snapshot counts as healthy and empty (R17)."""
        return self.states.get(tier, _NOTHING_KNOWN)
