"""``webhook up``: the whole system in one process, with nothing to install beside it."""

import asyncio
import signal
from typing import Annotated

import typer

from streams.agents.timeouts import warn_of_timeouts
from streams.cli.console import say
from streams.cli.embedded import Installation, embedded_installation
from streams.logs import configure_logs
from streams.settings import Settings
from topics.tiers import TIERS

_ORDER = '{"id": 7, "total": 25, "items": [{"sku": "FLYER-A5", "quantity": 500}]}'


def up(
    sample: Annotated[
        bool, typer.Option(help="Create the sample print shop as a tenant, with its upstream on loopback.")
    ] = True,
) -> None:
    """Run everything in this process: broker, six tiers, intake, relay, projector and HTTP door.

    Needs no services. Data is kept in WEBHOOK_DATA_DIR (default .webhook); what was under way when the process died
    goes on at the next start. Stop it with Ctrl+C or SIGTERM. For more than one worker: `webhook local start`.

    [bold]Examples[/bold]

      webhook up

      WEBHOOK_DATA_DIR=/var/lib/webhook webhook up --no-sample
    """
    settings = Settings()
    configure_logs(settings)
    asyncio.run(_run(settings, sample))


async def _run(settings: Settings, sample: bool) -> None:
    async with embedded_installation(settings, sample) as installation:
        stop = installation.pipeline.stop
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        _welcome(installation)
        warn_of_timeouts(TIERS, installation.pipeline.system.plugins, settings.task_timeout_s)
        await stop.wait()
        installation.pipeline.raise_failure()


def _welcome(installation: Installation) -> None:
    recovery = installation.recovery
    again = recovery.requests + recovery.changes + recovery.tasks
    if again:
        say(f"{again} events and changes were under way when the last process ended; they go on now.")
    say(f"Ready at {installation.pipeline.url}; the first API token is in {installation.token_file}.", "bold")
    say("The embedded broker forgets its log on exit and takes one worker a tier; the events' history stays.")
    if installation.tenant_id is not None:
        say("Try, in another shell:")
        trigger = f"webhook trigger webhook/order --tenant {installation.tenant_id} --priority 9 --wait"
        say(f"  {trigger} --payload '{_ORDER}'")
        say("  webhook events --limit 5")
