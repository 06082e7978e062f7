"""Which values of a configuration are secret: those that a plugin's schema marks, those with a secret's name, and
whatever stands under ``auth`` but its address and client id. A schema's ``"secret": false`` shows a value.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

MASK: Final = "********"
SHOWN_IN_AUTH: Final = frozenset({"url", "client_id"})
_SECRET_NAME: Final = re.compile(r"secret|passw|token|credential|private|(^|_)(api_?)?key$", re.IGNORECASE)
NO_SCHEMA: Final[Mapping[str, Any]] = {}


def masked(document: Any, schema: Mapping[str, Any] = NO_SCHEMA) -> Any:
    """A configuration with every secret replaced, fit to be shown. ``schema`` is the plugin's JSON Schema."""
    return _replaced(document, schema, lambda _: MASK)


def masked_entry(name: str, value: Any) -> Any:
    """The same of one entry of a configuration."""
    return masked({name: value})[name]


def secret_values(document: Any, schema: Mapping[str, Any] = NO_SCHEMA) -> frozenset[str]:
    """The text of every secret value in a configuration, numbers as JSON writes them."""
    found: set[str] = set()

    def keep(value: Any) -> None:
        if isinstance(value, Mapping):
            for each in value.values():
                keep(each)
        elif isinstance(value, list):
            for each in value:
                keep(each)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            found.add(str(value))

    _replaced(document, schema, keep)
    return frozenset(found)


def _replaced(value: Any, schema: Mapping[str, Any], hide: Callable[[Any], Any], in_auth: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {key: _entry(str(key), item, _below(schema, str(key)), hide, in_auth) for key, item in value.items()}
    if isinstance(value, list):
        items = schema.get("items")
        below = items if isinstance(items, Mapping) else NO_SCHEMA
        return [_replaced(item, below, hide) for item in value]
    return value


def _entry(name: str, value: Any, schema: Mapping[str, Any], hide: Callable[[Any], Any], in_auth: bool) -> Any:
    mark = schema.get("secret")
    if not isinstance(mark, bool):
        mark = name not in SHOWN_IN_AUTH if in_auth else bool(_SECRET_NAME.search(name))
    if mark and value is not None:
        return hide(value)
    if in_auth and isinstance(value, str) and "?" in value:
        # Some upstreams want their key in the query of the address.
        address, _, query = value.partition("?")
        return f"{address}?{hide(query)}"
    return _replaced(value, schema, hide, name == "auth" and not in_auth)


def _below(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    properties = schema.get("properties")
    below = properties.get(name) if isinstance(properties, Mapping) else None
    if below is None:
        below = schema.get("additionalProperties")
    return below if isinstance(below, Mapping) else NO_SCHEMA
