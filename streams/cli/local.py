"""``webhook local``: real Kafka and PostgreSQL on this machine, from Python packages alone."""

from typing import Annotated, Final

import typer

from streams.broker import local
from streams.cli.console import Json, examples, note, progress, say, show, show_json
from streams.settings import Settings

_COLUMNS: Final = {
    "service": "SERVICE",
    "version": "VERSION",
    "running": "RUNS",
    "pid": "PROCESS",
    "address": "ADDRESS",
}

local_app = typer.Typer(
    name="local",
    help="Run Apache Kafka and PostgreSQL on this machine: no Docker, no root, no Java. Needs the extra `local`."
    + examples("webhook local start", "webhook local status", "webhook local stop"),
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Nodes = Annotated[
    int | None, typer.Option("--nodes", help="Kafka nodes, 1 or 3 (about 350 MB each); default: as made, at first 1.")
]


@local_app.command(
    "start",
    help="Start what does not run and wait until it answers. The first start fetches 55 MB."
    + examples(
        "webhook local start",
        "webhook local start --nodes 3",
        "WEBHOOK_DATA_DIR=/srv/webhook webhook local start --json",
    ),
)
def start_services(nodes: Nodes = None, as_json: Json = False) -> None:
    """Start both services."""
    settings = Settings()
    with progress() as report:
        runtime = local.start(settings.data_dir, nodes, report)
    if as_json:
        show_json(runtime)
        return
    say(f"Kafka       {runtime.bootstrap_servers}")
    say(f"PostgreSQL  {runtime.database_url}")
    say("Every `webhook` command with this data directory finds them. Next: `webhook topics apply`, `webhook migrate`.")


@local_app.command("stop", help="Stop both services; their data stays." + examples("webhook local stop"))
def stop_services(as_json: Json = False) -> None:
    """Stop both services."""
    with progress() as report:
        report("stopping", 0, 0)
        stopped = local.stop(Settings().data_dir)
    if as_json:
        show_json({"stopped": stopped})
    else:
        say("Stopped." if stopped else "Nothing was running.")


@local_app.command(
    "status",
    help="Show each process. Exit 1 where one does not run."
    + examples("webhook local status", "webhook local status --json"),
)
def show_status(as_json: Json = False) -> None:
    """Show what runs."""
    settings = Settings()
    found = local.status(settings.data_dir)
    rows: list[dict[str, object]] = [
        {
            "service": each.service,
            "version": each.version,
            "running": each.pid is not None,
            "pid": each.pid,
            "address": each.address,
            "log": str(each.log),
        }
        for each in found
    ]
    show(rows, _COLUMNS, as_json, f"No local services in {settings.data_dir.resolve()}.")
    if not rows or not all(row["running"] for row in rows):
        note("Start them with `webhook local start`.")
        raise typer.Exit(1)
