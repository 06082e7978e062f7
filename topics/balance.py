"""Which waiting records may go to another tier, how many should, and in what pieces they go (R16). Pure.

A record goes only to tiers of the routing rule that chose its own: what a tenant's urgent events never use is no help
to them. A record does not say its rule, and not the delay that helped to choose it, so every rule is thought of that
can have led it to where it is.
"""

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from topics.routing import DEFAULT_RULES, RouteRequest, Rule
from topics.tiers import FAILED

SLICES: Final = 64
"""Parts into which the keys of a partition fall. Which one is no matter of the partition, so each has keys of all."""


def slice_of(key: bytes) -> int:
    """The part to which a key belongs, 0 to 63; records without a key are of that of the empty one."""
    return zlib.crc32(key) % SLICES


def targets(event_type: str, priority: int, tier: str, rules: Sequence[Rule] = DEFAULT_RULES) -> frozenset[str]:
    """Tiers to which an event that waits in ``tier`` may be moved: those of every rule that can have chosen it.

    Empty where no rule leads such an event to ``tier``, as with work of the failed tier.
    """
    requests = (RouteRequest(event_type, priority, delay_s) for delay_s in _delays(rules))
    chosen = {next((rule.tiers for rule in rules if rule.matches(request)), ()) for request in requests}
    possible = [frozenset(tiers) for tiers in chosen if tier in tiers]
    return frozenset.intersection(*possible) - {tier} if possible else frozenset()


def _delays(rules: Sequence[Rule]) -> Iterator[int]:
    """Delays of which one at least is on each side of whatever the rules compare delays with."""
    yield 0
    for rule in rules:
        for condition in (*rule.every, *rule.some, *rule.none):
            if condition.field == "delay_s":
                operand = condition.operand
                for value in operand if isinstance(operand, list | tuple) else (operand,):
                    yield from (max(0, value - 1), max(0, value), value + 1)


GAP: Final = 100
"""Records by which two tiers' loads have to differ before any are moved: a move costs more than a short wait."""

_OVERLOADED: Final = 0.8
"""Part of the largest load from which a tier counts as overloaded as well."""


@dataclass(frozen=True, slots=True)
class Shift:
    """At most ``records`` of what waits in ``source`` should go to ``target``."""

    source: str
    target: str
    records: int


def partners(tier: str, rules: Sequence[Rule] = DEFAULT_RULES) -> frozenset[str]:
    """Tiers that stand beside ``tier`` in some rule: only to these may anything of it go."""
    found = {other for rule in rules if tier in rule.tiers for other in rule.tiers}
    return frozenset(found - {tier, FAILED.name}) if tier != FAILED.name else frozenset()


def shifts(
    loads: Mapping[str, int],
    takers: Collection[str],
    most: int | None = None,
    sources: Collection[str] | None = None,
    rules: Sequence[Rule] = DEFAULT_RULES,
) -> list[Shift]:
    """What levels the loads: from the most loaded tiers to ``takers``, the least loaded first.

    ``loads`` are records waiting. A tier gives only to partners whose load is smaller by more than ``GAP``, and until
    it has no more than they; none both gives and takes. ``most``: records that one tier gives at most. ``sources``:
    only these give, however loaded; ``None``: those with four fifths of the largest load or more.
    """
    now = dict(loads)
    largest = max(now.values(), default=0)
    found: list[Shift] = []
    for source in sorted(now, key=lambda tier: -now[tier]):
        gives = source in sources if sources is not None else now[source] >= _OVERLOADED * largest
        gives = gives and source not in {shift.target for shift in found}
        beside = (partners(source, rules) & set(takers) & set(now)) - {shift.source for shift in found}
        takes = sorted((tier for tier in beside if now[source] - now[tier] > GAP), key=lambda tier: (now[tier], tier))
        if not gives or not takes:
            continue
        level = _level([now[tier] for tier in takes], now[source])
        left = now[source] - level if most is None else min(most, now[source] - level)
        for target in takes:
            records = min(left, level - now[target])
            if records > 0:
                found.append(Shift(source, target, records))
                now[target] += records
                now[source] -= records
                left -= records
    return found


def _level(lower: Sequence[int], upper: int) -> int:
    """The load at which a tier with ``upper`` and those that are filled up from it, the lowest first, are even."""
    total, level = upper, upper
    for count, load in enumerate(sorted(lower), start=1):
        if load >= level:
            break
        total += load
        level = -(-total // (count + 1))
    return level
