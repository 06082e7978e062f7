"""A call rate over worker, projector and relay: the upstream sees no more than the rate and one burst in any second."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from handlers.results import Completed, Result
from projections.migrate import upgrade
from schemas.events import ControlState, TaskReady, now_micros
from streams.capture.gates import ControlledLimits
from streams.capture.relay import Relay, RelayOptions
from streams.control.log import control_state
from streams.control.view import RATE, ControlView, Rate
from streams.database import create_database_engine
from streams.settings import Settings
from tests.integration.scheduled import projecting
from tests.streams.capture.relay_support import running
from tests.streams.engine.workload import TIER, FunctionExecutions, Worker, put, task_ready
from tests.support.waiting import eventually_async
from topics.catalogue import Catalogue
from topics.keys import join_parts

pytestmark = pytest.mark.embedded

HOST = "api.example.com"
EVENTS = 60


class Upstream:
    """Remembers when it was called, and for which event."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, str]] = []

    async def __call__(self, task: TaskReady) -> Result:
        self.calls.append((time.monotonic(), task.event_id))
        return Completed({})


def rate(limit: int, burst: int) -> ControlState:
    return control_state(RATE, join_parts("1", HOST), Rate(limit, 1.0, burst)._asdict(), "test")


async def test_the_upstream_sees_its_rate_in_order_and_a_change_holds_at_once(
    embedded_settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    engine = create_database_engine(f"sqlite:///{tmp_path}/webhook.db")
    upgrade(engine, ("projections", "outbox"))
    upstream, view = Upstream(), ControlView()
    view.apply(rate(20, 4))
    executions = FunctionExecutions(upstream)
    executions._execution = replace(executions._execution, upstream=HOST)
    options = RelayOptions(limits=ControlledLimits(view), proof_timeout_s=0.1)
    with (
        projecting(embedded_settings, catalogue, engine),
        running(Relay(embedded_settings, catalogue, [engine], engine, options)),
    ):
        async with Worker(embedded_settings, executions) as worker:
            obey = worker.processor.admission._obey
            obey(RATE, join_parts("1", HOST), view.rate("1", HOST))
            names = [f"e{number:02}" for number in range(EVENTS)]
            put(
                embedded_settings,
                catalogue.topic(TIER),
                [("1|Order|1", task_ready(name, accepted_at=now_micros())) for name in names],
            )
            await eventually_async(lambda: len(upstream.calls) >= EVENTS // 2, 60)
            limited = len(upstream.calls)
            view.apply(rate(1000, 100))
            await eventually_async(lambda: len(upstream.calls) == EVENTS, 60)
            await eventually_async(lambda: worker.app.assigned.finished == 2 * EVENTS)
    engine.dispose()
    assert [name for _, name in upstream.calls] == names
    moments = [at for at, _ in upstream.calls[:limited]]
    assert max(sum(begin <= at < begin + 1 for at in moments) for begin in moments) <= 20 + 4
