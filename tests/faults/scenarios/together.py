"""A bad day: one installation, every common fault in turn, orders and pipelines under way. CI performs it."""

import signal
from typing import Final

from tests.faults.checker import Evidence
from tests.faults.laboratory import Equipment, Laboratory
from tests.faults.scenario import Scenario, Size
from tests.faults.scenarios import pipelines, workers
from tests.support.waiting import eventually

_AWAY_S: Final = 1.0


def play(laboratory: Laboratory, size: Size) -> None:
    """Kill workers, let one join, leave, be replaced, stop PostgreSQL without a shutdown, kill the broker."""
    load = laboratory.start(workers.WORKERS, workers.ORDERING)
    load.start(size.rate, shape=workers.ordering(laboratory))
    laboratory.tenant(pipelines.PIPELINE).start(size.rate / 4, shape=pipelines.shape)
    workers.kill_workers(laboratory, size)
    for move in workers.MOVES:
        workers.make_move(laboratory, move)
        laboratory.hold(size.step_s / 4)
    laboratory.mark("PostgreSQL: stop -m immediate")
    laboratory.postgres.stop_immediately()
    laboratory.hold(_AWAY_S)
    laboratory.postgres.start()
    laboratory.hold(size.step_s / 2)
    laboratory.mark("kill -9 of the only broker")
    for worker in laboratory.workers:
        worker.disturb()
    laboratory.kafka.signal(1, signal.SIGKILL)
    laboratory.hold(_AWAY_S)
    laboratory.kafka.start(1)
    # A client that asks for the group while its coordinator is still being made has been seen to abort the process.
    eventually(laboratory.kafka.is_whole, 120, "the broker is back")
    laboratory.wait_members(len(laboratory.workers))
    laboratory.hold(size.step_s / 2)


def examine(laboratory: Laboratory, evidence: Evidence, size: Size) -> None:
    """Orders at the vendor, and the pipelines' steps."""
    workers.examine_orders(laboratory, evidence, size)
    pipelines.examine(laboratory, evidence, size)


SCENARIOS: Final = (
    Scenario(
        "bad-day",
        "F1, F4, F9, F20: kills, a join, a leave, both at once, PostgreSQL and the broker die",
        play,
        full=Size(rate=80, faults=20, step_s=16, settle_s=120),
        short=Size(rate=40, faults=5, step_s=3, settle_s=240),
        equipment=Equipment(environment=workers.ORDERING_ROLES, clocks_s=(0, 0.5, -0.5)),
        allowed=frozenset({"repeated"}),
        examine=examine,
    ),
)
