"""``webhook queue``: the commands about queues, by the names that ``queue:work`` and its like have elsewhere."""

import typer

from streams.cli.console import examples
from streams.cli.control import pause, paused, restart, resume
from streams.cli.work import work

queue_app = typer.Typer(
    name="queue",
    help="Work on queues, pause, resume and restart them; the same as `webhook work` and the others."
    + examples("webhook queue work high --once", "webhook queue pause low", "webhook queue restart all"),
    no_args_is_help=True,
    rich_markup_mode="rich",
)
for command in (work, pause, resume, restart, paused):
    queue_app.command(command.__name__)(command)
