"""Run fault scenarios and print one line of figures for each: ``python -m tests.faults [NAME...]``."""

import argparse
import json
import random
import signal
import sys
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.faults.scenario import Report, Scenario, Size, perform, resized
from tests.faults.scenarios.registry import SCENARIOS

COLUMNS: Final = ("fault", "load", "events", "lost", "repeated", "inversions", "recovery_s", "seconds", "seed")
_SIZES: Final = {"rate": float, "faults": int, "step_s": float, "settle_s": float, "events": int}
_EPILOG: Final = """examples:
  python -m tests.faults                               every scenario in full, hours
  python -m tests.faults --short                       those of CI, in minutes
  python -m tests.faults kill-worker --faults 10       one of them, smaller
  python -m tests.faults hand-over --seed 7 --json

exit codes: 0 every promise was kept, 1 one was broken, 2 wrong use
"""


def chosen(names: list[str], short: bool) -> list[Scenario]:
    """The scenarios of these names, or all; with ``short`` those that CI runs too."""
    wanted = [SCENARIOS[name] for name in names] if names else list(SCENARIOS.values())
    return [scenario for scenario in wanted if scenario.short is not None or not short or names]


def size_of(scenario: Scenario, arguments: argparse.Namespace) -> Size:
    """Its own size, changed by the options."""
    size = scenario.short if arguments.short and scenario.short is not None else scenario.full
    return resized(size, **{name: getattr(arguments, name) for name in _SIZES})


def summary(report: Report) -> str:
    """A scenario's figures in one line, for whoever waits for the table."""
    figures = f"{report.events} events, {report.lost} lost, {report.repeated} repeated, {report.seconds:g} s"
    return f"{figures}: {f'{len(report.violations)} BROKEN' if report.violations else 'every promise was kept'}"


def show(reports: list[Report]) -> None:
    """The table, and what was broken."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in COLUMNS:
        table.add_column(column.replace("_s", " s"), justify="left" if column in ("fault", "load") else "right")
    for report in reports:
        table.add_row(*(str(getattr(report, column)) for column in COLUMNS), style="red" if report.violations else None)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for report in reports:
        for name, value in report.notes.items():
            console.print(f"{report.fault}: {name} {value}", style="dim", highlight=False)
        for violation in report.violations:
            console.print(f"{report.fault}: BROKEN {violation}", style="bold red", highlight=False)


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *SCENARIOS], help=", ".join(SCENARIOS))
    parser.add_argument("--json", action="store_true", help="print one JSON array and nothing else")
    parser.add_argument("--seed", type=int, help="seed of load and faults; default: a random one, which is printed")
    parser.add_argument("--short", action="store_true", help="the sizes of CI")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="keep what each process printed, by scenario")
    parser.add_argument("--list", action="store_true", help="list the scenarios and leave")
    for name, kind in _SIZES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=f"override {name}")
    arguments = parser.parse_args()
    if arguments.list:
        for scenario in SCENARIOS.values():
            print(f"{scenario.name:20} {scenario.title}{'' if scenario.short is None else '  (in CI)'}")
        return 0
    # Else an interrupted run leaves its services behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 30)
    reports: list[Report] = []
    for scenario in chosen(arguments.names, arguments.short):
        size = size_of(scenario, arguments)
        print(f"{scenario.name} (seed {seed}): {scenario.title}; {size} ...", file=sys.stderr)
        reports.append(perform(scenario, size, seed, arguments.logs))
        # All of them take hours: what is known is said at once.
        print(f"  {summary(reports[-1])}", file=sys.stderr)
    if arguments.json:
        rows: list[dict[str, Any]] = [report.as_json() for report in reports]
        print(json.dumps(rows, indent=2))
    else:
        show(reports)
    return int(any(report.violations for report in reports))


if __name__ == "__main__":
    sys.exit(main())
