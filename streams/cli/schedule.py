"""``webhook schedule``: what waits for its time or its turn, and what can be done about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Final

import typer
from confluent_kafka import KafkaException

from projections.queries import MAX_LIMIT
from projections.waits import open_waits
from streams.broker.connection import admin_client
from streams.broker.runtime import resolve
from streams.cli.console import Json, examples, note, say, show, show_json
from streams.cli.control import caller
from streams.database import opened_database
from streams.errors import SetupError
from streams.scheduling import NotWaiting, Obeyed, Scheduling
from streams.settings import Settings
from topics.tiers import TIERS

_COLUMNS: Final = {
    "due_at": "DUE",
    "event_id": "EVENT",
    "tenant_id": "TENANT",
    "tier": "TIER",
    "kind": "KIND",
    "lane_position": "BEFORE IT",
    "reason": "REASON",
}
_TOLD: Final = {
    "unconfirmed": "nobody has obeyed yet; see that `webhook relay` and `webhook project` run, then ask again",
    "too_late": "too late: its task is on its way already",
}

schedule_app = typer.Typer(
    name="schedule",
    help="Delays, retries, deferrals and strict lanes: list them, let one go now, cancel one."
    + examples(
        "webhook schedule list --tier webhook-low --json",
        "webhook schedule run 0199f3c2-6f0c-8c55-b1a5-0c8f4b4f2a11",
        "webhook schedule cancel 0199f3c2-6f0c-8c55-b1a5-0c8f4b4f2a11 --reason 'ordered twice'",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Which = Annotated[
    str, typer.Argument(metavar="ID", help="The event's id, or the schedule id that `list --json` shows.")
]
OfTenant = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant: its website id.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, max=3600, help="Seconds to wait for the answer.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what it would be about.")]


@schedule_app.command(
    "list",
    help="List what waits, the next to be due first."
    + examples("webhook schedule list", "webhook schedule list --tenant 1 --limit 100 --json")
    + "\n\nA strict lane is shown in its order with `--lane`; BEFORE IT counts the events before one in its lane.",
)
def list_waits(
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="Tasks shown at most.")] = 20,
    tenant: OfTenant = None,
    tier: Annotated[str | None, typer.Option(help="Only what goes to this tier.")] = None,
    lane: Annotated[str | None, typer.Option(help="Only this strict lane, as `tenant|model|id`.")] = None,
    as_json: Json = False,
) -> None:
    """List what waits."""
    if tier is not None and tier not in TIERS:
        raise SetupError(f"There is no tier {tier!r}.", f"Tiers are: {', '.join(TIERS)}.")
    with opened_database(resolve(Settings(), kafka=False), "projections") as engine, engine.connect() as connection:
        found = open_waits(connection, tenant_id=tenant, tier=tier, lane=lane, limit=limit)
    show([asdict(each) for each in found], _COLUMNS, as_json, "Nothing waits.")


@schedule_app.command(
    "run",
    help="Let a task go now whose time has not come."
    + examples("webhook schedule run 0199f3c2-6f0c-8c55-b1a5-0c8f4b4f2a11")
    + "\n\nWhat waits behind a gate or in a strict lane does not wait for its time and is refused. What waits "
    "for a call-back ends `timed_out`, as at its own time; `webhook call-back` lets it go on.",
)
def run(
    which: Which, tenant: OfTenant = None, timeout_s: Timeout = 10.0, dry_run: DryRun = False, as_json: Json = False
) -> None:
    """Let a task go."""
    with _scheduling(which, tenant, dry_run) as scheduling:
        if scheduling is not None:
            obeyed = scheduling.run_now(which, by=caller(), tenant_id=tenant, timeout_s=timeout_s)
            _tell(obeyed, "goes now", as_json)


@schedule_app.command(
    "cancel",
    help="End an event that waits; it can be retried like one that failed."
    + examples("webhook schedule cancel 0199f3c2-6f0c-8c55-b1a5-0c8f4b4f2a11 --reason 'ordered twice'")
    + "\n\nExit codes: 0 cancelled, 1 too late or not confirmed in time, 2 wrong use or set-up.",
)
def cancel(
    which: Which,
    reason: Annotated[str, typer.Option(help="Why, for those who look at the event.")] = "",
    tenant: OfTenant = None,
    timeout_s: Timeout = 10.0,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """End an event that waits."""
    with _scheduling(which, tenant, dry_run) as scheduling:
        if scheduling is not None:
            obeyed = scheduling.cancel(which, by=caller(), reason=reason, tenant_id=tenant, timeout_s=timeout_s)
            _tell(obeyed, "is cancelled", as_json)


def _tell(obeyed: Obeyed, done: str, as_json: bool) -> None:
    if as_json:
        show_json(asdict(obeyed))
    elif obeyed.answer == "done":
        say(f"{obeyed.event_id} {done}.")
    else:
        note(f"{obeyed.event_id}: {_TOLD[obeyed.answer]}.")
    if obeyed.answer != "done":
        raise typer.Exit(1)


@contextmanager
def _scheduling(which: str, tenant: str | None, dry_run: bool) -> Iterator[Scheduling | None]:
    """What gives commands; ``None`` after a dry run has said what one would be about."""
    settings = resolve(Settings())
    admin_client(settings)
    with opened_database(settings, "projections") as engine:
        scheduling = Scheduling(settings, engine)
        try:
            if dry_run:
                wait = scheduling.find(which, tenant)
                is_open = wait["dispatched_at"] is None and wait["closed_at"] is None
                state = f"waits ({wait['reason'] or wait['kind']})" if is_open else "does not wait any more"
                say(f"{wait['event_id']} {state}; nothing was changed.")
            yield None if dry_run else scheduling
        except NotWaiting as error:
            raise SetupError(f"{error}.", "`webhook schedule list` shows what waits.", 1) from None
        except KafkaException as error:
            raise SetupError(f"The brokers did not take the command: {error.args[0].str()}.", exit_code=1) from error
