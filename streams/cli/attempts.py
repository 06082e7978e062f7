"""``webhook attempts``: every try of every step of one event, with its duration and result."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import orjson
import typer

from projections.queries import AttemptView, attempts_of, find_event
from streams.broker.runtime import resolve
from streams.cli.console import Json, show
from streams.database import opened_database
from streams.errors import SetupError
from streams.settings import Settings

_COLUMNS = {
    "run": "RUN",
    "step": "STEP",
    "attempt": "ATTEMPT",
    "kind": "OUTCOME",
    "started_at": "STARTED",
    "duration_ms": "MS",
    "handler": "HANDLER",
    "answer": "RESULT OR ERROR",
}


def attempts(
    event_id: Annotated[str, typer.Argument(help="Id of the event, as `webhook events` shows it.")],
    as_json: Json = False,
) -> None:
    """List the tries of an event in their order: which step of its pipeline, how long, and what came of it.

    [bold]Examples[/bold]

      webhook attempts 01890a5d-ac96-774b-bcce-b302099a8057

      webhook attempts 01890a5d-ac96-774b-bcce-b302099a8057 --json
    """
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings, "projections", read_only=True) as engine, engine.connect() as connection:
        event = find_event(connection, event_id)
        found = [] if event is None else attempts_of(connection, event)
    if event is None:
        raise SetupError(f"No event has the id {event_id}.", "See `webhook events`; a new one takes a moment to show.")
    show([_row(each, as_json) for each in found], _COLUMNS, as_json, "Nothing has been tried yet.")


def _row(attempt: AttemptView, as_json: bool) -> dict[str, Any]:
    """Steps count from 0. In JSON the result is the value itself, on the screen one text with the error."""
    row = asdict(attempt)
    if as_json:
        row["result"] = None if attempt.result is None else orjson.loads(attempt.result)
        return row
    row["answer"] = attempt.error or (_wait(attempt.result) if attempt.kind == "waiting" else attempt.result)
    row["duration_ms"] = None if attempt.duration_ms is None else f"{attempt.duration_ms:.0f}"
    return row


def _wait(result: str | None) -> str:
    wait = orjson.loads(result or "{}")
    until = datetime.fromisoformat(wait["until"]).astimezone()
    return f"waits for the call-back {wait['call_back']} until {until:%Y-%m-%d %H:%M:%S}"
