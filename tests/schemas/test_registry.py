"""Ids from an external registry, against a small registry on loopback."""

import base64
from collections.abc import Iterator

import pytest

from schemas.codec import decode, encode, use_ids
from schemas.events import Signal
from schemas.registry import RegistryError, ids_from_registry
from schemas.store import load_ids, schema_text
from tests.schemas.loopback_registry import Registry
from topics.catalogue import build_catalogue

SUBJECTS = {spec.subject: spec.record for spec in build_catalogue().specs.values()}


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry.running() as server:
        yield server


def test_every_subject_is_registered_and_ids_are_used(registry: Registry) -> None:
    ids = ids_from_registry(registry.url, SUBJECTS)
    assert sorted(ids.values()) == sorted(load_ids().values())
    assert set(registry.subjects) == set(SUBJECTS)
    assert {number: schema_text(versioned) for number, versioned in ids.items()} == {
        number: text for text, number in registry.ids.items()
    }
    event = Signal(kind="heartbeat", sender="a", value="{}", sent_at=1)
    try:
        use_ids(ids)
        data = encode(event)
        assert ids[int.from_bytes(data[1:5], "big")] == "signal.v1"
        assert decode(data) == event
    finally:
        use_ids(load_ids())


def test_registering_again_changes_nothing(registry: Registry) -> None:
    first = ids_from_registry(registry.url, SUBJECTS)
    subjects = {subject: list(versions) for subject, versions in registry.subjects.items()}
    assert ids_from_registry(registry.url + "/", SUBJECTS) == first
    assert registry.subjects == subjects


def test_user_and_password_are_sent_and_never_shown(registry: Registry) -> None:
    url = registry.url.replace("//", "//user:p%40ss@")
    ids_from_registry(url, SUBJECTS)
    assert set(registry.credentials) == {f"Basic {base64.b64encode(b'user:p@ss').decode()}"}
    registry.refuse = (401, b"{}")
    with pytest.raises(RegistryError) as caught:
        ids_from_registry(url, SUBJECTS)
    assert "p%40ss" not in str(caught.value)
    assert "401" in str(caught.value)


def test_a_refusal_says_what_the_registry_says(registry: Registry) -> None:
    registry.refuse = (409, b'{"error_code":409,"message":"READER_FIELD_MISSING_DEFAULT_VALUE"}')
    with pytest.raises(RegistryError, match=r"409: .*READER_FIELD_MISSING_DEFAULT_VALUE"):
        ids_from_registry(registry.url, SUBJECTS)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"id": "7"}', b'{"id": 0}', b"{}"])
def test_what_is_no_registry_is_named(registry: Registry, answer: bytes) -> None:
    registry.refuse = (200, answer)
    with pytest.raises(RegistryError, match="schema registry http://127"):
        ids_from_registry(registry.url, SUBJECTS)


def test_one_id_for_two_schemas_is_refused(registry: Registry) -> None:
    registry.refuse = (200, b'{"id": 7}')
    with pytest.raises(RegistryError, match="gives id 7 to"):
        ids_from_registry(registry.url, SUBJECTS)


@pytest.mark.parametrize("url", ["file:///etc/hosts", "localhost:8081", "http://", "http://127.0.0.1:1"])
def test_an_address_that_cannot_be_used(url: str) -> None:
    with pytest.raises(RegistryError, match="SCHEMA_REGISTRY_URL"):
        ids_from_registry(url, SUBJECTS, timeout_s=2)


def test_an_unknown_record_is_named(registry: Registry) -> None:
    with pytest.raises(ValueError, match="no record 'Invoice'"):
        ids_from_registry(registry.url, {"invoices-value": "Invoice"})
