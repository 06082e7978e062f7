"""What was once written stays readable and is written the same way, byte for byte."""

import json
from typing import Any

import pytest

from schemas.codec import decode, encode
from schemas.store import latest_version, load_ids, record_name
from tests.schemas.golden import DIRECTORY, as_json, schema_digest

VERSIONS = list(load_ids().values())


def _golden(versioned: str) -> dict[str, Any]:
    golden: dict[str, Any] = json.loads((DIRECTORY / f"{versioned}.json").read_text())
    return golden


@pytest.mark.parametrize("versioned", VERSIONS)
def test_golden_record_decodes_to_its_fields(versioned: str) -> None:
    golden = _golden(versioned)
    decoded = as_json(decode(bytes.fromhex(golden["record"])))
    assert {name: decoded[name] for name in golden["fields"]} == golden["fields"]


@pytest.mark.parametrize("versioned", VERSIONS)
def test_latest_version_still_writes_the_golden_bytes(versioned: str) -> None:
    name = record_name(versioned)
    if versioned != f"{name}.v{latest_version(name)}":
        return
    golden = _golden(versioned)
    assert encode(decode(bytes.fromhex(golden["record"]))).hex() == golden["record"]


@pytest.mark.parametrize("versioned", VERSIONS)
def test_a_schema_file_is_never_edited(versioned: str) -> None:
    assert schema_digest(versioned) == _golden(versioned)["schema_sha256"], (
        f"{versioned}.avsc was edited: take the edit back and add a new version beside it"
    )


def test_every_golden_file_has_its_schema() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.json")} == set(VERSIONS)
