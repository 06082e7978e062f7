"""Whether records written under one version of a schema can be read under another (Avro's rules of resolution).

FULL_TRANSITIVE: every version of a record reads every other, so that old and new programs run side by side in any
order and any stored log stays readable. Unions are held to more than Avro asks: every branch of the writer must be
readable, because which branch comes is decided by data.
"""

import json
from itertools import permutations
from typing import Any, Final

from schemas.store import load_ids, record_name, schema_text

_PROMOTIONS: Final[dict[str, frozenset[str]]] = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}


def incompatibilities() -> list[str]:
    """What stands against FULL_TRANSITIVE compatibility of the shipped schemas; empty where nothing does."""
    versions: dict[str, list[str]] = {}
    for versioned in load_ids().values():
        versions.setdefault(record_name(versioned), []).append(versioned)
    return [
        f"{reader} cannot read {writer}: {problem}"
        for names in versions.values()
        for writer, reader in permutations(names, 2)
        for problem in unreadable(json.loads(schema_text(writer)), json.loads(schema_text(reader)))
    ]


def unreadable(writer: Any, reader: Any, path: str = "record") -> list[str]:
    """Why data of schema ``writer`` cannot be read as schema ``reader``, each with its path; empty where it can."""
    if isinstance(writer, list):
        return [problem for branch in writer for problem in unreadable(branch, reader, path)]
    if isinstance(reader, list):
        if any(not unreadable(writer, branch, path) for branch in reader):
            return []
        return [f"{path}: no branch of {_shown(reader)} reads {_shown(writer)}"]
    kind, reader_kind = _kind(writer), _kind(reader)
    if kind != reader_kind:
        if reader_kind in _PROMOTIONS.get(kind, ()):
            return []
        return [f"{path}: {_shown(writer)} is not readable as {_shown(reader)}"]
    if kind == "array":
        return unreadable(writer["items"], reader["items"], f"{path}[]")
    if kind == "map":
        return unreadable(writer["values"], reader["values"], f"{path}{{}}")
    if kind in ("record", "enum", "fixed") and writer["name"] != reader["name"]:
        return [f"{path}: {writer['name']} is not named {reader['name']}"]
    if kind == "enum" and not set(writer["symbols"]) <= set(reader["symbols"]) and "default" not in reader:
        return [f"{path}: symbols that the reader does not know"]
    if kind == "fixed" and writer["size"] != reader["size"]:
        return [f"{path}: {writer['size']} bytes are not {reader['size']}"]
    return _unreadable_fields(writer, reader, path) if kind == "record" else []


def _unreadable_fields(writer: dict[str, Any], reader: dict[str, Any], path: str) -> list[str]:
    written = {field["name"]: field["type"] for field in writer["fields"]}
    problems: list[str] = []
    for field in reader["fields"]:
        where = f"{path}.{field['name']}"
        if field["name"] in written:
            problems += unreadable(written[field["name"]], field["type"], where)
        elif "default" not in field:
            problems.append(f"{where}: has no default and the writer does not know it")
    return problems


def _kind(schema: Any) -> str:
    """``long`` of ``{"type": "long", "logicalType": ...}``, ``record`` of a record."""
    while isinstance(schema, dict):
        schema = schema["type"]
    return str(schema)


def _shown(schema: Any) -> str:
    if isinstance(schema, list):
        return "|".join(_kind(branch) for branch in schema)
    return _kind(schema)
