"""A Faust app on the batch driver: one consumer group with its processor, ledger, watchdog and ordered end."""

import asyncio
import gc
import logging
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

import faust
import structlog
from faust.types.tuples import TP

from streams.background import OnCrash, run_in_background
from streams.broker.connection import faust_broker
from streams.engine.assignment import Assignment
from streams.engine.contract import Excusing, Fenced, RecordProcessor
from streams.engine.driver import IN_TRANSIT, BatchTransport
from streams.engine.fence import Fence
from streams.engine.tail import LedgerTail
from streams.engine.watchdog import NO_PROGRESS_S, LoopWatch, Progress, Sample, end_process
from streams.settings import Settings

_log = structlog.get_logger(__name__)

POLL_RECORDS: Final = 2000
STREAM_BUFFER: Final = 64
_FOREVER_S: Final = 24 * 3600.0
_REBALANCE_S: Final = 60.0

_HEARTBEAT_S: Final = 0.5
"""A member hears of a rebalance by its next heartbeat, and the whole group waits for the last one to hear."""

_WATCH_S: Final = 1.0


class WorkerApp(faust.App):  # type: ignore[misc]
    """One consumer group. Made by ``create_worker_app``, run by ``run_workers``."""

    # Else its life is told, line by line, under this module's name.
    logger = logging.getLogger("faust")

    settings: Settings
    assigned: Assignment
    tail: LedgerTail
    on_crash_call: OnCrash

    def prepare(self, settings: Settings, processor: RecordProcessor, tail: LedgerTail, on_crash: OnCrash) -> None:
        """Set what the driver and the app's own tasks use."""
        self.settings = settings
        self.processor = processor
        self.tail = tail
        self.on_crash_call = on_crash
        self.fetch_wait_ms = settings.fetch_wait_ms
        self.most_in_transit = min(IN_TRANSIT, settings.waiting_per_partition)
        self.rebalance_grace_s = settings.rebalance_grace_s
        self.fence = processor.fence if isinstance(processor, Fenced) else Fence(settings.session_timeout_s)
        self.no_progress_s = NO_PROGRESS_S
        self.handed_over = asyncio.Event()
        self._watch = LoopWatch(settings.task_timeout_s + 60.0, on_crash)
        self._drained = False

    async def on_first_start(self) -> None:
        """Ledger and processor are ready before the first record can come."""
        await super().on_first_start()
        await self.tail.start()
        await self.processor.start()
        run_in_background(f"{self.conf.id}-loop-watch", self._watch.run, self.on_crash_call)
        self._watcher = run_in_background(f"{self.conf.id}-watchdog", self._watch_over(), self.on_crash_call)

    def _create_directories(self) -> None:
        """None: without tables Faust would have nothing to keep in them."""

    async def drain(self) -> None:
        """After the group was left: let the processor end, then stop reading the ledger. Done once."""
        if self._drained:
            return
        self._drained = True
        self._watcher.cancel()
        await self.processor.stop()
        await self.tail.stop()
        self._watch.stop()

    async def _on_partitions_revoked(self, revoked: Any) -> None:
        if self.should_stop:
            # Faust would close the consumer in the middle of the hand-over, on the wrong loop.
            await asyncio.wait_for(self.handed_over.wait(), _REBALANCE_S / 2)
            return
        await super()._on_partitions_revoked(revoked)

    async def _on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        if self.should_stop:
            return
        self.handed_over.clear()
        await super()._on_partitions_assigned(assigned, generation_id)

    async def _watch_over(self) -> None:
        progress = Progress(self.no_progress_s)
        while True:
            await asyncio.sleep(_WATCH_S)
            self._watch.beat()
            thread = self.consumer._thread
            if self.should_stop or thread._consumer is None or self.rebalancing:
                continue
            await thread.check_errors()
            stuck = progress.stuck(time.monotonic(), self._samples(await thread.behind()))
            if stuck is not None:
                where, seconds = stuck
                raise TimeoutError(f"nothing of {where} was finished for {seconds:.0f} s although records wait")

    def _samples(self, behind: Collection[TP]) -> list[Sample]:
        """How each partition is doing. Records wait also in Kafka, and before a ledger that nobody reads."""
        excused = self.processor.is_excused if isinstance(self.processor, Excusing) else lambda _: False
        return [
            Sample(
                each,
                each.finished,
                bool(each.acker.unfinished) or (tp in behind and self.processor.has_room(each)),
                excused(each),
            )
            for tp, each in self.assigned.by_tp.items()
            if not each.closed
        ]


def create_worker_app(
    group: str,
    topics: Sequence[str],
    settings: Settings,
    processor: RecordProcessor,
    on_crash: OnCrash = end_process,
) -> WorkerApp:
    """The Faust app of consumer group ``group`` over ``topics``, whose records go to ``processor``.

    ``settings`` are resolved: the brokers are known. ``on_crash`` is called with what makes the worker unable to go
    on; it must end it. Raises ``SetupError`` where no broker is known. Call it where the event loop runs.
    """
    url, credentials = faust_broker(settings)
    app = WorkerApp(
        group,
        broker=url,
        broker_credentials=credentials,
        autodiscover=False,
        web_enabled=False,
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_max_poll_records=POLL_RECORDS,
        broker_commit_interval=settings.commit_interval_s,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=_HEARTBEAT_S,
        broker_rebalance_timeout=_REBALANCE_S,
        broker_max_poll_interval=_FOREVER_S,
        stream_buffer_maxsize=STREAM_BUFFER,
        stream_wait_empty=True,
        # 1 makes Faust's own assignor keep partition n of a tier and of its steps on one worker (DESIGN §5, item 10).
        table_standby_replicas=1,
    )
    names = frozenset(topics)
    tail = LedgerTail(settings, group, names, on_crash)
    app.assigned = Assignment(processor, tail, names)
    app.prepare(settings, processor, tail, on_crash)
    app.transport = BatchTransport(app.conf.broker_consumer, app)
    channel = app.topic(*topics, value_type=bytes, value_serializer="raw", key_serializer="raw", allow_empty=True)

    async def records(stream: Any) -> None:
        async for event in stream.noack().events():
            # Acknowledged at once: only the ackers decide what is committed, and Faust need not wait for batches.
            event.ack()
            app.assigned.dispatch(event.value)

    app.agent(channel, name=f"{group}-records")(records)
    return app


async def run_workers(apps: Sequence[WorkerApp], stop: asyncio.Event) -> None:
    """Run apps in the present event loop until ``stop`` is set, then hand over and leave the groups in order.

    Raises ``RuntimeError`` where an app crashed.
    """
    for app in apps:
        app.finalize()
    await asyncio.gather(*(app.start() for app in apps))
    settle_memory()
    waiting = [asyncio.ensure_future(stop.wait()), *(asyncio.ensure_future(app.wait_until_stopped()) for app in apps)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
        crashed = [app for app in apps if app.crashed]
        await asyncio.gather(*(app.stop() for app in apps))
    if crashed:
        reasons = ", ".join(f"{app.conf.id}: {app.crash_reason!r}" for app in crashed)
        raise RuntimeError(f"a worker crashed: {reasons}")


def settle_memory() -> None:
    """Keep what start-up made out of the garbage collector's rounds, and make these rarer: 7 % of throughput."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
