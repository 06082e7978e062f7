"""Upstreams: one that hangs and takes 95 % of the load, one with a call rate; the neighbours notice neither (R15)."""

import os
import random
from bisect import bisect_left
from pathlib import Path
from typing import Any, Final

import orjson
from sqlalchemy import func, select

from projections.tables import WEBHOOK_SCHEDULE
from tests.faults.checker import Evidence, lateness, quantile
from tests.faults.laboratory import CONFIGURATION, Equipment, Laboratory
from tests.faults.load import Load, Shape, Wanted
from tests.faults.scenario import Scenario, Size
from tests.faults.upstream import Upstream
from tests.support.waiting import eventually

NEIGHBOURS_PERCENT: Final = 5
MORE_S: Final = 0.05
"""By so much may the neighbours' 99th percentile rise, if that is more than their factor allows, in seconds."""

PARKED_S: Final = 30.0
PARKED_PERCENT: Final = 20.0
LIMIT, BURST = 10, 10
RATE_WORKERS: Final = 3

_TIMEOUT_S: Final = 30.0
_PROBES_S: Final = 20.0
_OUTBOUND: Final = {"WEBHOOK_OUTBOUND_ALLOW": "127.0.0.0/8"}
_WAITS: Final = WEBHOOK_SCHEDULE.c


def calling(upstream: Upstream) -> Shape:
    """Events whose handler calls ``upstream``."""

    def shape(_sequence: int, _chance: random.Random) -> Wanted:
        return Wanted({"url": upstream.url})

    return shape


def open_upstream(laboratory: Laboratory, host: str = "127.0.0.1") -> Upstream:
    """An upstream that goes with the laboratory."""
    upstream = Upstream(host)
    laboratory.cleanup.callback(upstream.close)
    return upstream


def configured(upstream: Upstream) -> dict[str, Any]:
    """A tenant's configuration with this upstream."""
    return {**CONFIGURATION, "upstream_url": upstream.url}


def play_hanging(laboratory: Laboratory, size: Size) -> None:
    """The neighbours alone, then beside a tenant whose upstream hangs; then only what is parked; then it heals."""
    load = laboratory.start(1)
    upstream = open_upstream(laboratory)
    noisy = laboratory.tenant(configured(upstream))
    rate = size.rate * NEIGHBOURS_PERCENT / 100
    load.start(rate)
    noisy.start(rate, shape=calling(upstream))
    # Roles that have just started fill caches and pools, and each tenant is looked up once.
    laboratory.hold(size.step_s / 3)
    noisy.stop()
    laboratory.mark("alone")
    laboratory.hold(size.step_s)
    upstream.hang()
    laboratory.mark("beside the tenant that hangs")
    noisy.start(size.rate - rate, shape=calling(upstream))
    laboratory.hold(size.step_s * 2)
    laboratory.mark("neighbours measured")
    noisy.stop()
    load.stop()
    eventually(lambda: _breaker(laboratory, noisy) != "closed", 2 * _TIMEOUT_S, "the circuit opens")
    asked = len(load.requested) + len(noisy.requested)
    # All but a probe: behind the gate, or on the way there from an attempt that took its whole time.
    eventually(lambda: _parked(laboratory) >= asked - laboratory.ended() - 1, size.settle_s, "everything is parked")
    laboratory.notes["parked"] = _parked(laboratory)
    _measure_idle(laboratory)
    laboratory.notes["breaker_parked"] = _breaker(laboratory, noisy)
    upstream.answer()
    laboratory.mark("the upstream answers")
    eventually(lambda: _breaker(laboratory, noisy) == "closed", _TIMEOUT_S + 2 * _PROBES_S, "the circuit closes")


def _measure_idle(laboratory: Laboratory) -> None:
    """Process time of the worker for a while in which nothing can be done."""
    pid = laboratory.workers[0].pid
    before = _process_time_s(pid)
    laboratory.hold(PARKED_S)
    laboratory.notes["parked_cpu_percent"] = round(100 * (_process_time_s(pid) - before) / PARKED_S, 1)


def _process_time_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _breaker(laboratory: Laboratory, load: Load) -> str:
    """What ``webhook breakers`` shows of a tenant's circuit."""
    listed = orjson.loads(laboratory.roles.run("breakers", "list", "--json"))
    return next((str(each["state"]) for each in listed if each["tenant"] == load.tenant_id), "closed")


def _parked(laboratory: Laboratory) -> int:
    """Tasks that wait behind a gate."""
    query = select(func.count()).select_from(WEBHOOK_SCHEDULE)
    behind = _WAITS.dispatched_at.is_(None) & _WAITS.closed_at.is_(None) & _WAITS.held_by.is_not(None)
    with laboratory.engine.connect() as connection:
        return int(connection.execute(query.where(behind)).scalar_one())


def examine_hanging(laboratory: Laboratory, evidence: Evidence, _size: Size) -> None:
    """The neighbours' 99th percentile from request to start, and what the worker did while it could do nothing."""
    alone, beside, end, _ = (fault.at for fault in laboratory.faults)
    _compare(laboratory, evidence, {"alone": (alone, beside), "beside": (beside, end)}, factor=2.0)
    if laboratory.notes["parked_cpu_percent"] > PARKED_PERCENT:
        laboratory.violations.append(f"the worker was busy for {laboratory.notes['parked_cpu_percent']} % of the time")


def _compare(
    laboratory: Laboratory, evidence: Evidence, times: dict[str, tuple[float, float]], *, factor: float
) -> None:
    """The first load's 99th percentile in two times, by name: the second at most ``factor`` or ``MORE_S`` more."""
    neighbours = {each.event_id for each in laboratory.loads[0].requested}
    waits: list[float] = []
    for name, (begin, end) in times.items():
        chosen = [each for each in evidence.requested if each.event_id in neighbours and begin <= each.due < end]
        late = lateness(Evidence(chosen, evidence.executions, (), {}))
        waits.append(quantile(late, 0.99))
        laboratory.notes[f"{name}_p50_s"] = round(quantile(late, 0.5), 3)
        laboratory.notes[f"{name}_p99_s"] = round(waits[-1], 3)
    bound = max(factor * waits[0], waits[0] + MORE_S)
    if waits[1] > bound:
        laboratory.violations.append(f"99 % of the neighbours' start within {waits[1]:.3f} s, the bound is {bound:.3f}")


def play_rates(laboratory: Laboratory, size: Size) -> None:
    """The neighbours alone, then beside a thousand events for a host with a call rate; then takeovers of the relay."""
    other, limited = (open_upstream(laboratory, host) for host in ("127.0.0.2", "127.0.0.1"))
    load = laboratory.start(RATE_WORKERS, configured(other))
    burst = laboratory.tenant(configured(limited))
    laboratory.notes["tenant"] = burst.tenant_id
    rule = ("--limit", str(LIMIT), "--per", "1", "--burst", str(BURST))
    laboratory.roles.run("rates", "set", burst.tenant_id, limited.host, *rule)
    load.start(size.rate, shape=calling(other))
    laboratory.hold(size.step_s / 2)
    laboratory.mark("alone")
    laboratory.hold(size.step_s)
    laboratory.mark("beside the burst")
    burst.start(size.events, shape=calling(limited), events=size.events)
    laboratory.hold(size.step_s)
    for _ in range(size.faults):
        laboratory.mark("kill -9 of the relay")
        laboratory.relay.kill()
        laboratory.relay.start()
        laboratory.hold(size.step_s)
    burst.wait()
    load.stop()
    laboratory.notes["calls"] = limited.calls


def examine_rates(laboratory: Laboratory, evidence: Evidence, _size: Size) -> None:
    """No second with more calls than the rate and one burst; the neighbours' 99th percentile."""
    alone, beside, killed = (fault.at for fault in laboratory.faults[:3])
    _compare(laboratory, evidence, {"alone": (alone, beside), "beside": (beside, killed)}, factor=1.2)
    calls = sorted(laboratory.notes.pop("calls"))
    most = most_within(calls, 1.0)
    laboratory.notes["calls"] = len(calls)
    laboratory.notes["most_calls_in_a_second"] = most
    if len(calls) > 1:
        laboratory.notes["calls_per_s"] = round((len(calls) - 1) / (calls[-1] - calls[0]), 2)
    if most > LIMIT + BURST:
        laboratory.violations.append(f"the upstream saw {most} calls in one second, {LIMIT + BURST} is the bound")


def most_within(times: list[float], seconds: float) -> int:
    """The most of sorted ``times`` that fall into one period of this length."""
    return max((bisect_left(times, begin + seconds) - index for index, begin in enumerate(times)), default=0)


SCENARIOS: Final = (
    Scenario(
        "hanging-tenant",
        "F17, F18: one tenant sends 95 % of the load to an upstream that hangs",
        play_hanging,
        full=Size(rate=400, faults=1, step_s=30, settle_s=240),
        equipment=Equipment(environment={**_OUTBOUND, "WEBHOOK_BREAKER_LONGEST_OPEN_S": f"{_PROBES_S:g}"}),
        # What waits behind the circuit goes on in its order, and what was calling when it opened comes after it.
        allowed=frozenset({"inversions"}),
        examine=examine_hanging,
    ),
    Scenario(
        "rates",
        "1,000 events at once for a host with a call rate, relay killed meanwhile",
        play_rates,
        full=Size(rate=50, events=1000, faults=2, step_s=20, settle_s=240),
        equipment=Equipment(environment=_OUTBOUND),
        allowed=frozenset({"repeated"}),
        examine=examine_rates,
    ),
)
