"""``webhook audit``: proves from PostgreSQL's own log that no change of a tracked table went unannounced."""

from dataclasses import asdict
from typing import Annotated, Final

import typer

from streams.audit.slot import AuditReport, AuditState, WalAudit
from streams.cli.console import Json, examples, note, progress, say, show, show_json
from streams.cli.tracked import TABLE_COLUMNS, DatabaseUrl, Models, Tables, chosen_tables, table_row, tracked_database
from streams.errors import SetupError

_COUNTS: Final = {
    "tables": "TABLE",
    "models": "MODELS",
    "changes": "CHANGES",
    "events": "EVENTS",
    "missing": "MISSING",
    "extra": "EXTRA",
}
_FINDINGS: Final = {
    "kind": "WHAT",
    "tables": "TABLE",
    "key": "ROW",
    "operations": "CHANGED BY",
    "changes": "CHANGES",
    "events": "EVENTS",
    "committed_at": "COMMITTED",
    "xid": "TRANSACTION",
}
_FEW: Final = 10

audit_app = typer.Typer(
    help="Prove from PostgreSQL's log that no change of a tracked table went unannounced, whoever made it. "
    "The slot it reads from holds log back until the next report: report regularly, and stop it in the end."
    + examples(
        "webhook audit start --models shop.models --limit-mb 4096",
        "webhook audit report",
        "webhook audit status --json",
        "webhook audit stop",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@audit_app.command(
    "start",
    help="Note what is written from now on. Needs PostgreSQL 15 with wal_level = logical, and a user who owns the "
    "tables and has REPLICATION."
    + examples(
        "webhook audit start --models shop.models --limit-mb 4096",
        "webhook audit start --table orders=Order --table people=Person,Employee --no-limit",
        "webhook audit start --table orders=Order --dry-run --database-url postgresql://shop@db.example/shop",
    ),
)
def start(
    tables: Tables = None,
    models: Models = None,
    limit_mb: Annotated[
        int | None, typer.Option(min=64, help="Let the server hold back so much log at most, for all of its slots.")
    ] = None,
    no_limit: Annotated[bool, typer.Option("--no-limit", help="Take it that an unread audit fills the disk.")] = False,
    wait_s: Annotated[float, typer.Option(min=1, help="Wait so long for transactions that have begun before.")] = 60.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which tables, and change nothing.")] = False,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Start an audit."""
    if limit_mb is not None and no_limit:
        raise SetupError("--limit-mb and --no-limit contradict each other.", "Give one of them.")
    with tracked_database(database_url) as engine:
        with engine.connect() as connection:
            chosen = chosen_tables(connection, tables, models)
        if dry_run:
            show([table_row(each) for each in chosen], TABLE_COLUMNS, as_json, "")
            return
        with progress() as report:
            report("waiting for transactions that have begun before", 0, 0)
            state = WalAudit(engine).start(chosen, limit_mb=0 if no_limit else limit_mb, wait_s=wait_s)
    _show_state(state, as_json)
    if not as_json:
        say("From now on. `webhook audit report` says what was found, `webhook audit stop` drops the slot.")


@audit_app.command(
    "status",
    help="Show the tables of the audit, and how much log it holds back. Exit 1 where some was lost."
    + examples("webhook audit status", "webhook audit status --json"),
)
def status(database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """Show what stands."""
    with tracked_database(database_url) as engine:
        state = WalAudit(engine).state()
    _show_state(state, as_json)
    if state.is_lost:
        note("PostgreSQL has thrown away log that was not read: stop the audit and start it anew.")
        raise typer.Exit(1)


@audit_app.command(
    "report",
    help="Judge every transaction since the last report, or since the start. Exit 1 where a change was not announced."
    + examples("webhook audit report", "webhook audit report --keep", "webhook audit report --json | jq .missing"),
)
def report(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it all to the next report as well.")] = False,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Say what was found."""
    with tracked_database(database_url) as engine, progress() as tell:
        found = WalAudit(engine).report(keep=keep, progress=lambda done: tell("transactions judged", done, 0))
    if as_json:
        show_json(asdict(found))
    else:
        _show_report(found)
    if found.missing:
        raise typer.Exit(1)


@audit_app.command(
    "stop",
    help="End the audit: drop its slot and publications. What was not reported is not judged any more."
    + examples("webhook audit stop", "webhook audit stop --json"),
)
def stop(database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """End the audit."""
    with tracked_database(database_url) as engine:
        stopped = WalAudit(engine).stop()
    if as_json:
        show_json({"stopped": stopped})
    else:
        say("Stopped: slot and publications are gone." if stopped else "No audit of this database was started.")


def _show_state(state: AuditState, as_json: bool) -> None:
    if as_json:
        show_json(asdict(state))
        return
    show([table_row(each) for each in state.tables], TABLE_COLUMNS, False, "No table.")
    limit = "without limit" if state.limit_mb is None else f"of {state.limit_mb} MB at most"
    say(f"Slot {state.slot} of database {state.database} holds {state.held_mb:g} MB of log back, {limit}.")


def _show_report(found: AuditReport) -> None:
    show([asdict(count) for count in found.tables], _COUNTS, False, "No table.")
    if found.findings:
        say("")
        rows = [{**asdict(each), "operations": ", ".join(each.operations)} for each in found.findings[:_FEW]]
        show(rows, _FINDINGS, False, "")
        left = found.missing + found.extra - len(rows)
        if left > 0:
            note(f"Further findings: --json shows the first {len(found.findings)}; read with --keep to see them again.")
    said = "Every change was announced." if not found.missing else f"{found.missing} changes were not announced."
    say(
        f"{found.transactions} transactions from {found.begin} to {found.end}. {said}",
        "" if not found.missing else "red",
    )
