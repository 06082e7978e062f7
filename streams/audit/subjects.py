"""What is tracked: tables, the models that announce their rows, and how a row's key reads in an event."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Engine, TextClause, inspect, text
from sqlalchemy.orm import Mapper

from streams.audit.pgoutput import Values
from streams.capture.guard import tracked_models
from streams.errors import SetupError
from topics.keys import model_key_text

_KEY_TYPES: Final = ("smallint", "integer", "bigint", "text", "character varying", "uuid")
"""Types whose values read the same in Python and in PostgreSQL; an event's ``model_id`` is made in Python."""

_KEY_COLUMNS: Final = text(
    """
    SELECT attribute.attname AS name, format_type(attribute.atttypid, NULL) AS type, table_.relreplident AS identity
    FROM pg_class AS table_
    JOIN pg_namespace AS schema_ ON schema_.oid = table_.relnamespace
    LEFT JOIN pg_index AS index_ ON index_.indrelid = table_.oid AND index_.indisprimary
    LEFT JOIN LATERAL unnest(index_.indkey) WITH ORDINALITY AS key(number, place) ON true
    LEFT JOIN pg_attribute AS attribute ON attribute.attrelid = table_.oid AND attribute.attnum = key.number
    WHERE schema_.nspname = :schema AND table_.relname = :table AND table_.relkind IN ('r', 'p')
    ORDER BY key.place
    """
)


@dataclass(frozen=True, slots=True, order=True)
class TrackedTable:
    """A table, the columns of its primary key, and the registered names of the models that announce its rows."""

    schema: str
    name: str
    key: tuple[str, ...]
    models: tuple[str, ...]

    def __str__(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"

    @property
    def sql_name(self) -> str:
        """Its name as SQL."""
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def row_key(self, values: Values) -> str:
        """``model_id`` of a row."""
        return model_key_text(*(values[column] for column in self.key))


def quoted(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as SQL, for statements that take no parameters."""
    return "'" + value.replace("'", "''") + "'"


def as_it_stands(statement: str) -> TextClause:
    """A statement without parameters, whatever names it holds."""
    return text(statement.replace(":", "\\:"))


def wanted_of_texts(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Models by table, of texts such as ``orders=Order`` and ``sales.people=Person,Employee``.

    Raises ``SetupError`` for a text that is not like that.
    """
    found: dict[str, tuple[str, ...]] = {}
    for each in texts:
        table, equals, names = each.partition("=")
        models = tuple(sorted({name.strip() for name in names.split(",") if name.strip()}))
        if not (table.strip() and equals and models):
            raise SetupError(f"{each!r} names no table and model.", "Write it as TABLE=Model, such as orders=Order.")
        found[table.strip()] = models
    return found


def wanted_of_models() -> dict[str, tuple[str, ...]]:
    """Models by table, of every model with the mixin that is imported by now."""
    found: dict[str, set[str]] = {}
    for model in tracked_models():
        mapper: Mapper[Any] | None = inspect(model, raiseerr=False)
        if mapper is None:
            # Its mapping was refused, so nobody can write with it.
            continue
        for table in mapper.tables:
            place: Any = table
            found.setdefault(place.fullname, set()).add(model.__webhook_name__ or model.__name__)
    return {table: tuple(sorted(models)) for table, models in found.items()}


def resolve_tables(connection: Connection, wanted: Mapping[str, Sequence[str]]) -> list[TrackedTable]:
    """The tables as the database has them; a name without a schema is found by the connection's search path.

    Raises ``SetupError`` for a table that is not there, or whose rows an event cannot name.
    """
    return sorted(_resolve(connection, table, tuple(models)) for table, models in wanted.items())


def _resolve(connection: Connection, table: str, models: tuple[str, ...]) -> TrackedTable:
    schema, _, name = table.rpartition(".")
    schema = schema or connection.execute(text("SELECT current_schema()")).scalar_one()
    columns = connection.execute(_KEY_COLUMNS, {"schema": schema, "table": name}).all()
    if not columns:
        raise SetupError(f"The database has no table {schema}.{name}.", "Name tables as SCHEMA.TABLE or TABLE.")
    if columns[0].name is None:
        raise SetupError(f"{schema}.{name} has no primary key: no event can name its rows.")
    if columns[0].identity not in ("d", "f"):
        raise SetupError(
            f"{schema}.{name} does not tell the primary key of rows that are deleted.",
            f"Run ALTER TABLE {quoted(schema)}.{quoted(name)} REPLICA IDENTITY DEFAULT.",
        )
    odd = [f"{column.name} ({column.type})" for column in columns if column.type not in _KEY_TYPES]
    if odd:
        raise SetupError(
            f"The key of {schema}.{name} reads otherwise in events than in PostgreSQL: {', '.join(odd)}.",
            f"Tracked tables can have keys of {', '.join(_KEY_TYPES)}.",
        )
    return TrackedTable(schema, name, tuple(column.name for column in columns), models)


def outbox_schema(connection: Connection) -> str:
    """The schema of the outbox that writers of this database use. Raises ``SetupError`` where there is none."""
    found = connection.execute(
        text(
            "SELECT schema_.nspname FROM pg_class AS table_ JOIN pg_namespace AS schema_ "
            "ON schema_.oid = table_.relnamespace WHERE table_.oid = to_regclass('webhook_outbox')"
        )
    ).scalar_one_or_none()
    if found is None:
        raise SetupError("The database has no outbox.", "Run `webhook migrate --only outbox --database-url URL`.")
    return str(found)


def require_postgresql(engine: Engine) -> None:
    """Raises ``SetupError`` for any other database."""
    if engine.dialect.name != "postgresql":
        raise SetupError(
            f"This needs PostgreSQL, and the database is {engine.dialect.name}.",
            "Give the URL of the database with the tracked tables (--database-url), or see `webhook local start`.",
        )


def dump(tables: Iterable[TrackedTable]) -> str:
    """JSON that ``load`` reads."""
    return orjson.dumps([[each.schema, each.name, each.key, each.models] for each in tables]).decode()


def load(data: str) -> list[TrackedTable]:
    """Tables that ``dump`` wrote down."""
    return [TrackedTable(schema, name, tuple(key), tuple(models)) for schema, name, key, models in orjson.loads(data)]
