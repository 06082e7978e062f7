"""``webhook outbox``: what was set aside because nobody could publish it; put back, or dropped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from sqlalchemy import Engine

from streams.broker.runtime import resolve
from streams.capture.outbox_state import outbox_state
from streams.capture.parked import ParkedRow, Selection, drop, parked_rows, put_back
from streams.cli.console import Json, examples, note, say, show, show_json
from streams.database import check_migrations, create_database_engine, open_database
from streams.errors import SetupError
from streams.settings import Settings

_COLUMNS: Final = {
    "record_id": "ID",
    "parked_at": "SINCE",
    "source": "DATABASE",
    "tenant_id": "TENANT",
    "topic": "TOPIC",
    "record_key": "KEY",
    "payload_bytes": "BYTES",
    "reason": "REASON",
}
_STATUS: Final = {
    "source": "DATABASE",
    "waiting": "WAITING",
    "waiting_since": "SINCE",
    "parked": "SET ASIDE",
    "parked_since": "SINCE",
    "slices_held": "HELD",
}

outbox_app = typer.Typer(
    name="outbox",
    help="Rows of the outboxes: what waits, and what the relay could not publish."
    + examples("webhook outbox status", "webhook outbox parked list", "webhook outbox parked retry --all --dry-run"),
    no_args_is_help=True,
    rich_markup_mode="rich",
)
parked_app = typer.Typer(
    name="parked",
    help="Rows that Kafka refuses for good, or that no record can be made of. They hold nothing up; each is kept until "
    "it is put back or dropped."
    + examples(
        "webhook outbox parked list --tenant 1 --json",
        "webhook outbox parked retry 0199f3c2-6f0c-8c55-b1a5-0c8f4b4f2a11",
        "webhook outbox parked drop --topic plugin-webhooks.changes --dry-run",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)
outbox_app.add_typer(parked_app)

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as `list` shows them.")]
Tenant = Annotated[str | None, typer.Option(help="Only of this tenant: its website id.")]
Topic = Annotated[str | None, typer.Option(help="Only what was to go to this topic.")]
Every = Annotated[bool, typer.Option("--all", help="Every row that is set aside.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show which ones, and change nothing.")]


@outbox_app.command("status")
def status(as_json: Json = False) -> None:
    """Show what each outbox holds: what waits to be published and since when, and what is set aside.

    HELD counts the slices that a relay publishes now, of 16; with fewer something stands still.

    Exit codes: 0 nothing is set aside, 1 something is, 2 set-up.

    [bold]Examples[/bold]

      webhook outbox status

      webhook outbox status --json | jq '.[].waiting'
    """
    rows: list[dict[str, Any]] = []
    with _opened() as engines:
        for engine in engines:
            with engine.connect() as connection:
                rows.append({"source": _name(engine), **asdict(outbox_state(connection))})
    show(rows, _STATUS, as_json, "There is no outbox.")
    if any(row["parked"] for row in rows):
        raise typer.Exit(1)


@parked_app.command("list")
def list_parked(
    tenant: Tenant = None,
    topic: Topic = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows shown at most, the latest, of each database.")] = 50,
    as_json: Json = False,
) -> None:
    """List what is set aside in the system's database and in all of WEBHOOK_OUTBOX_DATABASE_URLS, the latest first.

    [bold]Examples[/bold]

      webhook outbox parked list

      webhook outbox parked list --tenant 1 --json
    """
    with _opened() as engines:
        rows = [row for engine in engines for row in _rows(engine, Selection((), tenant, topic), limit)]
    show(rows, _COLUMNS, as_json, "Nothing is set aside.")


@parked_app.command("retry")
def retry_parked(
    ids: Ids = None,
    tenant: Tenant = None,
    topic: Topic = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Let the relay try rows again, once their fault is mended: a topic that takes larger records, say.

    What was published of a row's key since then stays before it. A row that is refused again comes back to the list.
    Exit code 1: a row was named that is not set aside.

    [bold]Examples[/bold]

      webhook outbox parked retry 0199f3c2-6f0c-8c55-b1a5-0c8f4b4f2a11

      webhook outbox parked retry --all --dry-run
    """
    _carry_out("put back", _selection(ids, tenant, topic, every), dry_run, as_json)


@parked_app.command("drop")
def drop_parked(
    ids: Ids = None,
    tenant: Tenant = None,
    topic: Topic = None,
    every: Every = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete rows for good: what they tell is lost. Try --dry-run first; `list --json` shows what they are.

    Exit code 1: a row was named that is not set aside.

    [bold]Examples[/bold]

      webhook outbox parked drop 0199f3c2-6f0c-8c55-b1a5-0c8f4b4f2a11

      webhook outbox parked drop --tenant 1 --dry-run
    """
    _carry_out("dropped", _selection(ids, tenant, topic, every), dry_run, as_json)


@contextmanager
def _opened() -> Iterator[list[Engine]]:
    """Every database with an outbox, at the right migration. Raises ``SetupError``."""
    settings = resolve(Settings(), kafka=False)
    engines = [open_database(settings)]
    engines += [create_database_engine(url.get_secret_value()) for url in settings.outbox_database_urls]
    try:
        for engine in engines:
            check_migrations(engine, ("outbox",))
        yield engines
    finally:
        for engine in engines:
            engine.dispose()


def _selection(ids: Sequence[str] | None, tenant: str | None, topic: str | None, every: bool) -> Selection:
    """What a command is about. Raises ``SetupError`` where it names nothing."""
    if not (ids or tenant or topic or every):
        raise SetupError("No row is named.", "Give ids, --tenant, --topic, or --all; try --dry-run first.")
    return Selection(tuple(dict.fromkeys(ids or ())), tenant, topic)


def _rows(engine: Engine, selection: Selection, limit: int | None = None) -> list[dict[str, Any]]:
    with engine.connect() as connection:
        found = parked_rows(connection, selection, limit)
    return [_shown(row, engine) for row in found]


def _shown(row: ParkedRow, engine: Engine) -> dict[str, Any]:
    return {**asdict(row), "source": _name(engine)}


def _name(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _carry_out(what: str, selection: Selection, dry_run: bool, as_json: bool) -> None:
    chosen: list[dict[str, Any]] = []
    done = 0
    with _opened() as engines:
        for engine in engines:
            found = _rows(engine, selection)
            chosen += found
            if found and not dry_run:
                # What is set aside only now was not shown to anybody.
                meant = Selection([row["record_id"] for row in found])
                with engine.begin() as connection:
                    done += (drop if what == "dropped" else put_back)(connection, meant)
    ids = [row["record_id"] for row in chosen]
    missing = [each for each in selection.record_ids if each not in ids]
    if as_json:
        show_json({"chosen": ids, "missing": missing, "done": done, "dry_run": dry_run})
    elif dry_run:
        show(chosen, _COLUMNS, False, "No row is chosen.")
        note(f"{len(chosen)} would be {what}; nothing was changed.")
    else:
        say(f"{done} of {len(chosen)} {what}.")
    if missing:
        if not as_json:
            note(f"Not set aside: {', '.join(missing[:5])}; see `webhook outbox parked list`.")
        raise typer.Exit(1)
