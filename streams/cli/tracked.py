"""What the commands about tracked tables share: which tables are meant, and in which database."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated

import typer
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from streams.audit.subjects import (
    TrackedTable,
    require_postgresql,
    resolve_tables,
    wanted_of_models,
    wanted_of_texts,
)
from streams.broker.runtime import resolve
from streams.database import create_database_engine
from streams.errors import SetupError
from streams.settings import Settings

DatabaseUrl = Annotated[
    str | None, typer.Option(help="The database of the tracked tables, as a SQLAlchemy URL; default: the system's own.")
]
Tables = Annotated[
    list[str] | None,
    typer.Option("--table", metavar="TABLE=MODEL[,MODEL]", help="A tracked table and the models that announce it."),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--models", metavar="MODULE", help="Every tracked model of this Python module, found from here: shop.models."
    ),
]


@contextmanager
def tracked_database(database_url: str | None) -> Iterator[Engine]:
    """The database of the tracked tables. Raises ``SetupError`` for one that is not PostgreSQL, or does not answer."""
    url = database_url or _configured_url()
    engine = create_database_engine(url)
    try:
        require_postgresql(engine)
        yield engine
    except DBAPIError as error:
        said = str(error.orig).strip().splitlines()[0]
        away = isinstance(error, OperationalError)
        hint = "Start it, or correct --database-url." if away else "The user has to own the tables and the outbox."
        raise SetupError(f"The database {engine.url.render_as_string()} refuses: {said}.", hint) from error
    finally:
        engine.dispose()


def chosen_tables(
    connection: Connection, tables: Sequence[str] | None, modules: Sequence[str] | None
) -> list[TrackedTable]:
    """The tables that the options name. Raises ``SetupError`` where they name none, or some that are not there."""
    wanted = wanted_of_texts(tables or ())
    if modules:
        wanted = {**_of_modules(modules), **wanted}
    if not wanted:
        raise SetupError(
            "No tracked table is named.", "Give --table orders=Order, or --models with the module of your models."
        )
    return resolve_tables(connection, wanted)


def table_row(table: TrackedTable) -> dict[str, object]:
    """A tracked table as the commands list it."""
    return {"table": str(table), "models": ", ".join(table.models), "key": ", ".join(table.key)}


TABLE_COLUMNS = {"table": "TABLE", "models": "MODELS", "key": "KEY"}


def _of_modules(modules: Sequence[str]) -> dict[str, tuple[str, ...]]:
    # As `python -m` does; an installed command finds only what is installed.
    sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise SetupError(
                f"The module {module} cannot be imported: {error}.",
                "Run the command in the directory it is found from, with the service's own Python.",
            ) from error
    return wanted_of_models()


def _configured_url() -> str:
    found = resolve(Settings(), kafka=False).database_url
    if found is None:
        raise SetupError("No database is known.", "Give --database-url, or set WEBHOOK_DATABASE_URL.")
    return found.get_secret_value()
