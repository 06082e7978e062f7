"""Tiers as they are typed: by their full names, without ``webhook-``, or all of them."""

from collections.abc import Sequence
from typing import Final

from streams.errors import SetupError
from topics.tiers import TIERS

TIERS_HELP: Final = f"Tiers: {', '.join(name.removeprefix('webhook-') for name in TIERS)}, or all."
_SHORT_NAMES: Final = {name.removeprefix("webhook-"): name for name in TIERS}


def tier_names(given: Sequence[str]) -> list[str]:
    """The full names, each once. Raises ``SetupError`` for a name that is no tier's."""
    if "all" in given:
        return list(TIERS)
    names = [_SHORT_NAMES.get(name, name) for name in given]
    unknown = [name for name in names if name not in TIERS]
    if unknown:
        raise SetupError(f"There is no tier {unknown[0]!r}.", f"Tiers are: {', '.join(TIERS)}, or `all`.")
    return list(dict.fromkeys(names))
