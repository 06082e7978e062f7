"""``webhook queue``: the commands about queues, by the names that ``queue:work`` and its like have elsewhere."""

import typer

from streams.cli.console import examples
from streams.cli.control import pause, paused, restart, resume
from streams.cli.failed import failed, flush, forget, retry
from streams.cli.queue_sizes import monitor
from streams.cli.work import work

queue_app = typer.Typer(
    name="queue",
    help="Work on queues; list, retry and dismiss what failed. "
    "`webhook queue:retry` is understood as well."
    + examples(
        "webhook queue work high --once",
        "webhook queue failed --since 1d",
        "webhook queue retry all --dry-run",
        "webhook queue restart all",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)
for command in (work, failed, retry, forget, flush, monitor, pause, resume, restart, paused):
    queue_app.command(command.__name__)(command)
