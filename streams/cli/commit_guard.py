"""``webhook guard``: lets PostgreSQL refuse commits that change a tracked table without an event."""

from typing import Annotated, Final

import typer
from sqlalchemy import text

from streams.audit import commit_guard
from streams.audit.subjects import TrackedTable
from streams.cli.console import Json, examples, say, show
from streams.cli.tracked import TABLE_COLUMNS, DatabaseUrl, Models, Tables, chosen_tables, table_row, tracked_database
from streams.errors import SetupError

_LOCK_WAIT_S: Final = 10

guard_app = typer.Typer(
    help="Let PostgreSQL refuse a commit that changes a tracked table without an event in the same transaction, "
    "by SQL, bulk statements or other programs."
    + examples(
        "webhook guard add --models shop.models",
        "webhook guard add --table orders=Order --dry-run",
        "webhook guard list --json",
        "webhook guard remove --table orders=Order",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show which tables, and change nothing.")]


@guard_app.command(
    "add",
    help="Guard tables from now on. It waits for their writers, and they for it, for ten seconds at most."
    + examples(
        "webhook guard add --models shop.models",
        "webhook guard add --table people=Person,Employee --database-url postgresql://shop@db.example/shop",
    ),
)
def add(
    tables: Tables = None,
    models: Models = None,
    dry_run: DryRun = False,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Guard tables."""
    with tracked_database(database_url) as engine, engine.begin() as connection:
        chosen = chosen_tables(connection, tables, models)
        if not dry_run:
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_S}s'"))
            commit_guard.install(connection, chosen)
    _show(chosen, as_json, "")
    if not as_json:
        say(
            "Nothing was changed."
            if dry_run
            else "Guarded: a change of theirs without an event is refused at its commit."
        )


@guard_app.command(
    "list", help="List the guarded tables." + examples("webhook guard list", "webhook guard list --json")
)
def list_guarded(database_url: DatabaseUrl = None, as_json: Json = False) -> None:
    """List the guarded tables."""
    with tracked_database(database_url) as engine, engine.connect() as connection:
        found = commit_guard.guarded(connection)
    _show(found, as_json, "No table is guarded.")


@guard_app.command(
    "remove",
    help="Guard tables no longer."
    + examples("webhook guard remove --table orders=Order", "webhook guard remove --all --dry-run"),
)
def remove(
    tables: Tables = None,
    every: Annotated[bool, typer.Option("--all", help="Every guarded table.")] = False,
    dry_run: DryRun = False,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Guard tables no longer."""
    with tracked_database(database_url) as engine, engine.begin() as connection:
        found = commit_guard.guarded(connection)
        names = {each.partition("=")[0] for each in tables or ()}
        chosen = [each for each in found if every or names & {str(each), f"{each.schema}.{each.name}"}]
        if not chosen:
            known = ", ".join(map(str, found)) or "none"
            raise SetupError("No guarded table is named.", f"Guarded are: {known}. Give --table or --all.")
        if not dry_run:
            connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT_S}s'"))
            commit_guard.remove(connection, chosen)
    _show(chosen, as_json, "")
    if not as_json:
        say("Nothing was changed." if dry_run else "They are not guarded any more.")


def _show(tables: list[TrackedTable], as_json: bool, empty: str) -> None:
    show([table_row(each) for each in tables], TABLE_COLUMNS, as_json, empty)
