"""One installation of its own: services, roles under a supervisor, a load, and in the end the evidence."""

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import orjson
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.exc import DBAPIError

from projections.fold import fold
from projections.records import Fact
from projections.tables import WEBHOOK_EVENTS
from schemas.kinds import FINAL_KINDS
from streams.broker import provision
from streams.broker.connection import admin_client
from streams.database import create_database_engine
from streams.settings import Settings
from tests.faults import plugin, wrong_clock
from tests.faults.checker import Evidence
from tests.faults.evidence import TimedLog, histories_of, read_journal
from tests.faults.load import ENDPOINT, Load
from tests.faults.plant import Services, plant
from tests.faults.reasons import ReasonWatch
from tests.faults.units import Supervisor, Unit
from tests.faults.vendor import Vendor
from tests.projections.stored import stored_rows
from tests.support.load import Log, differences, projected_positions
from tests.support.roles import Installation, has_members, installation, python_path
from tests.support.services import service_directory
from tests.support.waiting import eventually

TIER: Final = "webhook-high"
CONFIGURATION: Final[Mapping[str, Any]] = {
    "plugin_name": "faults",
    "plugin_route_prefix": "faults",
    "route_handlers": {ENDPOINT: "FaultWebhookHandler"},
}
"""A tenant whose events the plugin of the fault runs carries out."""

_START_S: Final = 120.0
_DRAIN_S: Final = 180.0


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a scenario runs on. ``disks`` in MiB, see ``plant``; ``environment`` is every role's.

    ``clocks_s``: by how many seconds the clocks of the workers' hosts are ahead, one worker after the other.
    """

    nodes: int = 1
    partitions: int = 12
    disks: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    clocks_s: Sequence[float] = (0.0,)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was done, and when by the monotonic clock."""

    name: str
    at: float


class Laboratory:
    """Everything that a scenario uses. Made by ``laboratory``."""

    def __init__(self, services: Services, roles: Installation, equipment: Equipment, seed: int) -> None:
        self.kafka, self.postgres, self.disks = services
        self.roles = roles
        self.random = random.Random(seed)
        self.settings = roles.settings
        self.catalogue = roles.settings.catalogue()
        self.engine: Engine = create_database_engine(self.postgres.url)
        self.cleanup = ExitStack()
        self.faults: list[Fault] = []
        self.notes: dict[str, Any] = {}
        self.violations: list[str] = []
        self.loads: list[Load] = []
        self.facts: list[Fact] = []
        self.load_ended = 0.0
        self.phases_s: dict[str, float] = {}
        self._phase_began = time.monotonic()
        self.reasons = ReasonWatch(self.engine, roles.settings)
        self.journal = roles.journal.with_name("faults.journal")
        self._seed = seed
        self._clocks_s = cycle(equipment.clocks_s)
        path = python_path(_install_plugin(roles.journal.parent))
        own = {plugin.JOURNAL: str(self.journal), "PYTHONPATH": path}
        self.supervisor = Supervisor(roles, {**own, **equipment.environment})
        self.projector: Unit
        self.relay: Unit
        self.intake: Unit
        self.workers: list[Unit] = []
        self.vendor: Vendor | None = None

    def start(self, workers: int, configuration: Mapping[str, Any] = CONFIGURATION) -> Load:
        """Start every role, wait until the workers have partitions, and make a tenant; its load, not yet running."""
        self._create_topics()
        self.roles.run("migrate")
        load = self.tenant(configuration)
        self.projector = self.supervisor.add("project")
        self.relay = self.supervisor.add("relay")
        self.intake = self.supervisor.add("intake")
        for _ in range(workers):
            self.add_worker()
        self.wait_members(workers)
        self.reasons.start()
        self.end_phase("start")
        return load

    def end_phase(self, name: str) -> None:
        """Note how long it took since the phase before it ended; shown with the figures."""
        now = time.monotonic()
        self.phases_s[name] = round(now - self._phase_began, 1)
        self._phase_began = now

    def add_worker(self) -> None:
        """Start one more worker; the clocks of the equipment go round."""
        clock_s = next(self._clocks_s)
        prefix = (sys.executable, wrong_clock.__file__, str(clock_s)) if clock_s else ()
        self.workers.append(self.supervisor.add("work", TIER, prefix=prefix))

    def _create_topics(self) -> None:
        admin = admin_client(self.settings)
        provision.apply(admin, self.catalogue)
        # The time at which an outcome was written cannot then be a worker's, whose clock may be wrong.
        resource = ConfigResource(
            ConfigResource.Type.TOPIC,
            self.catalogue.events,
            incremental_configs=[
                ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
            ],
        )
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(_START_S)

    def tenant(self, configuration: Mapping[str, Any] = CONFIGURATION) -> Load:
        """Add a tenant; its load."""
        file = self.journal.with_name("tenant.json")
        file.write_bytes(orjson.dumps(configuration))
        name = f"Tenant {len(self.loads)}"
        created = orjson.loads(self.roles.run("tenants", "create", name, "--config", str(file), "--json"))
        seed = self._seed + len(self.loads)
        load = Load(self.engine, self.catalogue.requests, str(created["id"]), seed)
        self.loads.append(load)
        return load

    def wait_members(self, members: int, tier: str = TIER) -> None:
        """Until so many workers of a tier have partitions."""
        found = _poll(lambda: self._has_members(members, tier), _START_S)
        assert found, f"{tier} does not have {members} members within {_START_S:g} s"

    def wait_rebalance(self, tier: str = TIER) -> None:
        """Until a tier's group is about to share its partitions anew."""
        found = _poll(lambda: not self._is_stable(tier), _START_S)
        assert found, f"{tier} does not rebalance within {_START_S:g} s"

    def wait_accepted(self, events: int, timeout_s: float) -> None:
        """Until so many events are in their tiers."""
        eventually(lambda: self._rows(WEBHOOK_EVENTS.c.tier.is_not(None)) >= events, timeout_s, f"{events} accepted")

    def waiting(self, tier: str) -> int:
        """Events of a tier that have not ended."""
        return self._rows((WEBHOOK_EVENTS.c.tier == tier) & WEBHOOK_EVENTS.c.kind.not_in(FINAL_KINDS))

    def _has_members(self, members: int, tier: str) -> bool:
        try:
            return has_members(self.kafka.admin, tier, self.catalogue.topic(tier), members)
        except KafkaException:
            # The broker may have been away a moment ago.
            return False

    def _is_stable(self, tier: str) -> bool:
        # Held until the answer is there: without its client it would never come.
        admin = self.kafka.admin
        group = admin.describe_consumer_groups([tier], request_timeout=10)[tier].result(_START_S)
        return bool(group.state == ConsumerGroupState.STABLE)

    def mark(self, name: str) -> float:
        """Note that a fault begins now."""
        self.faults.append(Fault(name, time.monotonic()))
        return self.faults[-1].at

    def hold(self, seconds: float) -> None:
        """Let the load go on for so long: the length of a fault is part of the scenario, nothing is waited for."""
        time.sleep(seconds)

    def finish(self, settle_s: float) -> Evidence:
        """End the load, wait until every event has ended or for ``settle_s``, stop everything, collect."""
        self.end_phase("play")
        for load in self.loads:
            load.stop()
        self.load_ended = time.monotonic()
        asked = sum(len(load.requested) for load in self.loads)
        # What has not ended by then is lost, and the checker says so.
        _poll(lambda: self.ended() >= asked, settle_s)
        self.end_phase("settle")
        self.reasons.stop()
        self.notes["reasons"] = dict(self.reasons.seen.most_common())
        self.notes["looks"] = self.reasons.looks
        running = [unit for unit in self.supervisor.units if unit is not self.projector and unit.is_running]
        for unit in running:
            unit.terminate()
        for unit in running:
            unit.wait_terminated(_DRAIN_S)
        _poll(self._projected_all, _DRAIN_S)
        self.supervisor.close()
        if self.projector.is_running:
            self.projector.terminate()
            self.projector.wait_terminated(_DRAIN_S)
        self.end_phase("stop")
        return self._collect()

    def ended(self) -> int:
        """Events that the history shows as ended; 0 while the database is away."""
        return self._rows(WEBHOOK_EVENTS.c.kind.in_(FINAL_KINDS))

    def _rows(self, condition: ColumnElement[bool]) -> int:
        """Rows of the history; 0 while the database is away."""
        try:
            with self.engine.connect() as connection:
                return connection.execute(
                    select(func.count()).select_from(WEBHOOK_EVENTS).where(condition)
                ).scalar_one()
        except DBAPIError:
            return 0

    def _projected_all(self) -> bool:
        positions = projected_positions(self.engine)
        return all(positions.get(place, 0) == end for place, end in Log(self.settings).ends().items())

    def _collect(self) -> Evidence:
        log = TimedLog(self.settings)
        self.facts = log.facts()
        with self.engine.connect() as connection:
            rows = stored_rows(connection)
        self.violations.extend(
            f"history is not the fold of the log: {each}" for each in differences(rows, fold(self.facts))
        )
        if self.supervisor.exits:
            self.notes["exits"] = [f"{name}: {code}" for name, code in self.supervisor.exits]
        return Evidence(
            [each for load in self.loads for each in load.requested],
            read_journal(self.journal),
            log.outcomes,
            histories_of(rows),
            self.supervisor.ends,
            self.supervisor.disturbed,
            frozenset(self.reasons.unexplained),
        )

    def keep_logs(self, directory: Path) -> None:
        """Copy what each process printed, Kafka's too, and the journal."""
        directory.mkdir(parents=True, exist_ok=True)
        for log in self.kafka.logs():
            shutil.copy(log, directory / f"kafka-{log.parent.name}.log")
        for role in self.roles.roles:
            shutil.copy(role.log, directory / f"{role.log.parent.name}.log")
        if self.journal.exists():
            shutil.copy(self.journal, directory / "journal")

    def close(self) -> None:
        for load in self.loads:
            load.stop()
        self.reasons.stop()
        self.supervisor.close()
        self.cleanup.close()
        self.engine.dispose()


def _poll(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def laboratory(equipment: Equipment, seed: int) -> Iterator[Laboratory]:
    """Services and an installation of their own; whatever still runs in the end is killed, and all files go."""
    with service_directory() as directory, plant(directory, equipment.nodes, equipment.disks) as services:
        kafka, postgres, _ = services
        settings = Settings.model_validate(
            {
                "data_dir": directory / "own",
                "bootstrap_servers": kafka.bootstrap_servers,
                "partitions": equipment.partitions,
            }
        )
        # Apart from the servers' files, which belong to other users.
        with (
            tempfile.TemporaryDirectory(prefix="webhook-faults-") as own,
            installation(settings, postgres.url, Path(own)) as roles,
        ):
            made = Laboratory(services, roles, equipment, seed)
            try:
                yield made
            finally:
                made.close()


def _install_plugin(directory: Path) -> Path:
    """The plugin as a distribution in a directory of its own, to be put on the path."""
    place = directory / "faults-plugin"
    metadata = place / "webhook_faults_plugin-1.0.0.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(plugin.__file__, place / "webhook_faults_plugin.py")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: webhook-faults-plugin\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text("[webhook_streams.plugins]\nfaults = webhook_faults_plugin:PLUGIN\n")
    return place
