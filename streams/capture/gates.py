"""How much of what waits behind a gate may go now (R15)."""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from schemas.events import Micros, now_micros
from streams.agents.versions import worker_takes_on
from topics.gates import parse_gate

DEFAULT_LIMIT: Final = 100
_MOST_BUCKETS: Final = 100_000


class GateLimit(NamedTuple):
    """``published``: tasks that may be on their way at once, released and without an outcome.

    ``per_s``: releases a second, ``None`` where only ``published`` counts; ``burst`` of them at once.
    ``tiers``: nothing goes to any other; ``None``: it may go to each.
    """

    published: int
    per_s: float | None = None
    burst: int = 0
    tiers: frozenset[str] | None = None


class GateLimits(Protocol):
    """Says what holds for a gate now."""

    def limit(self, gate: str, now: Micros) -> GateLimit:
        """The limit of a gate; never raises."""


class Circuit(Protocol):
    """A circuit breaker's state."""

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half_open``."""

    @property
    def open_until(self) -> Micros:
        """When a probe may go."""


class CallRate(Protocol):
    """``limit`` calls every ``per_s`` seconds, ``burst`` of them at once."""

    @property
    def limit(self) -> int:
        """Calls in each period."""

    @property
    def per_s(self) -> float:
        """Length of a period, seconds."""

    @property
    def burst(self) -> int:
        """Calls at once."""


class Share(Protocol):
    """A tenant's share."""

    @property
    def weight(self) -> float:
        """Its part in proportion to others'."""


class Controls(Protocol):
    """What the limits are made of; ``streams.control.view.ControlView`` is one."""

    def breaker(self, tenant: str, host: str) -> Circuit:
        """The circuit to an upstream of a tenant."""

    def rate(self, tenant: str, host: str) -> CallRate | None:
        """The call rate of an upstream of a tenant; ``None``: unlimited."""

    def weight(self, tenant: str) -> Share:
        """A tenant's share."""


class LiveWorker(Protocol):
    """A worker that was heard of lately; ``streams.control.signals.Heartbeat`` is one."""

    @property
    def tier(self) -> str:
        """Its tier."""

    @property
    def partitions(self) -> Sequence[int]:
        """What it works on; one without any gets no record."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of its plugins, by id."""

    @property
    def accepts(self) -> Mapping[str, str]:
        """Ranges of earlier versions whose runs they carry on, by id."""


class FixedLimits:
    """The same limit for every gate: for a relay that nobody controls."""

    def __init__(self, published: int = DEFAULT_LIMIT) -> None:
        self._limit = GateLimit(published)

    def limit(self, gate: str, now: Micros) -> GateLimit:
        """See ``GateLimits``."""
        del gate, now
        return self._limit


class ControlledLimits:
    """Limits as the control state has them: an open circuit lets nothing go, a half-open one a single probe."""

    def __init__(
        self,
        controls: Controls,
        published: int = DEFAULT_LIMIT,
        workers: Callable[[], Iterable[LiveWorker]] = tuple,
    ) -> None:
        """``published`` is the limit of a tenant of weight 1, or of a version; ``workers`` gives those that live."""
        self._controls = controls
        self._published = published
        self._workers = workers

    def limit(self, gate: str, now: Micros) -> GateLimit:
        """See ``GateLimits``. What is no gate, or one whose rate is gone, is held by its tenant's share alone."""
        try:
            kind, tenant, host = parse_gate(gate)
        except ValueError:
            return GateLimit(self._published)
        if kind == "version":
            tiers = self._tiers_of_version(tenant, host)
            return GateLimit(self._published if tiers else 0, tiers=tiers)
        share = GateLimit(max(1, int(self._published * self._controls.weight(tenant).weight)))
        # What waits for its rate waits for the circuit too: a host with a rate has this one gate.
        circuit = self._controls.breaker(tenant, host) if kind in ("host", "rate") else None
        if circuit is not None and circuit.state != "closed":
            return GateLimit(0 if circuit.state == "open" and now < circuit.open_until else 1)
        if kind == "rate":
            rate = self._controls.rate(tenant, host)
            if rate is not None:
                return GateLimit(rate.burst, rate.limit / rate.per_s, rate.burst)
        return share

    def _tiers_of_version(self, plugin: str, recorded: str) -> frozenset[str]:
        """Tiers all of whose workers carry on runs of a version: the relay does not choose the one that gets a task."""
        able: dict[str, bool] = {}
        for worker in self._workers():
            if worker.partitions:
                takes = worker_takes_on(plugin, recorded, worker.versions, worker.accepts)
                able[worker.tier] = able.get(worker.tier, True) and takes
        return frozenset(tier for tier, takes in able.items() if takes)


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class GateKeeper:
    """Counts what each gate may release. Its buckets are empty at the beginning: another holder may just have released.

    A bucket never holds more than what its burst leaves beside the tasks on their way: so no second sees more calls
    than the rate and one burst, however late the tasks released before it start.
    """

    def __init__(self, limits: GateLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._last = ""

    def in_turn(self, gates: Iterable[str]) -> Iterable[str]:
        """The gates, from the one after the last that released: none comes short for long."""
        # Databases order texts by rules of their own.
        ordered = sorted(gates)
        first = bisect_right(ordered, self._last) % max(1, len(ordered))
        return [*ordered[first:], *ordered[:first]]

    def tiers(self, gate: str) -> frozenset[str] | None:
        """The tiers to which tasks may go now; ``None``: to each."""
        return self._limits.limit(gate, now_micros()).tiers

    def room(self, gate: str, published: int) -> int:
        """How many tasks may go now, with ``published`` on their way."""
        limit = self._limits.limit(gate, now_micros())
        room = limit.published - published
        if limit.per_s is None:
            self._buckets.pop(gate, None)
            return room
        now = self._clock()
        if len(self._buckets) >= _MOST_BUCKETS:
            self._buckets.clear()
        bucket = self._buckets.setdefault(gate, _Bucket(0.0, now))
        most = max(0, limit.burst - published)
        bucket.tokens = min(bucket.tokens + (now - bucket.filled_at) * limit.per_s, most)
        bucket.filled_at = now
        return min(room, int(bucket.tokens))

    def take(self, gate: str, count: int) -> None:
        """So many are released."""
        if count:
            self._last = gate
        bucket = self._buckets.get(gate)
        if bucket is not None:
            bucket.tokens -= count
