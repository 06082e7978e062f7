"""What routing knows of the tiers' health. A snapshot is a picture of one moment, made elsewhere and passed in."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from topics.tiers import Tier

Status: TypeAlias = Literal["healthy", "warning", "unhealthy", "error"]
"""From the best to the worst; the words of the original product, which scripts look for."""

PASSED_OVER: Final[frozenset[Status]] = frozenset({"unhealthy", "error"})
"""Tiers of which nothing new is asked."""


@dataclass(frozen=True, slots=True)
class TierHealth:
    """Health of one tier. ``load`` is the number of records waiting in it: consumer lag plus due schedule rows."""

    status: Status = "healthy"
    load: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether routing may choose the tier. One with a warning is still chosen."""
        return self.status not in PASSED_OVER


_NOTHING_KNOWN: Final = TierHealth()


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """Health of the tiers by name."""

    states: Mapping[str, TierHealth] = field(default_factory=dict)

    def of(self, tier: str) -> TierHealth:
        """Health of a tier. One that is not in the snapshot counts as healthy and empty (R17)."""
        return self.states.get(tier, _NOTHING_KNOWN)


OVERDUE_S: Final = 5.0
"""Seconds from which a waiting record counts against its tier. A tier in good order always holds some: a busy one those
of half a second, until their offsets are committed, and a burst is worked off before anybody needs to know."""

ABANDONED_S: Final = 5.0
"""Seconds that a record may wait in a tier without workers until new work goes elsewhere."""

UNATTENDED_S: Final = 60.0
"""Seconds that a record may wait for the first worker of a tier: so long a scaler takes to start one from zero."""

STALE_S: Final = 300.0
"""Age of a tier's oldest waiting record, in seconds, from which its workers are taken to be stuck."""

WARNING_FAULTS: Final = 0.1
UNHEALTHY_FAULTS: Final = 0.5
"""Parts of a tier's attempts that ended by a fault of ours from which it is no longer well, or passed over."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a monitor measured of one tier.

    ``waiting`` are records: consumer lag plus due schedule rows, the oldest of them ``oldest_s`` seconds old;
    ``overdue`` of them have waited for ``OVERDUE_S`` and do not run. ``workers`` were heard of lately. ``faults`` is
    the part of the last attempts, 0 to 1, that ended by a fault of ours; what a tenant's upstream does is none.
    """

    waiting: int = 0
    overdue: int = 0
    oldest_s: float = 0.0
    workers: int = 0
    faults: float = 0.0
    paused: bool = False


def judge(measured: Measured, tier: Tier) -> TierHealth:
    """Health of a tier at one moment (R17); ``topics.hysteresis`` makes it last.

    Without workers and with nothing to do it is healthy, for workers are scaled from zero. One that is paused is not
    dead: what waits in it, and for how long, says nothing about it, so it is at most warned about.
    """
    load, overdue = measured.waiting, measured.overdue
    if measured.paused:
        return TierHealth("warning" if load >= tier.warning_load else "healthy", load)
    if load and not measured.workers and measured.oldest_s >= ABANDONED_S:
        return TierHealth("error" if measured.oldest_s >= UNATTENDED_S else "unhealthy", load)
    is_stale = overdue > 0 and measured.oldest_s >= STALE_S
    if overdue >= tier.unhealthy_load or measured.faults >= UNHEALTHY_FAULTS or is_stale:
        return TierHealth("unhealthy", load)
    if overdue >= tier.warning_load or measured.faults >= WARNING_FAULTS:
        return TierHealth("warning", load)
    return TierHealth("healthy", load)


class OwnDispatches:
    """Adds to a snapshot what was sent since it was made: else all go to one tier until the next snapshot (R17).

    Of one process; a new snapshot has counted what was sent before it.
    """

    def __init__(self) -> None:
        self._snapshot: HealthSnapshot | None = None
        self._sent: Counter[str] = Counter()

    def on_top_of(self, snapshot: HealthSnapshot) -> HealthSnapshot:
        """The snapshot with the loads that the tiers should have by now; one without states stays as it is."""
        if snapshot is not self._snapshot:
            self._snapshot = snapshot
            self._sent.clear()
        if not snapshot.states or not self._sent:
            return snapshot
        tiers = {*snapshot.states, *self._sent}
        states = {tier: snapshot.of(tier) for tier in tiers}
        return HealthSnapshot(
            {tier: replace(state, load=state.load + self._sent[tier]) for tier, state in states.items()}
        )

    def sent(self, tier: str) -> None:
        """One more record goes to a tier."""
        self._sent[tier] += 1
