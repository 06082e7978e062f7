"""A tenant's own names in an upstream's words, from the tenant's configuration, and the upstream's words in ours."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from schemas.errors import Permanent, Retryable

STATUSES: Final = (
    "received",
    "waiting_for_artwork",
    "in_production",
    "shipped",
    "completed",
    "cancelled",
    "failed",
    "unknown",
)
"""What an order can be, in our words: a vendor's own statuses are mapped to these and back."""


def full_reference(tenant_id: str, order_id: str) -> str:
    """The order's name at every upstream, as long as it comes: ``TENANT-{tenant}-{order}``."""
    return f"TENANT-{tenant_id}-{order_id}"


def map_sku(sku: str, config: Mapping[str, Any]) -> str:
    """The upstream's product of one of the tenant's: from ``sku_map``, else the same name.

    Raises ``Permanent`` for a product that is not in the map where ``unmapped_sku`` says ``reject``.
    """
    table = config_table(config, "sku_map")
    if sku not in table and config.get("unmapped_sku") == "reject":
        raise Permanent(
            f"the product {sku!r} is not in sku_map; add it to the tenant's configuration, then retry the event",
            code="unmapped_sku",
        )
    return str(table.get(sku, sku))


def map_specifications(item: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """An item's ``specs`` under the names that ``specification_map`` gives them, sorted by the tenant's names."""
    specs = item.get("specs")
    if not isinstance(specs, Mapping):
        return {}
    names = config_table(config, "specification_map")
    return {str(names.get(name, name)): value for name, value in sorted(specs.items())}


def specification_list(item: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, str]]:
    """``map_specifications`` as a list of ``attribute`` and ``value``."""
    return [{"attribute": name, "value": str(value)} for name, value in map_specifications(item, config).items()]


def renamed(given: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The upstream's fields, each from the first of the tenant's ``names`` for it that has a value."""
    found = ((field, next((given[name] for name in each if given.get(name)), None)) for field, each in names.items())
    return {field: value for field, value in found if value is not None}


def config_table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object of the configuration, empty where it has none."""
    table = config.get(key)
    return table if isinstance(table, Mapping) else {}


def our_status(upstream: object, table: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """An upstream's status in our words (``STATUSES``), or in the tenant's own where ``status_map`` renames ours.

    ``table`` is the vendor's own. A status that it does not know is ``unknown``, never an error.
    """
    wanted = str(upstream).strip().lower()
    ours = next((status for name, status in table.items() if name.lower() == wanted), "unknown")
    return str(config_table(config, "status_map").get(ours, ours))


def upstream_statuses(status: str, table: Mapping[str, str], config: Mapping[str, Any]) -> list[str]:
    """The vendor's statuses of one of the tenant's (or of ours): the way back of ``our_status``."""
    return [upstream for upstream in table if status in (table[upstream], our_status(upstream, table, config))]


def cents(price: object) -> int:
    """A price in whole cents. Raises ``Retryable`` (code ``bad_answer``) where it is no number."""
    if isinstance(price, bool) or not isinstance(price, int | float) or not math.isfinite(price):
        raise Retryable("the upstream's answer has no price; it is asked again", code="bad_answer")
    # By way of its decimal text: 12.5 is 1250 cents, and 0.29 is not 28.
    return int((Decimal(str(price)) * 100).to_integral_value())


def sync_steps(path: str, sources: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Steps that copy a catalogue, as data: each name of ``sources`` with the step it takes its input from."""
    return [
        {
            "id": name,
            "uses": "action",
            "events": [],
            "action": {
                "as": "RetrieveData",
                "path": path,
                "model": f"{path.lower()}.{name}",
                "input": {"from": source},
            },
        }
        for name, source in sources.items()
    ]
