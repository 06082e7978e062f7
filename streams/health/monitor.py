"""The monitor: measures the tiers every second, and publishes what has changed on `.control`."""

import time
from dataclasses import replace
from threading import Event as StopEvent
from typing import Final

import structlog
from confluent_kafka import KafkaException

from streams.control.log import ControlWriter
from streams.control.view import ControlView
from streams.errors import SetupError
from streams.health.meter import HealthMeter
from streams.health.seat import Seat
from streams.health.snapshots import FRESH_S, health_state, told_states
from streams.health.states import TierState, TierStates

_log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
REPEAT_AFTER_S: Final = FRESH_S / 3
"""What has not changed is said again after so long, for it would count as out of date."""


class Monitor:
    """One of the monitors of an installation: it always measures, and publishes while it has the seat."""

    def __init__(self, meter: HealthMeter, seat: Seat, view: ControlView, writer: ControlWriter, name: str) -> None:
        """``view`` is kept current by someone else; ``name`` says on `.control` who published."""
        self._meter = meter
        self._seat = seat
        self._view = view
        self._writer = writer
        self._name = name
        self._said: TierStates | None = None
        self._said_at_s = float("-inf")

    def run(self, stop: StopEvent) -> None:
        """Measure until ``stop`` is set. Blocks. While the brokers are away it tries on."""
        known = told_states(self._view)
        if known is not None:
            self._meter.assume(known)
        while not stop.wait(LOOK_EVERY_S):
            try:
                self._round()
            except (KafkaException, SetupError) as error:
                _log.warning("the tiers cannot be measured now", error=str(error))
        self._seat.leave()
        self._meter.close()

    def _round(self) -> None:
        has_seat = self._seat.attend()
        states = self._meter.look()
        if not has_seat:
            # The one who has it may stop at any moment: what it said last is what this one would go on from.
            self._said = None
            return
        for name, state in states.tiers.items():
            before = self._said.tiers[name].status if self._said is not None else None
            if before is not None and before != state.status:
                _log.warning("a tier's health has changed", tier=name, was=before, now=state.status, load=state.load)
        now_s = time.monotonic()
        if self._said is not None and not differ(self._said, states) and now_s - self._said_at_s < REPEAT_AFTER_S:
            return
        self._writer.write([health_state(states, self._name)])
        self._said, self._said_at_s = states, now_s


def differ(one: TierStates, other: TierStates) -> bool:
    """Whether two pictures differ in more than what changes with each moment while a tier is at rest."""
    return any(_lasting(one.tiers[name]) != _lasting(other.tiers[name]) for name in one.tiers)


def _lasting(state: TierState) -> TierState:
    return replace(state, oldest_s=0.0, attempts_per_s=0.0, faults=0.0)
