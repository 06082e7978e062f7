"""``webhook versions``: which versions of plugins runs need, which ones workers have, and what waits for one."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from confluent_kafka import KafkaException
from sqlalchemy import Engine

from projections.open_runs import open_runs, parked_runs
from streams.broker.connection import admin_client
from streams.broker.runtime import resolve
from streams.cli.console import Json, examples, note, say, show, show_json
from streams.cli.control import caller
from streams.control.signals import heard_workers
from streams.database import opened_database
from streams.errors import SetupError
from streams.settings import Settings
from streams.versions import Releasing, VersionParked, VersionReport, version_report

_IN_USE: Final = {
    "plugin": "PLUGIN",
    "version": "VERSION",
    "pipeline": "PIPELINE",
    "open_events": "OPEN EVENTS",
    "oldest": "OLDEST",
    "carried_on_by": "CARRIED ON BY",
}
_PARKED: Final = {"plugin": "PLUGIN", "version": "PARKED VERSION", "tasks": "TASKS", "since": "SINCE"}
_INSTALLED: Final = {
    "plugin": "PLUGIN",
    "version": "INSTALLED",
    "workers": "WORKERS",
    "tiers": "TIERS",
    "accepts": "CARRIES ON",
    "open_events": "ONLY HERE",
    "may_retire": "MAY RETIRE",
}

versions_app = typer.Typer(
    name="versions",
    help="List which versions of plugins open events run on, which ones workers have, and what waits for one."
    + examples("webhook versions", "webhook versions --json", "webhook versions release dwd 2.0.0 --dry-run")
    + "\n\nA run stays on the plugin's version and on the pipeline that it began with. CARRIED ON BY lists the "
    "versions of workers that take it on. What no worker of its tier takes on is parked; it goes on by itself when all "
    "workers of the tier do, or by `release`. A parked version with # waits because the tenant's configuration has "
    "changed: it goes on by `release` alone. ONLY HERE counts open events that no other installed version takes on.",
    rich_markup_mode="rich",
    invoke_without_command=True,
)


@versions_app.callback()
def versions(context: typer.Context, as_json: Json = False) -> None:
    """List versions in use, parked and installed."""
    if context.invoked_subcommand is not None:
        return
    settings = resolve(Settings())
    admin_client(settings)
    heartbeats = heard_workers(settings)
    with opened_database(settings, "projections") as engine, engine.connect() as connection:
        report = version_report(open_runs(connection), parked_runs(connection), heartbeats)
    if as_json:
        show_json(report)
        return
    _show(report)


def _show(report: VersionReport) -> None:
    in_use = [{**asdict(each), "version": each.version or "not recorded yet"} for each in report.in_use]
    show([_joined(each) for each in in_use], _IN_USE, False, "No event is open.")
    if report.parked:
        say("")
        show([asdict(each) for each in report.parked], _PARKED, False, "")
    say("")
    show([_joined(asdict(each)) for each in report.installed], _INSTALLED, False, "No worker with a plugin runs.")


def _joined(row: dict[str, Any]) -> dict[str, Any]:
    return {name: ", ".join(value) if isinstance(value, list) else value for name, value in row.items()}


@versions_app.command(
    "release",
    help="Let the runs that wait for a version go on with the one that workers have now."
    + examples("webhook versions release dwd 2.0.0 --dry-run", "webhook versions release dwd '2.0.0#0123456789ab'")
    + "\n\nThey go on where they are, with the present version and the tenant's present pipeline: see that these "
    "fit.\n\n"
    "Exit codes: 0 released, 1 not confirmed in time, 2 wrong use or set-up, or nothing waits for that version.",
)
def release(
    plugin: Annotated[str, typer.Argument(metavar="PLUGIN", help="The plugin's id.")],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="As `webhook versions` lists it as parked.")],
    timeout_s: Annotated[float, typer.Option("--timeout", min=0, max=3600, help="Seconds to wait.")] = 10.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would be about.")] = False,
    as_json: Json = False,
) -> None:
    """Let parked runs go on."""
    settings = resolve(Settings())
    admin_client(settings)
    with opened_database(settings, "projections") as engine:
        parked = _find(engine, plugin, version)
        if dry_run:
            _tell({**asdict(parked), "released": 0, "confirmed": False}, f"{parked.tasks} would go on.", as_json)
            return
        try:
            released = Releasing(settings, engine).release(plugin, version, by=caller(), timeout_s=timeout_s)
        except KafkaException as error:
            raise SetupError(f"The brokers did not take the command: {error.args[0].str()}.", exit_code=1) from error
    values = {**asdict(parked), "released": released.tasks, "confirmed": released.confirmed}
    _tell(values, f"{released.tasks} go on.", as_json)
    if not released.confirmed:
        note("The schedule does not say so yet; see that `webhook project` and `webhook relay` run.")
        raise typer.Exit(1)


def _tell(values: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        show_json(values)
    else:
        say(f"{values['tasks']} tasks wait for {values['plugin']} {values['version']}; {text}")


def _find(engine: Engine, plugin: str, version: str) -> VersionParked:
    with engine.connect() as connection:
        parked = version_report([], parked_runs(connection), []).parked
    for each in parked:
        if (each.plugin, each.version) == (plugin, version):
            return each
    waiting: Sequence[str] = [f"{each.plugin} {each.version}" for each in parked]
    raise SetupError(f"Nothing waits for {plugin} {version}.", f"Parked are: {', '.join(waiting) or 'none'}.")
