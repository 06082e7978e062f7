"""A rolling deploy with a renamed step: no mixed run, no failure; what is parked goes on by command or by itself."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Engine

from handlers.contract import Context, PluginManifest
from handlers.registry import PluginRegistry
from handlers.results import Completed
from handlers.tenants.configuration import TenantConfiguration, parse_configuration
from handlers.tenants.repository import Tenant
from projections.migrate import upgrade
from projections.open_runs import open_runs, parked_runs
from schemas.events import TaskEvent, TaskReady, now_micros
from streams.agents.executions import TenantExecutions
from streams.agents.versions import pipeline_hash, versions_of
from streams.capture.gates import ControlledLimits
from streams.capture.relay import Relay, RelayOptions
from streams.control.signals import Heartbeat
from streams.control.view import ControlView
from streams.database import create_database_engine
from streams.settings import Settings
from streams.versions import Releasing
from tests.integration.scheduled import projecting
from tests.streams.capture.relay_support import running
from tests.streams.engine.workload import TIER, Reader, Worker, put, task_ready
from tests.support.waiting import eventually_async
from topics.catalogue import Catalogue

pytestmark = pytest.mark.embedded

ENDPOINT = "webhook/order"


def configuration(*steps: str) -> TenantConfiguration:
    entry = {"id": "orders", "webhook_endpoint": ENDPOINT, "pipeline": [{"handler_class": step} for step in steps]}
    return parse_configuration({"plugin_name": "p", "plugin_route_prefix": "p", "webhook_settings": [entry]})


OLD, NEW = configuration("Check", "Send"), configuration("Check", "Deliver")
OLD_HASH, NEW_HASH = (pipeline_hash(each.webhook_settings[0]) for each in (OLD, NEW))


@dataclass
class Deployment:
    """One tenant, the plugin of the moment, and what was called: event, step, handler and version."""

    settings: Settings
    engine: Engine
    tenant: Tenant = field(default_factory=lambda: _tenant(OLD))
    plugins: PluginRegistry = field(default_factory=PluginRegistry)
    calls: list[tuple[str, int, str, str]] = field(default_factory=list)

    def deploy(self, version: str, configuration: TenantConfiguration, *handlers: str) -> "Deployment":
        made = {name: self._maker(name, version) for name in handlers}
        self.plugins = PluginRegistry({"p": PluginManifest("p", version, made)})
        self.tenant = _tenant(configuration)
        return self

    def _maker(self, name: str, version: str) -> Callable[[], Any]:
        calls = self.calls

        class Step:
            async def handle_step(self, data: dict[str, Any], step: int, context: Context) -> Completed:
                calls.append((context.event_id, step, name, version))
                return Completed({"by": version})

        return Step

    def worker(self) -> Worker:
        http: Any = None
        executions: Any = TenantExecutions(self, self.plugins, http, 30.0)
        return Worker(self.settings, executions)

    def workers(self) -> list[Heartbeat]:
        """What the relay hears."""
        versions, accepts = versions_of(self.plugins)
        return [Heartbeat("w", TIER, 0, 0, 1, 0, False, 0, "1", [0], [], versions, accepts)]

    def peek(self, tenant_id: str) -> Tenant:
        return self.tenant

    get = peek

    def parked(self) -> dict[str, int]:
        with self.engine.connect() as connection:
            return {each.gate: each.tasks for each in parked_runs(connection)}

    def versions_of(self, event_id: str) -> list[tuple[int, str, str]]:
        return [call[1:] for call in self.calls if call[0] == event_id]


def _tenant(configuration: TenantConfiguration) -> Tenant:
    return Tenant("1", "u1", "Shop", (), configuration)


@pytest.fixture
def deployment(embedded_settings: Settings, catalogue: Catalogue, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment beside a projector and a relay that obeys its heartbeats."""
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections", "outbox"))
    made = Deployment(embedded_settings, engine)
    limits = ControlledLimits(ControlView(), 100, lambda: made.workers())
    options = RelayOptions(limits=limits, proof_timeout_s=0.1)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        stack.enter_context(projecting(embedded_settings, catalogue, engine))
        stack.enter_context(running(Relay(embedded_settings, catalogue, [engine], engine, options)))
        yield made


@pytest.fixture
def events(embedded_settings: Settings, catalogue: Catalogue) -> Iterator[Reader]:
    reader = Reader(embedded_settings, catalogue.events)
    yield reader
    reader.close()


def task(event_id: str, version: str, hash_: str | None, step: Literal[0, 1] = 0) -> TaskReady:
    results = ['{"by":"1.0"}'] * step
    at = now_micros()
    pinned = {"plugin_version": f"p {version}", "pipeline_hash": hash_, "settings_entry": "orders"}
    return task_ready(event_id, step=step, results=results, endpoint=ENDPOINT, accepted_at=at, **pinned)


def put_tasks(deployment: Deployment, *tasks: TaskReady) -> None:
    catalogue = deployment.settings.catalogue()
    for topic, step in ((catalogue.topic(TIER), 0), (catalogue.steps(TIER), 1)):
        put(deployment.settings, topic, [(f"1|Order|{each.event_id}", each) for each in tasks if each.step == step])


def ended(events: Reader) -> dict[str, TaskEvent]:
    return {each.event_id: each for each in events.events() if each.kind not in ("step_completed", "deferred")}


async def test_a_deploy_that_renames_a_step_parks_the_runs_of_before_until_they_are_released(
    deployment: Deployment, events: Reader
) -> None:
    old = [f"old{number}" for number in range(6)]
    async with deployment.deploy("1.0", OLD, "Check", "Send").worker():
        put_tasks(deployment, task("before", "1.0", OLD_HASH))
        await eventually_async(lambda: "before" in ended(events))
    deployment.deploy("2.0", NEW, "Check", "Deliver")
    put_tasks(deployment, *(task(name, "1.0", OLD_HASH, 1 if number % 2 else 0) for number, name in enumerate(old)))
    put_tasks(deployment, *(task(f"new{number}", "2.0", NEW_HASH) for number in range(3)))
    async with deployment.worker() as worker:
        await eventually_async(lambda: deployment.parked() == {"version|p|1.0": 6} and len(ended(events)) == 4)
        with deployment.engine.connect() as connection:
            runs = {each.runs_on: each.events for each in open_runs(connection)}
        assert runs == {f"p 1.0#{OLD_HASH}": 6}
        # Nothing has been called for them, and no attempt is counted.
        assert not any(name.startswith("old") for name, *_ in deployment.calls)
        deferred = [each for each in events.events() if each.kind == "deferred"]
        assert [(each.gate, each.attempt) for each in deferred] == [("version|p|1.0", 1)] * 6
        releasing = Releasing(deployment.settings, deployment.engine)
        released = await asyncio.to_thread(lambda: releasing.release("p", "1.0", by="me", timeout_s=30))
        assert (released.tasks, released.confirmed) == (6, True)
        await eventually_async(lambda: len(ended(events)) == 10)
        assert not worker.crashes
    assert {each.kind for each in ended(events).values()} == {"completed"}
    assert deployment.versions_of("before") == [(0, "Check", "1.0"), (1, "Send", "1.0")]
    for number, name in enumerate(old):
        whole = [(0, "Check", "2.0"), (1, "Deliver", "2.0")]
        assert deployment.versions_of(name) == (whole[1:] if number % 2 else whole)
        # From now on it is a run of the version that carries it on.
        assert (ended(events)[name].plugin_version, ended(events)[name].pipeline_hash) == ("p 2.0", NEW_HASH)


async def test_parked_runs_go_on_by_themselves_when_their_version_is_back(
    deployment: Deployment, events: Reader
) -> None:
    names = [f"e{number}" for number in range(4)]
    deployment.deploy("2.0", OLD, "Check", "Send")
    put_tasks(deployment, *(task(name, "1.0", OLD_HASH) for name in names))
    async with deployment.worker():
        await eventually_async(lambda: deployment.parked() == {"version|p|1.0": 4})
        assert not deployment.calls
    deployment.deploy("1.1", OLD, "Check", "Send")
    async with deployment.worker():
        await eventually_async(lambda: len(ended(events)) == 4)
    assert {each.kind for each in ended(events).values()} == {"completed"}
    assert sum(each.kind == "deferred" for each in events.events()) == 4
    for name in names:
        assert deployment.versions_of(name) == [(0, "Check", "1.1"), (1, "Send", "1.1")]


@pytest.mark.parametrize("after", [NEW, configuration("Check")], ids=["renamed", "shortened"])
async def test_a_run_whose_pipeline_was_changed_waits_for_a_command_alone(
    deployment: Deployment, events: Reader, after: TenantConfiguration
) -> None:
    """Every worker has its version, so a gate of the version alone would let it go again and again."""
    deployment.deploy("1.0", after, "Check", "Send")
    put_tasks(deployment, task("a", "1.0", OLD_HASH, 1), task("b", "1.0", OLD_HASH))
    gate = f"version|p|1.0#{OLD_HASH}"
    async with deployment.worker():
        # The plugin lacks the new step: what has not begun runs by the present pipeline and fails, the other is kept.
        await eventually_async(lambda: deployment.parked() == {gate: 1} and "b" in ended(events))
        deployment.deploy("1.0", OLD, "Check", "Send")
        released = await asyncio.to_thread(
            lambda: Releasing(deployment.settings, deployment.engine).release("p", f"1.0#{OLD_HASH}", by="me")
        )
        assert released.tasks == 1
        await eventually_async(lambda: "a" in ended(events))
    assert deployment.versions_of("a") == [(1, "Send", "1.0")]
    assert [each.event_id for each in events.events() if each.kind == "deferred"] == ["a"]
