"""Whether a task may start now or waits behind a gate: circuits and call rates of upstreams, order of keys (R15)."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import structlog
from confluent_kafka import KafkaException

from schemas.events import now_micros
from streams.agents.tally import Tally
from streams.agents.tier_records import TierTask
from streams.agents.versions import held_by_version
from streams.background import OnCrash, run_in_background
from streams.control.log import ControlWriter
from streams.control.view import BREAKER, RATE, WEIGHT, Breaker, ControlView, Weight
from streams.engine.breaker import BreakerPolicy, Circuit, is_answer, upstream_failure
from streams.settings import Settings
from topics.gates import host_gate, rate_gate
from topics.keys import join_parts, split_parts

_log = structlog.get_logger(__name__)

_MOST_KEYS: Final = 100_000
"""Keys whose deferred records are remembered; beyond it those are forgotten that were deferred first (R12)."""


class _Behind(NamedTuple):
    """What of a key is behind a gate: the offset of the first such record, the identity of the last."""

    gate: str
    first_offset: int
    last: str


class Admission:
    """One per worker, on its event loop. ``shares`` are the tenants' weights, by id.

    Until ``follow`` is called no share or rate is known, and circuits are this worker's own.
    """

    def __init__(self, settings: Settings, worker: str) -> None:
        self._policy = BreakerPolicy(
            settings.breaker_failures,
            settings.breaker_window_s,
            settings.breaker_open_s,
            settings.breaker_longest_open_s,
        )
        self._worker = worker
        self.tally = Tally()
        self.shares: dict[str, Weight] = {}
        self._rated: set[tuple[str, str]] = set()
        self._circuits: dict[tuple[str, str], Circuit] = {}
        self._behind: OrderedDict[bytes, _Behind] = OrderedDict()
        self._untold: asyncio.Queue[tuple[tuple[str, str], Breaker]] | None = None

    def gate(self, item: TierTask) -> str | None:
        """The gate behind which a task has to wait; ``None``: it may start.

        One that a gate has let go is not held by the same gate again, nor by its tenant's share; only a version that is
        not here holds it each time, because no other may carry it out. A host with a call rate has one gate for rate
        and circuit, so that no task goes from the one to the other and back.
        """
        task, execution = item.task, item.execution
        present = execution.runs_on if execution is not None else None
        if present is not None and not (
            task.plugin_version == present.text and task.pipeline_hash == present.pipeline_hash
        ):
            held = held_by_version(task, present)
            if held is not None:
                return held
            # The task may differ from its record now.
            item.marks = None
        gate = task.gate
        kind = gate.partition("|")[0] if gate is not None else None
        if gate is not None:
            self._has_come_back(item)
        host = execution.upstream if execution is not None else None
        if host is not None and (self._circuits or self._rated):
            place = item.task.tenant_id, host
            circuit = self._circuits.get(place)
            if place in self._rated:
                if kind != "rate":
                    return rate_gate(*place)
            elif circuit is not None and not circuit.is_closed and kind != "host":
                return host_gate(*place)
            if circuit is not None and circuit.probes(now_micros()):
                self._tell(place, circuit)
        return self._gate_of_its_key(item) if gate is None and self._behind else None

    def judge(self, item: TierTask, verdict: object) -> None:
        """What an attempt says about the upstream that it called, and about this worker."""
        self.tally.count(verdict)
        host = item.execution.upstream if item.execution is not None else None
        if host is None:
            return
        place = item.task.tenant_id, host
        circuit = self._circuits.get(place)
        failure = upstream_failure(verdict)
        if failure is not None:
            if circuit is None:
                circuit = self._circuits[place] = Circuit(self._policy)
            has_changed = circuit.failed(item.started_at, now_micros(), failure.retry_after_s)
        elif circuit is None or not is_answer(verdict):
            return
        else:
            has_changed = circuit.succeeded(item.started_at, now_micros())
        if has_changed:
            self._tell(place, circuit)
        elif circuit.is_idle:
            del self._circuits[place]

    def deferred(self, item: TierTask, gate: str) -> None:
        """A record has gone behind a gate: newer ones of its key follow it there, as the key's order asks."""
        key = item.record.key
        if key is None or item.is_step:
            return
        before = self._behind.pop(key, None)
        first = before.first_offset if before is not None else item.record.offset
        self._behind[key] = _Behind(gate, min(first, item.record.offset), item.identity)
        if len(self._behind) > _MOST_KEYS:
            self._behind.popitem(last=False)

    def may_follow(self, item: TierTask) -> bool:
        """Whether a record may be deferred without coming behind a newer one of its key (R12)."""
        behind = self._behind.get(item.record.key) if item.record.key is not None else None
        return item.is_step or behind is None or item.record.offset > behind.first_offset

    def follow(self, view: ControlView, writer: ControlWriter, on_crash: OnCrash) -> Callable[[], None]:
        """Obey ``view`` and tell by ``writer`` which circuits open and close, until what is returned is called."""
        loop = asyncio.get_running_loop()
        self._untold = asyncio.Queue()
        telling = run_in_background("circuits", self._tell_all(writer, self._untold), on_crash)

        def changed(name: str, subject: str, value: Any) -> None:
            if name in (BREAKER, RATE, WEIGHT) and not loop.is_closed():
                loop.call_soon_threadsafe(self._obey, name, subject, value)

        unsubscribe = view.subscribe(changed)
        for name in (BREAKER, RATE, WEIGHT):
            for state in view.states(name):
                self._obey(name, state.subject, view.value(name, state.subject))

        def stop() -> None:
            unsubscribe()
            telling.cancel()

        return stop

    def _has_come_back(self, item: TierTask) -> None:
        """The last deferred record of a key is back, and those before it were let go before it: the key is free."""
        key = item.record.key
        behind = self._behind.get(key) if key is not None else None
        if key is not None and behind is not None and behind.last == item.identity:
            del self._behind[key]

    def _gate_of_its_key(self, item: TierTask) -> str | None:
        behind = self._behind.get(item.record.key) if item.record.key is not None and not item.is_step else None
        # What stands before the first deferred record was never overtaken.
        return behind.gate if behind is not None and item.record.offset > behind.first_offset else None

    def _tell(self, place: tuple[str, str], circuit: Circuit) -> None:
        state = circuit.state
        _log.info("circuit", tenant_id=place[0], host=place[1], state=state.state, failures=state.failures)
        if self._untold is not None:
            self._untold.put_nowait((place, state))

    async def _tell_all(self, writer: ControlWriter, untold: "asyncio.Queue[tuple[tuple[str, str], Breaker]]") -> None:
        while True:
            place, state = await untold.get()
            try:
                await writer.put(BREAKER, join_parts(*place), state._asdict(), by=self._worker)
            except KafkaException as error:
                _log.warning("a circuit's state could not be told", host=place[1], error=str(error))

    def _obey(self, name: str, subject: str, value: Any) -> None:
        parts = split_parts(subject)
        if name == WEIGHT:
            if value is None:
                self.shares.pop(parts[0], None)
            else:
                self.shares[parts[0]] = value
        elif len(parts) == 2:
            place = parts[0], parts[1]
            if name == RATE:
                (self._rated.discard if value is None else self._rated.add)(place)
            else:
                circuit = self._circuits.setdefault(place, Circuit(self._policy))
                circuit.adopt(value if value is not None else Breaker(since=now_micros()))
