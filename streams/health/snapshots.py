"""The tiers' states on `.control`: one record for all of them, so that who reads it has one moment's picture."""

import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from schemas.events import ControlState, now_micros
from streams.control.log import control_state
from streams.control.view import ALL, ControlView
from streams.health.states import TierStates, decoded
from topics.health import HealthSnapshot

_log = structlog.get_logger(__name__)

HEALTH: Final = "health"

FRESH_S: Final = 30.0
"""A snapshot that no newer one has followed for so long says nothing any more: nobody measures."""

_NOBODY_MEASURES: Final = HealthSnapshot()


def health_state(states: TierStates, by: str) -> ControlState:
    """The control state that says how the tiers are."""
    return control_state(HEALTH, ALL, states.encoded(), by)


def told_states(view: ControlView, now: int | None = None) -> TierStates | None:
    """What `.control` says of the tiers now; ``None`` where nothing is said, or was said too long ago.

    By the clock of who measured: for commands, which look once.
    """
    states = _read(view.value(HEALTH, ALL))
    age = (now_micros() if now is None else now) - (states.measured_at if states is not None else 0)
    return states if states is not None and age < FRESH_S * 1_000_000 else None


class ControlHealth:
    """A ``HealthProvider`` of what `.control` says, for as long as somebody goes on saying it.

    Clocks of hosts are not compared: a snapshot's age counts from when it was heard here; only the one that was there
    at the start is judged by its time. ``view`` must be current by then.
    """

    def __init__(self, view: ControlView, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._snapshot = _NOBODY_MEASURES
        self._heard_s = clock()
        present = told_states(view)
        if present is not None:
            self._snapshot = present.snapshot()
        view.subscribe(self._changed)

    def snapshot(self) -> HealthSnapshot:
        """See ``HealthProvider``."""
        return self._snapshot if self._clock() - self._heard_s < FRESH_S else _NOBODY_MEASURES

    def _changed(self, name: str, subject: str, value: Any) -> None:
        if name != HEALTH or subject != ALL:
            return
        states = _read(value)
        self._heard_s = self._clock()
        self._snapshot = _NOBODY_MEASURES if states is None else states.snapshot()


def _read(value: Any) -> TierStates | None:
    if value is None:
        return None
    try:
        return decoded(value)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        _log.warning("the tiers' health on the control topic is not understood", error=str(error))
        return None
