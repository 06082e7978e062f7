"""``webhook replay``: run ended events anew."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer
from sqlalchemy import Engine

from schemas.events import now_micros, to_datetime
from schemas.kinds import Status
from streams.broker.runtime import resolve
from streams.cli.console import Json, cell, examples, local_time, note, progress, say, short_time, show, show_json
from streams.cli.control import caller
from streams.cli.durations import duration_s
from streams.cli.tiers import tier_names
from streams.database import opened_database
from streams.errors import SetupError
from streams.replay.jobs import NoSuchReplay, Replay, Replays
from streams.replay.running import carry_out
from streams.replay.selection import Selection, count, history_begins
from streams.settings import Settings

DEFAULT_RATE: Final = 100
DEFAULT_UNDER_WAY: Final = 500
_SILENT_S: Final = 30.0
_COLUMNS: Final = {
    "id": "REPLAY",
    "state": "STATE",
    "replayed": "REPLAYED",
    "left_out": "LEFT OUT",
    "selected": "SELECTED",
    "created_at": "SINCE",
    "requested_by": "BY",
    "reason": "REASON",
}
_SKIPPED: Final = {
    "no_payload": "their payload is not in the history any more",
    "no_results": "no earlier run has finished the steps before",
    "too_large": "their record would be larger than a topic takes",
}

replay_app = typer.Typer(
    name="replay",
    help="Run ended events anew, as a job that survives a kill. Each is a new run of the same event, and its history "
    "keeps all of them. How many it is about is said first. Handlers act again, so it needs `--with-side-effects`; "
    "those that act at most once look first for what earlier runs have done."
    + examples(
        "webhook replay --tenant 1 --status failed_permanently --since 2d --dry-run",
        "webhook replay --endpoint webhook/order --error timeout --with-side-effects --rate 50",
        "webhook replay --id 01890a5d-ac96-774b-bcce-b302099a8057 --from-step 2 --with-side-effects --yes",
        "webhook replay list",
        "webhook replay resume 3f0c8c55b1a5",
    )
    + "\n\nExit codes: 0 done, 1 not confirmed, or stopped before its end, 2 wrong use or set-up.",
    invoke_without_command=True,
    rich_markup_mode="rich",
)
Job = Annotated[str, typer.Argument(metavar="REPLAY", help="Id of the replay, as `webhook replay list` shows it.")]
UnderWay = Annotated[
    int, typer.Option("--under-way", min=1, help="Replayed events that may be unfinished at one time.")
]


@replay_app.callback()
def replay(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant: its website id.")] = None,
    tier: Annotated[str | None, typer.Option(help="Only what ended in this tier.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Only of this endpoint.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only what ended with this status.")] = None,
    error: Annotated[str | None, typer.Option(help="Only with this error code, or this text in the error.")] = None,
    model: Annotated[str | None, typer.Option(help="Only about this model, or Model/id.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Accepted since: 90s, 15m, 2h, 1d ago, or 2026-01-31T12:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Accepted before; as --since.")] = None,
    event_ids: Annotated[list[str] | None, typer.Option("--id", help="Only these events.")] = None,
    from_step: Annotated[
        int, typer.Option("--from-step", min=0, help="Begin with this step, on the results of earlier runs.")
    ] = 0,
    rate: Annotated[int, typer.Option(min=1, max=100_000, help="Events a second at most.")] = DEFAULT_RATE,
    most_under_way: UnderWay = DEFAULT_UNDER_WAY,
    reason: Annotated[str | None, typer.Option(help="Why, for those who look at the replay.")] = None,
    with_side_effects: Annotated[bool, typer.Option("--with-side-effects", help="Let the handlers act again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Run ended events anew."""
    if context.invoked_subcommand is not None:
        return
    name, _, model_id = (model or "").partition("/")
    selection = Selection(
        tenant_id=tenant,
        tier=None if tier is None else tier_names([tier])[0],
        endpoint=endpoint,
        status=status,
        error=error,
        model=name or None,
        model_id=model_id or None,
        since=_moment(since),
        until=_moment(until),
        event_ids=tuple(event_ids or ()),
    )
    if selection == Selection():
        raise SetupError("Which events?", "Give at least one of the filters; `--since 1d` takes all of a day.")
    with _opened() as (engine, replays):
        selected = _counted(engine, selection, as_json, dry_run)
        if dry_run:
            return
        if not with_side_effects:
            raise SetupError(
                "A replay lets handlers act again: orders, files, messages.",
                "Look at the numbers above, then say so: `--with-side-effects`. `--dry-run` only counts.",
            )
        if selected == 0:
            return
        if not yes and not typer.confirm(f"Replay {selected} events?", err=True):
            raise typer.Exit(1)
        job = replays.create(selection, by=caller(), rate=rate, from_step=from_step, reason=reason)
        _carry_out(replays, job, most_under_way, as_json)


@replay_app.command("list", help="List the latest replays, the newest first." + examples("webhook replay list --json"))
def list_replays(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Replays shown at most.")] = 20, as_json: Json = False
) -> None:
    """List the latest replays."""
    with _opened() as (_, replays):
        found = replays.latest(limit)
    rows = [_report(each) if as_json else _row(each) for each in found]
    show(rows, _COLUMNS, as_json, "Nothing was replayed yet.")


@replay_app.command("show", help="Show one replay." + examples("webhook replay show 3f0c8c55b1a5 --json"))
def show_replay(job: Job, as_json: Json = False) -> None:
    """Show one replay."""
    with _opened() as (_, replays):
        _tell(replays.find(job), as_json)


@replay_app.command(
    "pause", help="Let a replay do nothing more for now, wherever it runs." + examples("webhook replay pause ID")
)
def pause(job: Job, as_json: Json = False) -> None:
    """Pause a replay."""
    with _opened() as (_, replays):
        _tell(replays.change(job, "paused"), as_json)


@replay_app.command(
    "resume",
    help="Go on with a replay that was paused, or whose command was killed, where it was."
    + examples("webhook replay resume ID"),
)
def resume(job: Job, most_under_way: UnderWay = DEFAULT_UNDER_WAY, as_json: Json = False) -> None:
    """Go on with a replay."""
    with _opened() as (_, replays):
        _carry_out(replays, replays.change(job, "running"), most_under_way, as_json)


@replay_app.command(
    "cancel",
    help="End a replay; what it has set going already goes on." + examples("webhook replay cancel ID"),
)
def cancel(job: Job, as_json: Json = False) -> None:
    """End a replay."""
    with _opened() as (_, replays):
        _tell(replays.change(job, "cancelled"), as_json)


def _counted(engine: Engine, selection: Selection, as_json: bool, dry_run: bool) -> int:
    """Say how many events are selected, and what of the time asked for is not there any more; gives the number."""
    with engine.connect() as connection:
        groups = count(connection, selection, to_datetime(now_micros()))
        begins = history_begins(connection)
    total = sum(each.events for each in groups)
    columns = {"tier": "TIER", "handler": "HANDLER", "status": "STATUS", "events": "EVENTS"}
    rows = [asdict(each) for each in groups]
    missing = selection.since is not None and begins is not None and selection.since < begins
    if as_json and dry_run:
        show_json({"selected": total, "groups": rows, "history_begins_at": begins, "reaches_back": not missing})
    elif not as_json:
        show(rows, columns, False, "No ended event is selected.")
    if missing and selection.since is not None and begins is not None:
        note(f"Asked for since {local_time(selection.since)}; the history begins at {local_time(begins)}.")
    elif begins is None:
        note("The history is empty.")
    found = len(set(selection.event_ids))
    if found > total:
        note(f"{found - total} of the {found} ids are of no event that has ended and is selected.")
    return total


def _carry_out(replays: Replays, job: Replay, most_under_way: int, as_json: bool) -> None:
    stop = threading.Event()
    former = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with progress() as report:
            ended = carry_out(
                replays,
                job.id,
                stop,
                lambda now: report(f"Replay {job.id}", now.dealt_with, now.selected),
                most_under_way,
            )
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    _tell(ended, as_json)
    if ended.state != "done":
        note(f"It is not done: `webhook replay resume {ended.id}` goes on where it is.")
        raise typer.Exit(1)


def _tell(job: Replay, as_json: bool) -> None:
    if as_json:
        show_json(_report(job))
        return
    say(f"Replay {job.id} is {_state(job)}: {job.replayed} of {job.selected} events replayed.")
    for code, events in job.skipped.items():
        say(f"  {events} left out: {_SKIPPED.get(code, code)}")
    asked = ", ".join(f"{name} {cell(value)}" for name, value in asdict(job.selection).items() if value)
    say(f"  {asked}; asked for by {job.requested_by}")


def _report(job: Replay) -> dict[str, Any]:
    return {**asdict(job), "interrupted": _is_interrupted(job)}


def _row(job: Replay) -> dict[str, object]:
    known: dict[str, object] = asdict(job)
    left_out = sum(job.skipped.values())
    return {**known, "state": _state(job), "left_out": left_out, "created_at": short_time(job.created_at)}


def _state(job: Replay) -> str:
    return "interrupted" if _is_interrupted(job) else job.state


def _is_interrupted(job: Replay) -> bool:
    """Whether nobody carries it out though it was not paused."""
    silent = to_datetime(now_micros()) - job.updated_at
    return job.state == "running" and silent > timedelta(seconds=_SILENT_S)


def _moment(text: str | None) -> datetime | None:
    """A time, or how long ago. Raises ``SetupError``."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        return to_datetime(now_micros() - duration_s(text) * 1_000_000)


@contextmanager
def _opened() -> Iterator[tuple[Engine, Replays]]:
    settings = resolve(Settings(), kafka=False)
    with opened_database(settings) as engine:
        try:
            yield engine, Replays(engine, settings.catalogue())
        except NoSuchReplay as error:
            raise SetupError(f"{error}.", "`webhook replay list` shows them.", 1) from None
