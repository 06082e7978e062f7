"""Golden files: for each schema version a record as it was written by that version. ``python -m tests.schemas.golden``
writes the files that are missing; files that are there are never rewritten."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from schemas.codec import encode
from schemas.store import latest_version, load_ids, record_name, schema_text
from tests.schemas.samples import SAMPLES

DIRECTORY = Path(__file__).parent / "golden"


def as_json(value: Any) -> Any:
    """Fields of an event as JSON can hold them; bytes as ``{"hex": ...}``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_json(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value


def schema_digest(versioned: str) -> str:
    """Digest of a schema's file."""
    return hashlib.sha256(schema_text(versioned).encode()).hexdigest()


def write_missing() -> None:
    """Write the golden file of every latest version that has none."""
    for versioned in load_ids().values():
        path = DIRECTORY / f"{versioned}.json"
        name = record_name(versioned)
        if path.exists() or versioned != f"{name}.v{latest_version(name)}":
            continue
        golden = {
            "schema_sha256": schema_digest(versioned),
            "fields": as_json(SAMPLES[name]),
            "record": encode(SAMPLES[name]).hex(),
        }
        path.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write_missing()
