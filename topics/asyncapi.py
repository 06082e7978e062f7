"""The topics as an AsyncAPI 3 document, for tools that read one; made of the catalogue and the schemas as shipped."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from schemas.store import latest_version, load_ids, record_name, schema_text
from topics.catalogue import Catalogue, TopicSpec

_BINDING: Final = "0.5.0"
_AVRO: Final = "application/vnd.apache.avro+json;version=1.9.0"
_HEADERS: Final = ("content-type", "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time")
_OPTIONAL_HEADERS: Final = ("ce_tenantid", "traceparent")

_SHARED: Final[Mapping[str, str]] = {
    "changes": "Changes of models, from any language; intake matches them with the tenants' settings.",
    "requests": "Triggers of every kind that have no tier yet; intake accepts and routes them.",
    "scheduled": "Tasks that wait: for their time, a gate, a lane, a call-back.",
    "events": "Everything that happened to events and their tasks; the log that the views are made of.",
    "dead_letters": "Records that nobody could read or route, as they were.",
    "control": "State that every role obeys; the latest record of a key holds.",
    "signals": "Heartbeats and commands, kept for an hour.",
}
"""What the topics are for that all tiers share, by their name in the catalogue."""

_PRODUCED_BY_OTHERS: Final = ("changes", "requests")


def asyncapi_document(catalogue: Catalogue, version: str) -> dict[str, Any]:
    """The document. Operations are from the application's point of view: it receives what others may produce."""
    records = {spec.record for spec in catalogue.specs.values()}
    schemas = {json.loads(text)["name"]: text for text in _latest_schemas()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "webhook-streams",
            "version": version,
            "description": "Avro in Confluent's wire format: a zero byte, the schema's id in four, the body.",
        },
        "defaultContentType": "application/avro",
        "channels": {name: _channel(spec, _purpose(catalogue, name)) for name, spec in catalogue.specs.items()},
        "operations": dict(_operations(catalogue)),
        "components": {
            "messages": {record: _message(record, schemas[record]) for record in sorted(records)},
            "messageTraits": {"record": _common()},
        },
    }


def _latest_schemas() -> Iterator[str]:
    for name in sorted({record_name(each) for each in load_ids().values()}):
        yield schema_text(f"{name}.v{latest_version(name)}")


def _purpose(catalogue: Catalogue, name: str) -> str:
    for role, purpose in _SHARED.items():
        if getattr(catalogue, role) == name:
            return purpose
    tier = catalogue.tier_by_topic[name]
    return f"Later steps of tier {tier}." if name.endswith(".steps") else f"First steps of tier {tier}."


def _channel(spec: TopicSpec, purpose: str) -> dict[str, Any]:
    return {
        "address": spec.name,
        "description": purpose,
        "messages": {spec.record: {"$ref": f"#/components/messages/{spec.record}"}},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "topicConfiguration": {
                    "cleanup.policy": [spec.cleanup],
                    "retention.ms": spec.retention_ms,
                    "max.message.bytes": spec.max_message_bytes,
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _operations(catalogue: Catalogue) -> Iterator[tuple[str, dict[str, Any]]]:
    for role in _SHARED:
        name = getattr(catalogue, role)
        receives = role in _PRODUCED_BY_OTHERS
        yield (
            f"{'receive' if receives else 'send'}_{role}",
            {
                "action": "receive" if receives else "send",
                "channel": {"$ref": f"#/channels/{name}"},
                "summary": "Produced by the relay and by programs of yours." if receives else "Produced by us alone.",
            },
        )


def _message(record: str, schema: str) -> dict[str, Any]:
    written = json.loads(schema)
    return {
        "name": record,
        "title": record,
        "summary": written.get("doc", record),
        "contentType": "application/avro",
        "traits": [{"$ref": "#/components/messageTraits/record"}],
        "payload": {"schemaFormat": _AVRO, "schema": written},
    }


def _common() -> dict[str, Any]:
    texts = {name: {"type": "string"} for name in (*_HEADERS, *_OPTIONAL_HEADERS)}
    return {
        "description": "Headers are CloudEvents' attributes in Kafka's binary mode, and the trace a record belongs to.",
        "headers": {"type": "object", "required": list(_HEADERS), "properties": texts},
        "bindings": {
            "kafka": {
                "key": {
                    "type": "string",
                    "description": "tenant|model|id, or the event's id without a model",
                },
                "schemaIdLocation": "payload",
                "schemaIdPayloadEncoding": "confluent",
                "bindingVersion": _BINDING,
            }
        },
    }
