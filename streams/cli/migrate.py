"""``webhook migrate``: brings a database to the schema of this version."""

from typing import Annotated, Literal

import orjson
import typer
from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from projections.migrate import BRANCHES, current_heads, pending, upgrade
from streams.broker.runtime import resolve
from streams.database import create_database_engine
from streams.errors import SetupError
from streams.settings import Settings


def migrate(
    only: Annotated[
        Literal["system", "projections", "outbox"] | None,
        typer.Option(help="One branch only: a database of tracked models needs `outbox` alone."),
    ] = None,
    database_url: Annotated[
        str | None, typer.Option(help="Another database than the configured one, as a SQLAlchemy URL.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 where something is missing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Bring the database to the schema of this version; nothing happens where it is there already.

    [bold]Examples[/bold]

      webhook migrate

      webhook migrate --check --json

      webhook migrate --only outbox --database-url postgresql://shop@db.example/shop
    """
    engine = create_database_engine(database_url or _configured_url())
    branches = (only,) if only else BRANCHES
    try:
        missing = pending(engine, branches) if check else upgrade(engine, branches)
        heads = current_heads(engine, branches)
    except DBAPIError as error:
        raise SetupError(
            f"The database {_place(engine)} refuses: {str(error.orig).strip()}.",
            "Start it, or correct WEBHOOK_DATABASE_URL; its user must be allowed to create tables.",
        ) from error
    finally:
        engine.dispose()
    if as_json:
        steps = {branch: {"from": before, "to": after} for branch, (before, after) in missing.items()}
        report = {"database": _place(engine), "current": heads, "missing" if check else "applied": steps}
        typer.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for branch, head in heads.items():
            before, after = missing.get(branch, (head, head))
            text = f"{before or 'nothing'} -> {after}" if before != after else f"at {after}"
            console.print(f"{branch:12} {text}")
        if check and missing:
            console.print("The database is not at the right migration. Run `webhook migrate`.")
    if check and missing:
        raise typer.Exit(1)


def _configured_url() -> str:
    found = resolve(Settings(), kafka=False).database_url
    if found is None:
        raise SetupError("No database is known.", "Set WEBHOOK_DATABASE_URL, or give --database-url.")
    return found.get_secret_value()


def _place(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)
