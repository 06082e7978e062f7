"""Faults of the other roles: relay, intake and projector die or hang, and everything at once (F2, F16)."""

from typing import Final

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from sqlalchemy import select

from streams.capture.outbox import RELAYS
from tests.faults.checker import Evidence
from tests.faults.laboratory import TIER, Equipment, Laboratory
from tests.faults.scenario import Scenario, Size
from tests.faults.units import Unit
from tests.support.waiting import eventually

WORKERS: Final = 2


def play_relay(laboratory: Laboratory, size: Size) -> None:
    """Two relays. The one that publishes is killed, or hangs long enough to be replaced and then goes on, in turn."""
    load = laboratory.start(WORKERS)
    laboratory.supervisor.add("relay")
    load.start(size.rate)
    laboratory.hold(size.step_s / 2)
    for number in range(size.faults):
        holder = _publishing(laboratory)
        if number % 2:
            laboratory.mark("SIGSTOP of the relay that publishes")
            holder.pause()
            laboratory.hold(size.step_s)
            holder.resume()
        else:
            laboratory.mark("kill -9 of the relay that publishes")
            holder.kill()
            holder.start()
        laboratory.hold(size.step_s)


def _publishing(laboratory: Laboratory) -> Unit:
    """The relay that holds the outbox."""
    with laboratory.engine.connect() as connection:
        holder = connection.execute(select(RELAYS.c.holder).where(RELAYS.c.name == "outbox-0")).scalar_one()
    pid = int(holder.split(":")[1])
    return next(unit for unit in laboratory.supervisor.units if unit.pid == pid)


def play_any(laboratory: Laboratory, size: Size) -> None:
    """Kill any process of any role, whichever comes next, and start it again."""
    load = laboratory.start(WORKERS)
    load.start(size.rate)
    for _ in range(size.faults):
        laboratory.hold(size.step_s * laboratory.random.uniform(0.5, 1.0))
        victim = laboratory.random.choice(laboratory.supervisor.units)
        laboratory.mark(f"kill -9 of {victim.role.name}")
        victim.kill()
        laboratory.hold(size.step_s * laboratory.random.uniform(0.0, 0.5))
        victim.start()
    laboratory.wait_members(WORKERS)
    laboratory.hold(size.step_s / 2)


def play_reset(laboratory: Laboratory, size: Size) -> None:
    """Set the group back to the beginning: every record comes again, no handler may run again."""
    load = laboratory.start(WORKERS)
    load.start(size.rate)
    for _ in range(size.faults):
        laboratory.hold(size.step_s)
        laboratory.mark("the group is set back to the beginning")
        for worker in laboratory.workers:
            worker.terminate()
        for worker in laboratory.workers:
            worker.wait_terminated(60)
        topics = (laboratory.catalogue.topic(TIER), laboratory.catalogue.steps(TIER))
        count = laboratory.settings.partitions
        places = [TopicPartition(topic, number, 0) for topic in topics for number in range(count)]
        admin = laboratory.kafka.admin
        request = [ConsumerGroupTopicPartitions(TIER, places)]
        eventually(lambda: _is_empty(laboratory), 60, "the workers have left their group")
        admin.alter_consumer_group_offsets(request)[TIER].result(30)
        for worker in laboratory.workers:
            worker.start()
    laboratory.wait_members(WORKERS)
    laboratory.hold(size.step_s / 2)


def _is_empty(laboratory: Laboratory) -> bool:
    admin = laboratory.kafka.admin
    return not admin.describe_consumer_groups([TIER], request_timeout=10)[TIER].result(15).members


def examine_reset(laboratory: Laboratory, evidence: Evidence, _size: Size) -> None:
    """Whether anything came twice at all."""
    if len(evidence.executions) != len(evidence.requested):
        text = f"{len(evidence.executions)} executions of {len(evidence.requested)} events"
        laboratory.violations.append(text)


SCENARIOS: Final = (
    Scenario(
        "relay-killed",
        "F2: the relay that publishes is killed, or hangs and comes back",
        play_relay,
        full=Size(rate=100, faults=6, step_s=25),
    ),
    Scenario(
        "kill-any",
        "F1, F2: kill -9 of any role at random moments",
        play_any,
        full=Size(rate=100, faults=20, step_s=16),
        allowed=frozenset({"repeated"}),
    ),
    Scenario(
        "group-reset",
        "F16: every record is delivered again",
        play_reset,
        full=Size(rate=200, faults=3, step_s=15),
        equipment=Equipment(partitions=6),
        examine=examine_reset,
    ),
)
