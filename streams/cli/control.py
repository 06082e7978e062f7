"""``webhook pause``, ``resume`` and ``restart``: what running workers obey within a second, and later ones at once."""

import getpass
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException

from schemas.events import ControlState, now_micros, to_datetime
from streams.broker.connection import admin_client
from streams.broker.runtime import is_embedded, resolve
from streams.cli.console import Json, note, say, show, show_json
from streams.cli.durations import duration_s
from streams.cli.tiers import TIERS_HELP, tier_names
from streams.control.log import ControlWriter, control_state, follow_control
from streams.control.store import ControlStore
from streams.control.view import ALL, PAUSE, RESTART, ControlView
from streams.database import check_migrations, open_database
from streams.errors import SetupError
from streams.settings import Settings

Tiers = Annotated[list[str], typer.Argument(metavar="TIER...", help=TIERS_HELP)]
Reason = Annotated[str | None, typer.Option(help="Why, for those who wonder later.")]


def pause(
    tiers: Tiers,
    reason: Reason = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="End by itself: 90s, 15m, 2h, 1d.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Let tiers start nothing new: what runs ends, what waits stays. Workers obey within a second and stay up.

    A pause of all is apart from the tiers' own: `resume all` leaves those paused that were paused by name.

    [bold]Examples[/bold]

      webhook pause low --reason "the supplier is down"

      webhook pause all --for 15m
    """
    until = None if duration is None else now_micros() + duration_s(duration) * 1_000_000
    names = _subjects(tiers)
    write_control([control_state(PAUSE, name, {"paused": True, "until": until}, caller(), reason) for name in names])
    end = "" if until is None else f" until {to_datetime(until).astimezone():%Y-%m-%d %H:%M:%S}"
    _say_done([{"tier": name, "paused": True} for name in names], as_json, f"paused{end}")


def resume(tiers: Tiers, reason: Reason = None, as_json: Json = False) -> None:
    """Let paused tiers go on where they stopped.

    [bold]Examples[/bold]

      webhook resume low

      webhook resume all
    """
    names = _subjects(tiers)
    write_control([control_state(PAUSE, name, {"paused": False}, caller(), reason) for name in names])
    _say_done([{"tier": name, "paused": False} for name in names], as_json, "resumed")
    with control_view() as (_, view):
        still = [state.subject for state in view.states(PAUSE) if view.value(PAUSE, state.subject)["paused"]]
    if ALL in still:
        note("Everything is paused all the same, by a pause of all: `webhook resume all` ends it.")
    elif names == [ALL] and still:
        note(f"Paused by name, and still so: {', '.join(still)}.")


def restart(tiers: Tiers, reason: Reason = None, as_json: Json = False) -> None:
    """Let the workers of tiers end in order, exit code 0, for their supervisor to start them anew.

    `webhook up` makes its workers anew within its process, all of them; that loads no new code.

    [bold]Examples[/bold]

      webhook restart high

      webhook restart all --reason "new configuration"
    """
    names = _subjects(tiers)
    with control_view() as (writer, view):
        epochs = [int(view.value(RESTART, state.subject)) for state in view.states(RESTART)]
        epoch = max(epochs, default=0) + 1
        write_states(writer, [control_state(RESTART, name, epoch, caller(), reason) for name in names])
    _say_done([{"tier": name, "epoch": epoch} for name in names], as_json, "restarting")


def paused(as_json: Json = False) -> None:
    """List what is paused, since when, by whom and why.

    [bold]Examples[/bold]

      webhook queue paused --json
    """
    with control_view() as (_, view):
        found = [(state, view.value(PAUSE, state.subject)) for state in view.states(PAUSE)]
    rows = [
        {
            "tier": state.subject,
            "since": to_datetime(state.updated_at),
            "until": None if value["until"] is None else to_datetime(value["until"]),
            "by": state.updated_by,
            "reason": state.reason,
        }
        for state, value in found
        if value["paused"] and (value["until"] is None or value["until"] > now_micros())
    ]
    columns = {"tier": "TIER", "since": "SINCE", "until": "UNTIL", "by": "BY", "reason": "REASON"}
    show(rows, columns, as_json, "Nothing is paused.")


@contextmanager
def control_view() -> Iterator[tuple[ControlWriter, ControlView]]:
    """What `.control` says at this moment, and a writer to it. Raises ``SetupError`` where no broker answers."""
    settings = resolve(Settings(), database=False)
    admin_client(settings)
    view = ControlView()
    follower = follow_control(settings, view, lambda _name, _error: None)
    follower.start()
    writer = ControlWriter(settings, _store(settings))
    try:
        yield writer, view
    finally:
        follower.stop()
        writer.close()


def write_states(writer: ControlWriter, states: Sequence[ControlState]) -> None:
    """Write, once the brokers have answered. Raises ``SetupError`` where they do not."""
    try:
        writer.write(states)
    except KafkaException as error:
        raise SetupError(
            f"The brokers did not take it: {error.args[0].str()}.",
            "Check that enough of them run and that `webhook topics check` finds nothing.",
            exit_code=1,
        ) from error


def caller() -> str:
    """Who runs this command, as control states keep it."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def write_control(states: Sequence[ControlState]) -> None:
    """Write; beside an embedded installation that does not run now, for its next start."""
    found = resolve(Settings(), kafka=False, database=False)
    if not found.bootstrap_servers:
        store = _store(resolve(Settings(), kafka=False))
        assert store is not None  # noqa: S101  without a broker the settings lead to an embedded installation
        store.save(states)
        note("Nothing runs here now; it holds from the next `webhook up` on.")
        return
    admin_client(found)
    writer = ControlWriter(found, _store(found))
    write_states(writer, states)
    writer.close()


def _store(settings: Settings) -> ControlStore | None:
    """Where states stay beside an embedded broker; ``None`` beside a real one."""
    if settings.bootstrap_servers and not is_embedded(settings):
        return None
    engine = open_database(resolve(settings, kafka=False))
    check_migrations(engine, ("system",))
    return ControlStore(engine)


def _subjects(tiers: Sequence[str]) -> list[str]:
    return [ALL] if ALL in tiers else tier_names(tiers)


def _say_done(rows: list[dict[str, Any]], as_json: bool, what: str) -> None:
    if as_json:
        show_json(rows)
        return
    for row in rows:
        say(f"{row['tier']}: {what}")
