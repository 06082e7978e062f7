"""``webhook status``: how the six tiers are at this moment, once or again and again."""

import sys
import time
from collections.abc import Iterable
from typing import Annotated, Any, Final

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from schemas.events import to_datetime
from streams.broker.runtime import resolve
from streams.cli.console import Json, cell, note, show_json, terminal
from streams.errors import SetupError
from streams.health.reader import HealthReader
from streams.health.states import TierState, TierStates
from streams.settings import Settings
from topics.hysteresis import RANKS
from topics.tiers import TIERS

EXIT_UNWELL: Final = 1
_STYLES: Final = {"healthy": "green", "warning": "yellow", "unhealthy": "red", "error": "red bold"}
_HEADINGS: Final = ("TIER", "STATUS", "LOAD", "OLDEST", "WORKERS", "RUNNING", "DELAYED", "PER S", "CLEAR IN", "")


def status(
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it anew until Ctrl-C.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=0.5, help="Seconds between two looks of --watch.")] = 2.0,
    fail_on_unhealthy: Annotated[
        bool, typer.Option("--fail-on-unhealthy", help="Exit with 1 where a tier is unhealthy or in error.")
    ] = False,
) -> None:
    """Say how the six tiers are: healthy, warning, unhealthy or error, what waits in each, and who works.

    LOAD counts what a tier's consumer group has not finished (as `kafka-consumer-groups` does) and waits that are due;
    CLEAR IN is how long that takes at the rate of the last minute. A running `webhook monitor` has measured it, and
    routing goes by the same figures; where none runs it is measured now, and nothing of what was before is known.

    With --json a map of tiers, for `jq`; where the brokers do not answer each tier is in `error`.

    Exit codes: 0 shown, whatever it says; 1 the brokers do not answer, or --fail-on-unhealthy; 2 wrong use or set-up.

    [bold]Examples[/bold]

      webhook status

      webhook status --watch

      webhook status --json | jq -r 'to_entries[] | select(.value.status == "unhealthy") | .key'
    """
    settings = resolve(Settings(), database=False)
    try:
        with HealthReader(settings) as reader:
            if watch:
                _watch(reader, every_s, as_json)
            states = reader.look()
            _show(reader, states, as_json)
    except SetupError as error:
        if as_json:
            show_json({tier: {"status": "error", "load": 0, "error": error.message} for tier in TIERS})
        raise SetupError(error.message, error.hint, exit_code=1) from error
    if fail_on_unhealthy and any(RANKS[each.status] >= RANKS["unhealthy"] for each in states.tiers.values()):
        raise typer.Exit(EXIT_UNWELL)


def _watch(reader: HealthReader, every_s: float, as_json: bool) -> None:
    """Show it until Ctrl-C; as JSON one document after the other."""
    try:
        if as_json or not sys.stdout.isatty():
            while True:
                _show(reader, reader.look(), as_json)
                time.sleep(every_s)
        with Live(_table(reader, reader.look()), console=terminal(), auto_refresh=False) as live:
            while True:
                time.sleep(every_s)
                live.update(_table(reader, reader.look()), refresh=True)
    except KeyboardInterrupt:
        raise typer.Exit from None


def _show(reader: HealthReader, states: TierStates, as_json: bool) -> None:
    if as_json:
        show_json({tier: _entry(reader, tier, state, states) for tier, state in states.tiers.items()})
        return
    terminal().print(_table(reader, states))
    if reader.measures:
        note("No monitor runs: this was measured now, and routing knows nothing of it. `webhook monitor` goes on.")


def _entry(reader: HealthReader, tier: str, state: TierState, states: TierStates) -> dict[str, Any]:
    pause = reader.pause_of(tier)
    return {
        "status": state.status,
        "load": state.load,
        "last_checked": to_datetime(states.measured_at),
        "lag": state.lag,
        "due": state.due,
        "delayed": state.delayed,
        "overdue": state.overdue,
        "oldest_s": state.oldest_s,
        "workers": state.workers,
        "running": state.running,
        "attempts_per_s": state.attempts_per_s,
        "clears_in_s": state.clears_in_s,
        "faults": state.faults,
        "paused": pause is not None,
        "paused_by": None if pause is None else pause.updated_by,
        "paused_since": None if pause is None else to_datetime(pause.updated_at),
        "paused_reason": None if pause is None else pause.reason,
    }


def _table(reader: HealthReader, states: TierStates) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(_HEADINGS):
        table.add_column(heading, justify="left" if number in (0, 1, len(_HEADINGS) - 1) else "right")
    for tier, state in states.tiers.items():
        pause = reader.pause_of(tier)
        remarks: list[str] = []
        if pause is not None:
            reason = f": {pause.reason}" if pause.reason else ""
            remarks.append(f"paused by {pause.updated_by}{reason}")
        if state.faults:
            remarks.append(f"{state.faults:.0%} of the attempts end by a fault")
        values = (
            tier,
            Text(state.status, _STYLES[state.status]),
            f"{state.load:,}",
            _span(state.oldest_s) if state.load else "",
            str(state.workers),
            f"{state.running:,}",
            "?" if state.delayed is None else f"{state.delayed:,}",
            f"{state.attempts_per_s:,.1f}",
            _clearing(state),
            Text(cell(", ".join(remarks))),
        )
        table.add_row(*values)
    return table


def _clearing(state: TierState) -> str:
    if not state.load:
        return ""
    return "?" if state.clears_in_s is None else _span(state.clears_in_s)


def _span(seconds: float) -> str:
    """A time span in its two largest units: ``2 h 5 min``."""
    units: Iterable[tuple[str, int]] = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), []
    for name, size in units:
        if left >= size:
            parts.append(f"{left // size} {name}")
            left %= size
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"
