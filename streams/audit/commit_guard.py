"""The commit guard: PostgreSQL refuses to commit a change of a tracked row that the same transaction does not announce.

A deferred constraint trigger looks, when a transaction commits, for an outbox row of each row it changed. Which outbox
rows are the transaction's own PostgreSQL itself knows: whoever sees a row whose writer is still under way wrote it.
"""

from collections.abc import Sequence
from typing import Final

import orjson
from sqlalchemy import Connection, text

from streams.audit.subjects import TrackedTable, as_it_stands, literal, outbox_schema, quoted

TRIGGER: Final = "webhook_commit_guard"
EXEMPTION: Final = "webhook.unannounced"
"""A transaction that says ``SET LOCAL webhook.unannounced = 'on'`` is not looked at; the audit still reports it."""

_FUNCTION: Final = "webhook_require_event"
_INDEX: Final = "ix_webhook_outbox_model_row"
_ROW: Final = r"substr(record_key, position('\x7c'::bytea in record_key))"
"""Of a key, ``|model|id``: which tenant a row belongs to the table does not say."""

_FUNCTION_SQL: Final = r"""
CREATE OR REPLACE FUNCTION {schema}.webhook_require_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
DECLARE
    changed CONSTANT jsonb := coalesce(to_jsonb(NEW), to_jsonb(OLD));
    own CONSTANT bigint := pg_current_xact_id()::text::bigint;
    round CONSTANT bigint := 4294967296;
    row_id text;
BEGIN
    IF coalesce(current_setting('webhook.unannounced', true), '') = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW IS NOT DISTINCT FROM OLD THEN
        RETURN NULL;
    END IF;
    SELECT string_agg(replace(replace(replace(changed ->> key.name, '%', '%25'), '|', '%7C'), ',', '%2C'), ','
                      ORDER BY key.place)
        INTO row_id FROM jsonb_array_elements_text(TG_ARGV[1]::jsonb) WITH ORDINALITY AS key(name, place);
    PERFORM FROM (
        SELECT outbox.xmin::text::bigint + own - own % round AS writer
        FROM {schema}.webhook_outbox AS outbox
        WHERE {row} = ANY (
            ARRAY(SELECT convert_to('|' || model || '|' || row_id, 'UTF8')
                  FROM jsonb_array_elements_text(TG_ARGV[0]::jsonb) AS model))
    ) AS announced
    -- Transaction numbers of rows have no era: it is the one that brings them nearest to this transaction's.
    WHERE pg_xact_status((writer + CASE WHEN writer - own > round / 2 THEN -round
                                        WHEN own - writer > round / 2 THEN round ELSE 0 END)::text::xid8)
          = 'in progress';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a change of %.% (% of row %) was not announced: this transaction has written no event of it',
            TG_TABLE_SCHEMA, TG_TABLE_NAME, lower(TG_OP), row_id
            USING ERRCODE = 'check_violation', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME,
            HINT = 'Change the row by its model, or write the outbox in the same transaction.';
    END IF;
    RETURN NULL;
END
$function$
"""


def install(connection: Connection, tables: Sequence[TrackedTable]) -> None:
    """Guard tables, in the caller's transaction; one that is guarded already is guarded anew. For migrations too.

    Takes a lock that waits for the tables' writers. The outbox gets an index by model and row.
    """
    schema = quoted(outbox_schema(connection))
    connection.execute(as_it_stands(f"CREATE INDEX IF NOT EXISTS {_INDEX} ON {schema}.webhook_outbox (({_ROW}))"))
    connection.execute(as_it_stands(_FUNCTION_SQL.replace("{schema}", schema).replace("{row}", _ROW)))
    for table in tables:
        arguments = ", ".join(literal(orjson.dumps(list(each)).decode()) for each in (table.models, table.key))
        _drop(connection, table)
        connection.execute(
            as_it_stands(
                f"CREATE CONSTRAINT TRIGGER {TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {table.sql_name} "
                f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.{_FUNCTION}({arguments})"
            )
        )


def remove(connection: Connection, tables: Sequence[TrackedTable]) -> None:
    """Guard tables no longer, in the caller's transaction; function and index go with the last one."""
    for table in tables:
        _drop(connection, table)
    if not guarded(connection):
        schema = quoted(outbox_schema(connection))
        connection.execute(as_it_stands(f"DROP FUNCTION IF EXISTS {schema}.{_FUNCTION}()"))
        connection.execute(as_it_stands(f"DROP INDEX IF EXISTS {schema}.{_INDEX}"))


def guarded(connection: Connection) -> list[TrackedTable]:
    """The tables that have the guard."""
    rows = connection.execute(
        text(
            "SELECT schema_.nspname AS schema, table_.relname AS name, trigger_.tgargs AS arguments "
            "FROM pg_trigger AS trigger_ JOIN pg_class AS table_ ON table_.oid = trigger_.tgrelid "
            "JOIN pg_namespace AS schema_ ON schema_.oid = table_.relnamespace "
            "WHERE trigger_.tgname = :name AND trigger_.tgparentid = 0"
        ),
        {"name": TRIGGER},
    ).all()
    found = []
    for row in rows:
        models, key = (tuple(orjson.loads(each)) for each in bytes(row.arguments).split(b"\0")[:2])
        found.append(TrackedTable(row.schema, row.name, key, models))
    return sorted(found)


def _drop(connection: Connection, table: TrackedTable) -> None:
    connection.execute(as_it_stands(f"DROP TRIGGER IF EXISTS {TRIGGER} ON {table.sql_name}"))
