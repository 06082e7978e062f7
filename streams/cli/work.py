"""``webhook work``: a process that carries out the tasks of one or more tiers."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final

import structlog
import typer

from streams.agents.tier import TierProcessor
from streams.agents.timeouts import warn_of_timeouts
from streams.background import run_in_background
from streams.cli.composition import make_tier
from streams.cli.processes import opened_system, prepare, stop_event, with_examples
from streams.cli.tiers import TIERS_HELP, tier_names
from streams.control.heartbeats import controlled
from streams.control.limits import Limits, LimitWatch, StopReason
from streams.control.log import follow_control
from streams.control.view import ControlView
from streams.engine.app import WorkerApp, run_workers
from streams.engine.watchdog import end_process
from streams.errors import SetupError
from streams.settings import Settings

_log = structlog.get_logger(__name__)

_CODES: Final = (
    "\n\nIt stops in order at SIGTERM, at Ctrl-C, at `webhook restart` and at each of its limits: it fetches nothing "
    "more, waits --grace seconds for what runs, hands the rest to the next worker, and leaves.\n\n"
    "Exit codes: 0 stopped, 1 crashed, 2 wrong use or set-up (broker, topics, database, migrations, settings), 12 its "
    "memory was over --memory, 70 it could not go on and ended at once so that nothing is lost."
)


@with_examples(
    "webhook work webhook-high",
    "webhook work high beanstalk redis",
    "webhook work all --memory 512 --max-time 3600",
    "webhook work low --once",
    "webhook work low --stop-when-empty",
    codes=_CODES,
)
def work(
    tiers: Annotated[list[str], typer.Argument(metavar="TIER...", help=TIERS_HELP)],
    once: Annotated[bool, typer.Option("--once", help="Carry out one task, if there is one, and leave.")] = False,
    max_jobs: Annotated[int | None, typer.Option(min=1, help="Leave after so many tasks; with one tier only.")] = None,
    max_time: Annotated[float | None, typer.Option(min=0, help="Leave after so many seconds.")] = None,
    memory: Annotated[int | None, typer.Option(min=1, help="Leave, exit code 12, above so many MiB.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, max=3600, help="Seconds a task may run that names no timeout of its own.")
    ] = None,
    sleep: Annotated[
        float | None, typer.Option(min=0, max=60, help="Seconds one fetch waits for records; they end its wait.")
    ] = None,
    tries: Annotated[
        int | None, typer.Option(min=1, help="Tries of a task in these tiers; a step's own number goes before.")
    ] = None,
    stop_when_empty: Annotated[
        bool, typer.Option("--stop-when-empty", help="Leave once everything that is there now is finished.")
    ] = False,
    window: Annotated[int | None, typer.Option(min=1, max=100_000, help="Tasks that run at the same time.")] = None,
    grace: Annotated[
        float | None, typer.Option(min=0, max=3600, help="Seconds that running tasks have when it stops.")
    ] = None,
) -> None:
    """Carry out the tasks of one or more tiers; start it as often as a tier needs workers."""
    names = tier_names(tiers)
    jobs = 1 if once else max_jobs
    if jobs is not None and len(names) > 1:
        raise SetupError("--once and --max-jobs count the tasks of one tier.", "Name one tier.")
    given: dict[str, Any] = {
        "task_timeout_s": timeout,
        "fetch_wait_ms": None if sleep is None else max(1, round(sleep * 1000)),
        "window": window,
        "stop_grace_s": grace,
    }
    base = Settings().model_copy(update={name: value for name, value in given.items() if value is not None})
    limits = Limits(max_time, memory, stop_when_empty or once)
    reason = asyncio.run(_work(prepare("webhook work", base), names, limits, jobs, tries))
    _log.info("the worker has left", reason=reason.value)
    raise typer.Exit(reason.exit_code)


async def _work(
    settings: Settings, tiers: list[str], limits: Limits, jobs: int | None, tries: int | None
) -> StopReason:
    """Work until there is a reason to leave."""
    reason = StopReason.INTERRUPTED
    stop = stop_event()

    def leave(why: StopReason) -> None:
        nonlocal reason
        if not stop.is_set():
            reason = why
            stop.set()

    view = ControlView()
    control_log = follow_control(settings, view, end_process)
    # What was decided before holds before the first fetch (R18).
    await asyncio.to_thread(control_log.start)
    async with opened_system(settings) as (system, http):
        warn_of_timeouts(tiers, system.plugins, settings.task_timeout_s)
        workers = [_limited(make_tier(system, name, http), jobs, tries) for name in tiers]
        restarted = partial(leave, StopReason.RESTART)
        async with controlled(settings, workers, view, system.plugins, restarted, end_process):
            watch = run_in_background("limits", LimitWatch(workers, limits, leave).run(), end_process)
            try:
                await run_workers([app for app, _ in workers], stop)
            finally:
                watch.cancel()
    await asyncio.to_thread(control_log.stop)
    return reason


def _limited(app: WorkerApp, jobs: int | None, tries: int | None) -> tuple[WorkerApp, TierProcessor]:
    """A tier's app with its processor, which starts ``jobs`` tasks at most and has ``tries`` for each."""
    processor = app.processor
    assert isinstance(processor, TierProcessor)  # noqa: S101  made by make_tier
    processor.brake.left = jobs
    if tries is not None:
        processor.tier = replace(processor.tier, tries=tries)
    return app, processor
