"""Faults of the services: brokers that die, hang or are too few, PostgreSQL, full disks (F4, F5, F6, F9, F10)."""

import signal
from collections.abc import Callable
from typing import Final

from tests.faults.laboratory import Equipment, Laboratory
from tests.faults.scenario import Scenario, Size
from tests.support.waiting import eventually

WORKERS: Final = 2
THREE_NODES: Final = Equipment(nodes=3)
# While nothing can be written, workers may be thrown out of their group with work that has no outcome yet.
REPEATS: Final = frozenset({"repeated", "repeated_without_reason"})


def play_one_broker(laboratory: Laboratory, size: Size) -> None:
    """Kill the only broker, start it again after a while."""

    def fault() -> None:
        laboratory.kafka.signal(1, signal.SIGKILL)
        laboratory.hold(size.step_s / 4)
        laboratory.kafka.start(1)

    _play(laboratory, size, "kill -9 of the only broker", fault)


def play_leader(laboratory: Laboratory, size: Size) -> None:
    """Kill whichever broker leads the log's first partition, start it again."""

    def fault() -> None:
        leader = laboratory.kafka.leader(laboratory.catalogue.events)
        laboratory.kafka.signal(leader, signal.SIGKILL)
        laboratory.hold(size.step_s / 4)
        laboratory.kafka.start(leader)

    _play(laboratory, size, "kill -9 of the leader", fault)


def play_hanging_leader(laboratory: Laboratory, size: Size) -> None:
    """The leader hangs longer than any session, and wakes up believing that it still leads."""

    def fault() -> None:
        leader = laboratory.kafka.leader(laboratory.catalogue.events)
        laboratory.kafka.signal(leader, signal.SIGSTOP)
        laboratory.hold(size.step_s)
        laboratory.kafka.signal(leader, signal.SIGCONT)

    _play(laboratory, size, f"SIGSTOP of the leader for {size.step_s:g} s", fault)


def play_majority(laboratory: Laboratory, size: Size) -> None:
    """Two of three brokers are gone: nothing may be acknowledged until one is back."""

    def fault() -> None:
        kafka = laboratory.kafka
        for number in (1, 2):
            kafka.signal(number, signal.SIGKILL)
        laboratory.hold(size.step_s)
        refused = not kafka.accepts()
        laboratory.notes.setdefault("refused_while_down", []).append(refused)
        if not refused:
            laboratory.violations.append("one of three brokers acknowledged a record")
        for number in (1, 2):
            kafka.start(number)
        eventually(kafka.accepts, 180, "records are acknowledged again")

    laboratory.kafka.create_probe()
    _play(laboratory, size, f"two of three brokers down for {size.step_s:g} s", fault)


def play_database(laboratory: Laboratory, size: Size) -> None:
    """Stop PostgreSQL without a shutdown, or kill it, in turn."""
    kinds = (("stop -m immediate", laboratory.postgres.stop_immediately), ("kill -9", laboratory.postgres.kill))
    load = laboratory.start(WORKERS)
    load.start(size.rate)
    laboratory.hold(size.step_s / 2)
    for number in range(size.faults):
        name, fault = kinds[number % len(kinds)]
        laboratory.mark(f"PostgreSQL: {name}")
        fault()
        laboratory.hold(size.step_s / 4)
        laboratory.postgres.start()
        laboratory.hold(size.step_s)


def play_full_kafka(laboratory: Laboratory, size: Size) -> None:
    """Fill the broker's disk, which shuts it down; make room and start it again, as a person has to."""
    disk = laboratory.disks["kafka"]

    def fault() -> None:
        disk.fill()
        eventually(lambda: not laboratory.kafka.is_running(1), 4 * size.step_s, "Kafka notices that its disk is full")
        laboratory.hold(size.step_s / 4)
        disk.free()
        laboratory.kafka.start(1)

    _play(laboratory, size, "the broker's disk is full", fault)


def play_full_postgres(laboratory: Laboratory, size: Size) -> None:
    """Fill PostgreSQL's disk, make room; start it again where it stopped over that, as a person has to."""
    disk = laboratory.disks["postgres"]

    def fault() -> None:
        disk.fill()
        laboratory.hold(size.step_s)
        disk.free()
        laboratory.postgres.start()

    _play(laboratory, size, "PostgreSQL's disk is full", fault)


def _play(laboratory: Laboratory, size: Size, name: str, fault: Callable[[], None]) -> None:
    """Apply a fault again and again under load; each time the cluster becomes whole again before the next."""
    load = laboratory.start(WORKERS)
    for worker in laboratory.workers:
        worker.disturb()
    load.start(size.rate)
    laboratory.hold(size.step_s / 2)
    for _ in range(size.faults):
        laboratory.mark(name)
        fault()
        eventually(laboratory.kafka.is_whole, 180, "every replica is in sync")
        laboratory.hold(size.step_s / 2)
    laboratory.wait_members(WORKERS)


SCENARIOS: Final = (
    Scenario(
        "broker-killed",
        "F4: kill -9 of the only broker",
        play_one_broker,
        full=Size(rate=100, faults=3, step_s=20),
        allowed=REPEATS,
    ),
    Scenario(
        "leader-killed",
        "F5: three brokers, kill -9 of the leader",
        play_leader,
        full=Size(rate=100, faults=5, step_s=24),
        equipment=THREE_NODES,
        allowed=REPEATS,
    ),
    Scenario(
        "leader-hangs",
        "F6: three brokers, SIGSTOP of the leader",
        play_hanging_leader,
        full=Size(rate=100, faults=2, step_s=30),
        equipment=THREE_NODES,
        allowed=REPEATS,
    ),
    Scenario(
        "majority-lost",
        "F5: three brokers, two of them down",
        play_majority,
        full=Size(rate=100, faults=2, step_s=20),
        equipment=THREE_NODES,
        allowed=REPEATS,
    ),
    Scenario(
        "database-stopped",
        "F9: PostgreSQL stopped without a shutdown, and killed",
        play_database,
        full=Size(rate=100, faults=4, step_s=20),
    ),
    Scenario(
        "kafka-disk-full",
        "F10: no room for Kafka",
        play_full_kafka,
        full=Size(rate=100, faults=1, step_s=20, settle_s=180),
        equipment=Equipment(partitions=4, disks={"kafka": 400}),
        allowed=REPEATS,
    ),
    Scenario(
        "database-disk-full",
        "F10: no room for PostgreSQL",
        play_full_postgres,
        full=Size(rate=100, faults=2, step_s=20, settle_s=180),
        equipment=Equipment(disks={"postgres": 512}),
        allowed=REPEATS,
    ),
)
