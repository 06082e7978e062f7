"""Which waiting records may go to another tier, and in what pieces they go (R16). Pure.

A record goes only to tiers of the routing rule that chose its own: what a tenant's urgent events never use is no help
to them. A record does not say its rule, and not the delay that helped to choose it, so every rule is thought of that
can have led it to where it is.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from topics.routing import DEFAULT_RULES, RouteRequest, Rule

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
