"""A process's workers while they run: each obeys `.control`, and tells of itself on `.signals` once a second."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from itertools import islice
from typing import TypeAlias

from handlers.registry import PluginRegistry
from schemas.events import now_micros
from streams.agents.tier import TierProcessor
from streams.agents.tier_records import TierTask
from streams.agents.versions import versions_of
from streams.background import OnCrash, run_in_background
from streams.control.limits import resident_bytes
from streams.control.log import ControlWriter
from streams.control.moves import Move, MoveFollower
from streams.control.signals import HEARTBEAT_S, OLDEST, Heartbeat, SignalWriter
from streams.control.view import ControlView
from streams.control.worker import WorkerControl
from streams.engine.app import WorkerApp
from streams.settings import Settings

Worker: TypeAlias = tuple[WorkerApp, TierProcessor]


@asynccontextmanager
async def controlled(
    settings: Settings,
    workers: Sequence[Worker],
    view: ControlView,
    plugins: PluginRegistry,
    restart: Callable[[], None],
    on_crash: OnCrash,
) -> AsyncIterator[None]:
    """Let ``workers`` obey ``view`` and commands to move records, and send heartbeats, until the block ends.

    ``plugins`` are the installed ones; ``restart`` is called once, at a request to restart one of the tiers.
    """
    control = WorkerControl(view, {processor.tier.name: processor.brake for _, processor in workers}, restart)
    heartbeats = Heartbeats(settings, workers, plugins)
    writer = ControlWriter(settings)
    followed = [processor.admission.follow(view, writer, on_crash) for _, processor in workers]
    control.start(on_crash)
    heartbeats.start(on_crash)
    moves = follow_moves(settings, workers, on_crash)
    await asyncio.to_thread(moves.start)
    try:
        yield
    finally:
        control.stop()
        await asyncio.to_thread(moves.stop)
        for stop in followed:
            stop()
        await asyncio.to_thread(writer.close)
        await heartbeats.stop()


def follow_moves(settings: Settings, workers: Sequence[Worker], on_crash: OnCrash) -> MoveFollower:
    """Lets ``workers`` carry out commands to move records, once it is started (R16)."""
    loop = asyncio.get_running_loop()

    def ask(move: Move, until: float) -> None:
        for _, processor in workers:
            processor.moving.ask(move, until)

    def take(move: Move, until: float) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(ask, move, until)

    return MoveFollower(settings, take, on_crash)


class Heartbeats:
    """Tells of ``workers`` from ``start`` to ``stop``, on their event loop. ``plugins`` are the installed ones."""

    def __init__(self, settings: Settings, workers: Sequence[Worker], plugins: PluginRegistry) -> None:
        self._workers = workers
        self._versions, self._accepts = versions_of(plugins)
        self._writer = SignalWriter(settings)
        self._started_at = now_micros()
        self._task: asyncio.Task[None] | None = None

    def start(self, on_crash: OnCrash) -> None:
        """Begin."""
        self._task = run_in_background("heartbeats", self._beat(), on_crash)

    async def stop(self) -> None:
        """Send no more; those sent last may still arrive."""
        if self._task is not None:
            self._task.cancel()
        await asyncio.to_thread(self._writer.close)

    async def _beat(self) -> None:
        while True:
            for app, processor in self._workers:
                self._writer.send(self._heartbeat(app, processor))
            await asyncio.sleep(HEARTBEAT_S)

    def _heartbeat(self, app: WorkerApp, processor: TierProcessor) -> Heartbeat:
        return Heartbeat(
            worker=processor.worker,
            tier=processor.tier.name,
            started_at=self._started_at,
            running=processor.running,
            window=processor.window,
            waiting=processor.waiting,
            paused=processor.brake.paused,
            memory_bytes=resident_bytes(),
            version=version("webhook-streams"),
            partitions=sorted({each.number for each in app.assigned.partitions if not each.closed}),
            # Tasks stand in the order of their start.
            oldest=[_running(task) for task in islice(processor.started, OLDEST)],
            versions=self._versions,
            accepts=self._accepts,
            attempts=processor.admission.tally.attempts,
            faults=processor.admission.tally.faults,
        )


def _running(task: TierTask) -> tuple[str, int, str]:
    return task.task.event_id, task.started_at, (task.record.key or b"").decode(errors="replace")
