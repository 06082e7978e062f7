"""The AsyncAPI document tells every topic with its record, and everything it refers to is there."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import fastavro

from schemas.codec import encode
from schemas.events import ModelChanged
from topics.asyncapi import asyncapi_document
from topics.catalogue import build_catalogue

CATALOGUE = build_catalogue("shop", {"webhook-high": "urgent"}, 3)
DOCUMENT = asyncapi_document(CATALOGUE, "1.2")


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) == {"$ref"}:
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_topic_is_a_channel_with_its_record_and_its_settings() -> None:
    channels = DOCUMENT["channels"]
    assert {each["address"] for each in channels.values()} == set(CATALOGUE.specs)
    for name, spec in CATALOGUE.specs.items():
        assert list(channels[name]["messages"]) == [spec.record]
        kafka = channels[name]["bindings"]["kafka"]
        assert (kafka["partitions"], kafka["topicConfiguration"]["retention.ms"]) == (
            spec.partitions,
            spec.retention_ms,
        )
    assert channels["urgent"]["description"] == "First steps of tier webhook-high."
    assert channels["urgent.steps"]["description"] == "Later steps of tier webhook-high."


def test_all_that_is_referred_to_is_there() -> None:
    found = list(references(DOCUMENT))
    assert found
    for reference in found:
        part = DOCUMENT
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]
        assert part


def test_the_schemas_read_what_we_write() -> None:
    schema = DOCUMENT["components"]["messages"]["ModelChanged"]["payload"]["schema"]
    change = ModelChanged(
        change_id="c1",
        tenant_id="1",
        model="Order",
        model_id="7",
        model_event="created",
        occurred_at=1_790_000_000_000_000,
        payload="{}",
    )
    read: Any = fastavro.schemaless_reader(BytesIO(encode(change)[5:]), json.loads(json.dumps(schema)), None)
    assert (read["change_id"], read["model_id"]) == ("c1", "7")


def test_what_others_may_produce_is_received() -> None:
    actions = {name: each["action"] for name, each in DOCUMENT["operations"].items()}
    assert [name for name, action in actions.items() if action == "receive"] == ["receive_changes", "receive_requests"]
