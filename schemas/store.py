"""The schemas as shipped: files by record and version, and the append-only ids beside them."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from fastavro import parse_schema


def load_ids() -> dict[int, str]:
    """Schema ids and the file each stands for: ``{1: "model_changed.v1", ...}``."""
    text = files("schemas").joinpath("ids.json").read_text()
    return {int(number): name for number, name in json.loads(text).items()}


def record_name(versioned: str) -> str:
    """``task_ready`` of ``task_ready.v1``."""
    return versioned.rsplit(".v", 1)[0]


@cache
def latest_version(name: str) -> int:
    """Newest version of a record."""
    return max(int(each.rsplit(".v", 1)[1]) for each in load_ids().values() if record_name(each) == name)


@cache
def schema_text(versioned: str) -> str:
    """The schema as written, documentation and logical types included."""
    return files("schemas").joinpath("avro", f"{versioned}.avsc").read_text()


@cache
def load_schema(versioned: str) -> Any:
    """The schema as the codec uses it: parsed, times left as integers (see ``schemas.events``)."""

    def plain(node: object) -> object:
        if isinstance(node, dict):
            if "logicalType" in node:
                return node["type"]
            return {key: plain(value) for key, value in node.items() if key != "doc"}
        if isinstance(node, list):
            return [plain(item) for item in node]
        return node

    # Each version is parsed under names of its own: fastavro refuses to define one name twice in a process.
    return parse_schema(plain(json.loads(schema_text(versioned))), named_schemas={})
