"""A tenant's own product names and properties in the upstream's words, from the tenant's configuration."""

from collections.abc import Mapping
from typing import Any


def map_sku(sku: str, config: Mapping[str, Any]) -> str:
    """The upstream's product of one of the tenant's: from ``sku_map``, else the same name."""
    mapped = _table(config, "sku_map").get(sku, sku)
    return str(mapped)


def map_specifications(item: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, str]]:
    """The attributes of an item's ``specs``; ``specification_map`` renames properties. Sorted by name."""
    specs = item.get("specs")
    if not isinstance(specs, Mapping):
        return []
    names = _table(config, "specification_map")
    return [{"attribute": str(names.get(name, name)), "value": str(value)} for name, value in sorted(specs.items())]


def _table(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = config.get(key)
    return table if isinstance(table, Mapping) else {}
