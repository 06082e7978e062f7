"""Looks at the tiers: at their groups' offsets, at what is due, and at what workers and `.control` say."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import structlog
from confluent_kafka import KafkaException
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from projections.backlog import DueCount, count_due
from schemas.events import now_micros
from streams.control.signals import Heartbeat
from streams.control.view import ControlView
from streams.health.loads import Load, TierLoad
from streams.health.offsets import OffsetReader, Place, Progress, waiting_since
from streams.health.rates import TierRate
from streams.health.states import TierState, TierStates
from streams.settings import Settings
from topics.health import OVERDUE_S, Measured, Status, judge
from topics.hysteresis import Hysteresis
from topics.tiers import TIERS, Tier

_log = structlog.get_logger(__name__)

_DUE_EVERY_S: Final = 5.0
"""Pause between questions to the database, which may have much to count."""


_NEW_CLIENTS_S: Final = 20.0
"""Without any answer for so long it asks by new clients."""


class HealthMeter:
    """Measures again and again, and remembers what a judgement needs of the looks before.

    ``heartbeats`` gives the workers that were heard of lately, ``control`` is kept current by someone else. ``engine``
    is the database of the schedule; ``None``: waits are not counted.
    """

    def __init__(
        self,
        settings: Settings,
        heartbeats: Callable[[], list[Heartbeat]],
        control: ControlView,
        engine: Engine | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._heartbeats = heartbeats
        self._control = control
        self._engine = engine
        self._clock = clock
        self._offsets: OffsetReader | None = None
        self._failing_since_s = float("inf")
        self._tiers = {name: _TierMeter(tier) for name, tier in TIERS.items()}
        self._due: Mapping[str, DueCount] | None = None
        self._due_at_s = float("-inf")

    def assume(self, states: TierStates) -> None:
        """Go on from what somebody else had found, so that a tier does not get well by a change of who measures."""
        for name, state in states.tiers.items():
            self._tiers[name].hysteresis.settle(state.status, self._clock())

    def close(self) -> None:
        """Let go of the connections; a further look makes new ones."""
        offsets, self._offsets = self._offsets, None
        self._failing_since_s = float("inf")
        if offsets is not None:
            offsets.close()

    def look(self) -> TierStates:
        """How the tiers are now. Blocks.

        Raises ``KafkaException`` or ``SetupError`` where the brokers do not answer; it may be called again.
        """
        if self._offsets is None:
            self._offsets = OffsetReader(self._settings)
        try:
            places = self._offsets.read()
        except KafkaException:
            self._failing_since_s = min(self._failing_since_s, self._clock())
            if self._clock() - self._failing_since_s > _NEW_CLIENTS_S:
                # A client that has lived through the death of its brokers may never answer again.
                self.close()
            raise
        self._failing_since_s = float("inf")
        ages_s = self._ages(places)
        now_s = self._clock()
        due, beats = self._count_due(now_s), self._heartbeats()
        states: dict[str, TierState] = {}
        for name, meter in self._tiers.items():
            mine = [beat for beat in beats if beat.tier == name]
            waits = None if due is None else due.get(name, DueCount(0, 0, None))
            load = meter.loads.look(places[name], now_s, ages_s)
            states[name] = meter.judge(load, waits, mine, self._control.paused(name), now_s)
        return TierStates(now_micros(), states)

    def _ages(self, places: Mapping[str, Mapping[Place, Progress]]) -> dict[Place, float]:
        """Of the first records of partitions that are looked at for the first time."""
        new = {
            place: progress
            for tier, found in places.items()
            for place, progress in found.items()
            if self._tiers[tier].loads.is_new(place)
        }
        return waiting_since(self._settings, new)

    def _count_due(self, now_s: float) -> Mapping[str, DueCount] | None:
        if self._engine is None or now_s - self._due_at_s < _DUE_EVERY_S:
            return self._due
        self._due_at_s = now_s
        try:
            with self._engine.connect() as connection:
                self._due = count_due(connection, datetime.now(UTC))
        except (DBAPIError, PoolTimeout) as error:
            if self._due is not None:
                _log.warning("waits cannot be counted, the database does not answer", error=str(error).splitlines()[0])
            self._due = None
        return self._due


class _TierMeter:
    """What is remembered of one tier."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.loads = TierLoad()
        self.rates = TierRate()
        self.hysteresis = Hysteresis()

    def judge(
        self, load: Load, waits: DueCount | None, beats: list[Heartbeat], is_paused: bool, now_s: float
    ) -> TierState:
        due = 0 if waits is None else waits.due
        first_due_s = 0.0
        if waits is not None and waits.first_due_at is not None:
            first_due_s = max(0.0, (datetime.now(UTC) - waits.first_due_at).total_seconds())
        running = sum(beat.running for beat in beats)
        overdue = max(0, load.overdue - running) + (due if first_due_s >= OVERDUE_S else 0)
        oldest_s = max(load.oldest_s, first_due_s)
        rate = self.rates.look(beats, now_s)
        measured = Measured(load.lag + due, overdue, oldest_s, len(beats), rate.faults, is_paused)
        status: Status = self.hysteresis.settle(judge(measured, self.tier).status, now_s)
        return TierState(
            status=status,
            load=measured.waiting,
            lag=load.lag,
            due=due,
            delayed=None if waits is None else waits.delayed,
            overdue=overdue,
            oldest_s=round(oldest_s, 1),
            workers=len(beats),
            running=running,
            attempts_per_s=round(rate.attempts_per_s, 1),
            faults=round(rate.faults, 3),
            paused=is_paused,
        )
