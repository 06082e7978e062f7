"""What `.control` says now, in memory: who is paused, which circuits are open, what a tenant or a host may use."""

import threading
from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import orjson
import structlog

from schemas.events import ControlState, Micros, now_micros
from topics.keys import join_parts

_log = structlog.get_logger(__name__)

ALL: Final = "all"
"""The subject that stands for every tier."""

PAUSE: Final = "pause"
RESTART: Final = "restart"
BREAKER: Final = "breaker"
RATE: Final = "rate"
WEIGHT: Final = "weight"

Changed: TypeAlias = Callable[[str, str, Any], None]
"""Called with name, subject and the decoded value (``None``: forgotten) after a change, in the reader's thread."""


class Breaker(NamedTuple):
    """A circuit to one upstream of one tenant. ``failures`` counts those in a row; times in microseconds."""

    state: Literal["closed", "open", "half_open"] = "closed"
    open_until: Micros = 0
    failures: int = 0
    since: Micros = 0


class Rate(NamedTuple):
    """Calls that one upstream of one tenant takes: ``limit`` every ``per_s`` seconds, ``burst`` of them at once."""

    limit: int
    per_s: float = 1.0
    burst: int = 1


class Weight(NamedTuple):
    """A tenant's share: its part in proportion to others', and ``cap``, running tasks a worker (``None``: none)."""

    weight: float = 1.0
    cap: int | None = None


_CLOSED: Final = Breaker()
_EQUAL: Final = Weight()


class ControlView:
    """The latest state of every name and subject. Any thread may read; ``apply`` is the reader's.

    A state that cannot be understood is left out with a warning, and what held before goes on holding.
    """

    def __init__(self) -> None:
        self._states: dict[tuple[str, str], ControlState] = {}
        self._values: dict[tuple[str, str], Any] = {}
        self._subscribers: list[Changed] = []
        self._lock = threading.Lock()

    def paused(self, tier: str) -> bool:
        """Whether the tier, or every tier, is paused now."""
        return self.pause_of(tier) is not None

    def pause_of(self, tier: str) -> ControlState | None:
        """The pause that holds for a tier now, with who asked for it and why."""
        for subject in (tier, ALL):
            value = self._values.get((PAUSE, subject))
            if value and value["paused"] and (value["until"] is None or value["until"] > now_micros()):
                return self._states[PAUSE, subject]
        return None

    def restart_epoch(self, tier: str) -> int:
        """Rises with every request to restart the tier, or every tier."""
        epochs = (self._values.get((RESTART, subject)) or 0 for subject in (tier, ALL))
        return max(epochs)

    def breaker(self, tenant: str, host: str) -> Breaker:
        """The circuit to an upstream of a tenant; closed where nothing is known."""
        return self._values.get((BREAKER, join_parts(tenant, host))) or _CLOSED

    def rate(self, tenant: str, host: str) -> Rate | None:
        """The call rate of an upstream of a tenant; ``None``: unlimited."""
        return self._values.get((RATE, join_parts(tenant, host)))

    def weight(self, tenant: str) -> Weight:
        """A tenant's share."""
        return self._values.get((WEIGHT, join_parts(tenant))) or _EQUAL

    def states(self, name: str | None = None) -> list[ControlState]:
        """What holds, of one name or of all, in order of name and subject."""
        with self._lock:
            found = [state for key, state in sorted(self._states.items()) if name in (None, key[0])]
        return [state for state in found if state.value != "null"]

    def value(self, name: str, subject: str) -> Any:
        """The decoded value of a state; ``None`` where there is none."""
        return self._values.get((name, subject))

    def subscribe(self, changed: Changed) -> Callable[[], None]:
        """Call ``changed`` after each change, until what is returned is called; it must return soon and never raise."""
        with self._lock:
            self._subscribers.append(changed)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers.remove(changed)

        return unsubscribe

    def apply(self, state: ControlState) -> None:
        """Take in a state, which replaces the one of its name and subject."""
        try:
            value = _understand(state.name, orjson.loads(state.value))
        except (ValueError, TypeError, KeyError) as error:
            _log.warning("a control state is not understood", name=state.name, subject=state.subject, error=str(error))
            return
        key = state.name, state.subject
        with self._lock:
            self._states[key], self._values[key] = state, value
            subscribers = list(self._subscribers)
        for changed in subscribers:
            changed(state.name, state.subject, value)


def _understand(name: str, value: Any) -> Any:
    """The value in its own type. Raises ``ValueError``, ``TypeError`` or ``KeyError`` where it is none of its name."""
    if value is None:
        return None
    match name:
        case "pause":
            return {"paused": bool(value["paused"]), "until": value.get("until")}
        case "restart":
            return int(value)
        case "breaker":
            breaker = Breaker(**value)
            if breaker.state not in ("closed", "open", "half_open"):
                raise ValueError(f"no state of a circuit: {breaker.state!r}")
            return breaker
        case "rate":
            rate = Rate(**value)
            if rate.limit < 1 or rate.per_s <= 0 or rate.burst < 1:
                raise ValueError("limit and burst begin at 1, per_s is more than 0")
            return rate
        case "weight":
            weight = Weight(**value)
            if weight.weight <= 0 or (weight.cap is not None and weight.cap < 1):
                raise ValueError("weight is more than 0, cap begins at 1")
            return weight
        case _:
            return value
