"""``webhook rebalance``: waiting records go from loaded tiers to those of the same rule that have little to do."""

from collections import Counter
from typing import Annotated, Final

import typer

from streams.broker.runtime import resolve
from streams.cli.composition import use_registry_ids
from streams.cli.console import Json, progress, say, show, show_json
from streams.cli.control import caller
from streams.cli.tiers import tier_names
from streams.control.moves import LIFETIME_S, send_moves
from streams.errors import SetupError
from streams.health.reader import HealthReader
from streams.health.rebalancing import PlannedMove, plan
from streams.health.states import TierStates
from streams.settings import Settings
from topics.balance import GAP, shifts
from topics.health import PASSED_OVER
from topics.tiers import FAILED

_COLUMNS: Final = {"from": "FROM", "to": "TO", "records": "RECORDS", "partitions": "PARTITIONS"}


def rebalance(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be moved, and change nothing.")] = False,
    most: Annotated[int | None, typer.Option("--max", min=1, help="Records that one tier gives at most.")] = None,
    source: Annotated[str | None, typer.Option("--from", metavar="TIER", help="Move from this tier only.")] = None,
    target: Annotated[str | None, typer.Option("--to", metavar="TIER", help="Move to this tier only.")] = None,
    as_json: Json = False,
) -> None:
    """Move waiting records from loaded tiers to tiers of the same routing rule that have less to do.

    The workers of a loaded tier send on what they have not started, within a minute, key by key in order; each event
    runs once, whoever dies meanwhile. Only tiers with workers that are well and not paused take any, the failed tier
    neither gives nor takes. RECORDS is an upper bound: what starts or ends before its worker is told stays.

    Exit codes: 0 done, or nothing to do; 1 the brokers do not answer; 2 wrong use or set-up.

    [bold]Examples[/bold]

      webhook rebalance --dry-run

      webhook rebalance --from beanstalk --to db --max 1000

      0 */6 * * * webhook rebalance >> /var/log/webhook-rebalance.log
    """
    sources, takers = _one(source), _one(target)
    settings = resolve(Settings(), database=False)
    use_registry_ids(settings)
    with HealthReader(settings) as reader:
        states = reader.look()
    loads = {tier: state.lag for tier, state in states.tiers.items()}
    wanted = shifts(loads, _takers(states, takers), most, sources)
    with progress() as report:
        planned = plan(settings, wanted, report) if wanted else []
    if planned and not dry_run:
        send_moves(settings, [each.move for each in planned], caller())
    rows = _rows(planned)
    if as_json:
        show_json({"dry_run": dry_run, "moves": rows})
        return
    show(rows, _COLUMNS, False, f"Nothing to move: no tiers of one rule differ by more than {GAP} movable records.")
    if planned:
        total = sum(each.records for each in planned)
        done = "would be moved" if dry_run else f"are moved by their workers within {LIFETIME_S:g} s"
        say(f"At most {total:,} records {done}.")


def _one(tier: str | None) -> list[str] | None:
    if tier is None:
        return None
    names = tier_names([tier])
    if len(names) != 1 or FAILED.name in names:
        raise SetupError(f"Nothing is moved from or to {tier!r}.", "Name one tier, or leave the option out for all.")
    return names


def _takers(states: TierStates, only: list[str] | None) -> list[str]:
    """Tiers to which something may be moved."""
    return [
        tier
        for tier, state in states.tiers.items()
        if state.workers and not state.paused and state.status not in PASSED_OVER and (only is None or tier in only)
    ]


def _rows(planned: list[PlannedMove]) -> list[dict[str, object]]:
    records, partitions = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for each in planned:
        way = each.move.tier, each.move.target
        records[way] += each.records
        partitions[way] += 1
    return [
        {"from": way[0], "to": way[1], "records": count, "partitions": partitions[way]}
        for way, count in records.items()
    ]
