"""Faults of the workers: kills, hand-overs, deaths at every point of a task (F1, F14, F15, F20)."""

import random
from collections import Counter
from itertools import pairwise
from typing import Final

from schemas.events import TaskEvent
from schemas.kinds import FINAL_KINDS
from tests.faults.checker import Evidence, standstill
from tests.faults.laboratory import CONFIGURATION, Equipment, Laboratory
from tests.faults.load import ENDPOINT, Shape, Wanted, brief
from tests.faults.scenario import Scenario, Size
from tests.faults.vendor import Vendor

WORKERS: Final = 3
GROUP_STANDSTILL_S: Final = 2.5
PARTITION_STANDSTILL_S: Final = 5.0
JOINS: Final = "a worker joins"
LEAVES: Final = "SIGTERM of a worker"
REPLACED: Final = "a worker joins, and amid its rebalance one gets SIGTERM"
MOVES: Final = (JOINS, LEAVES, REPLACED)
ORDERS: Final = "webhook/faults/order"
ORDERING: Final = {
    **CONFIGURATION,
    "route_handlers": {ENDPOINT: "FaultWebhookHandler", ORDERS: "FaultOrderHandler"},
}
# The vendor is on loopback, and all clocks are those of one machine.
ORDERING_ROLES: Final = {"WEBHOOK_OUTBOUND_ALLOW": "127.0.0.1", "WEBHOOK_CLOCKS_APART_S": "1"}
LONG_HANDLERS: Final = {"WEBHOOK_TASK_TIMEOUT_S": "150", "WEBHOOK_STOP_GRACE_S": "150"}


def play_kills(laboratory: Laboratory, size: Size) -> None:
    """Kill a worker chosen at random, start it again, and so on; the moment is random too. Every fifth event orders."""
    load = laboratory.start(WORKERS, ORDERING)
    load.start(size.rate, shape=ordering(laboratory))
    kill_workers(laboratory, size)
    laboratory.hold(size.step_s / 2)


def kill_workers(laboratory: Laboratory, size: Size) -> None:
    """As many kills as the size says; the next one may come while the group still recovers from the last."""
    for _ in range(size.faults):
        laboratory.hold(size.step_s * laboratory.random.uniform(0.5, 1.0))
        victim = laboratory.random.choice(laboratory.workers)
        laboratory.mark(f"kill -9 of worker {victim.pid}")
        victim.kill()
        laboratory.hold(laboratory.random.uniform(0.0, 1.0) * size.step_s / 2)
        victim.start()
    laboratory.wait_members(WORKERS)


def ordering(laboratory: Laboratory) -> Shape:
    """Events of which every fifth orders at a vendor, which is started."""
    vendor = laboratory.vendor = laboratory.cleanup.enter_context(Vendor())

    def shape(sequence: int, chance: random.Random) -> Wanted:
        if sequence % 5:
            return _mixed(sequence, chance)
        # An order that is looked for comes back after later events of its key (R12).
        return Wanted({"url": vendor.url}, endpoint=ORDERS, is_ordered=False)

    return shape


def examine_orders(laboratory: Laboratory, _evidence: Evidence, _size: Size) -> None:
    """The vendor has each order once, whoever was killed over it, and what was unclear has been cleared up (R6).

    The orders are those of the laboratory's first load.
    """
    vendor = laboratory.vendor
    assert vendor is not None
    wanted = {each.event_id for each in laboratory.loads[0].requested if each.sequence % 5 == 0}
    twice = [reference for reference, count in vendor.taken.items() if count > 1]
    if twice or vendor.taken.keys() != wanted:
        text = f"the vendor took {len(vendor.taken)} of {len(wanted)} orders, {len(twice)} more than once: {twice[:3]}"
        laboratory.violations.append(text)
    outcomes = [fact for fact in laboratory.facts if isinstance(fact, TaskEvent) and fact.kind in FINAL_KINDS]
    bad = Counter(fact.kind for fact in outcomes if fact.kind != "completed")
    if bad:
        laboratory.violations.append(f"not everything was completed: {dict(bad)}")
    laboratory.notes["orders"] = vendor.taken.total()
    laboratory.notes["unclear_orders_found"] = vendor.looks[True]
    laboratory.notes["looked_for_in_vain"] = vendor.looks[False]


def play_deaths(laboratory: Laboratory, size: Size) -> None:
    """Handlers end their own process: before their effect, and up to 0.6 s after it, so at each thing written."""
    load = laboratory.start(WORKERS)
    every = max(1, int(size.rate * size.step_s))

    def shape(sequence: int, chance: random.Random) -> Wanted:
        if sequence % every != every - 1 or sequence > every * size.faults:
            return _mixed(sequence, chance)
        dies = chance.choice(("start", "end", "end"))
        return Wanted({"sleep_s": 0.02, "dies": dies, "dies_after_s": chance.uniform(0.0, 0.6) if dies == "end" else 0})

    laboratory.mark("deaths begin")
    load.start(size.rate, shape=shape, events=every * (size.faults + 1))
    load.wait()


def play_handover(laboratory: Laboratory, size: Size) -> None:
    """Workers join, leave, and do both at once, in turn, while some handlers take longer than all of it."""
    load = laboratory.start(WORKERS)
    load.start(size.rate, keys=5000, shape=_long(size.step_s))
    laboratory.hold(size.step_s)
    for number in range(size.faults):
        make_move(laboratory, MOVES[number % len(MOVES)])
        laboratory.hold(size.step_s)


def make_move(laboratory: Laboratory, move: str) -> None:
    """One of ``MOVES``; returns when the group is whole again."""
    laboratory.mark(move)
    if move != LEAVES:
        laboratory.add_worker()
    if move == REPLACED:
        # So that the leave falls into the rebalance of the join.
        laboratory.wait_rebalance()
    if move != JOINS:
        laboratory.workers.pop(0).terminate()
    laboratory.wait_members(len(laboratory.workers))


def examine_handover(laboratory: Laboratory, evidence: Evidence, _size: Size) -> None:
    """How long group and partitions stood still at each join and leave."""
    times = [fault.at for fault in laboratory.faults] + [laboratory.load_ended]
    stops = [standstill(evidence, begin, end) for begin, end in pairwise(times)]
    laboratory.notes["group_standstill_s"] = [round(each.group_s, 2) for each in stops]
    laboratory.notes["partition_standstill_s"] = [round(each.partition_s, 2) for each in stops]
    claims = Counter(fact.kind for fact in laboratory.facts if isinstance(fact, TaskEvent))
    laboratory.notes["claimed"] = claims["claimed"]
    if not claims["claimed"]:
        laboratory.violations.append("no task was running when partitions went to another worker")
    for fault, stop in zip(laboratory.faults, stops, strict=True):
        rebalances = 2 if fault.name == REPLACED else 1
        if stop.group_s > rebalances * GROUP_STANDSTILL_S or stop.partition_s > rebalances * PARTITION_STANDSTILL_S:
            text = f"the group stood still for {stop.group_s:.1f} s, a partition for {stop.partition_s:.1f} s"
            laboratory.violations.append(f"{fault.name}: {text}")


def _mixed(_sequence: int, chance: random.Random) -> Wanted:
    return Wanted({"sleep_s": chance.choice((0.005, 0.02, 0.02, 0.1, 0.5))})


def _long(step_s: float) -> Shape:
    """Most take 20 ms, 2 % as long as it is from one join or leave to the next, one in a thousand six times that."""

    def shape(sequence: int, chance: random.Random) -> Wanted:
        if sequence % 1000 == 500:
            return Wanted({"sleep_s": 6 * step_s})
        return Wanted({"sleep_s": step_s}) if sequence % 50 == 7 else brief(sequence, chance)

    return shape


SCENARIOS: Final = (
    Scenario(
        "kill-worker",
        "F1: kill -9 of workers at random moments, every fifth event an order that must not come twice",
        play_kills,
        full=Size(rate=100, faults=100, step_s=16, settle_s=120),
        equipment=Equipment(environment=ORDERING_ROLES),
        allowed=frozenset({"repeated"}),
        examine=examine_orders,
    ),
    Scenario(
        "die-in-task",
        "F1: a worker dies before, in and after each step of a task",
        play_deaths,
        full=Size(rate=100, faults=30, step_s=12, settle_s=180),
        allowed=frozenset({"repeated"}),
    ),
    Scenario(
        "hand-over",
        "F11, F14, F15, F20: workers join and leave, handlers take up to 120 s, clocks are wrong",
        play_handover,
        full=Size(rate=300, faults=9, step_s=20, settle_s=240),
        # Hosts whose clocks are a minute apart: claims and leases compare none (R5).
        equipment=Equipment(environment=LONG_HANDLERS, clocks_s=(0, 60, -60)),
        examine=examine_handover,
    ),
)
