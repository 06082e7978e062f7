"""The OpenAPI document of the HTTP door, made of its routes, and JSON schemas made of the views they answer with."""

import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import orjson
from aiohttp import web

from streams.web.fields import LONGEST_HOSTNAME, LONGEST_TEXT, MOST_KEY_PARTS, PRINTABLE
from streams.web.idempotency import HEADER, LONGEST_KEY
from streams.web.routes import PROBLEM, Answer, JsonSchema, Parameter, Route

PATH: Final = "/openapi.json"

_LARGEST: Final = 2**53 - 1
_INTEGER: Final[JsonSchema] = {"type": "integer", "minimum": -_LARGEST, "maximum": _LARGEST}
_TEXT: Final[JsonSchema] = {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT, "pattern": PRINTABLE}

TENANT: Final[JsonSchema] = {
    "description": "The tenant: its id or one of its hostnames. Left out: the token's own.",
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": LONGEST_HOSTNAME, "pattern": PRINTABLE},
        {"type": "integer", "minimum": 1, "maximum": _LARGEST},
        {"type": "null"},
    ],
}
MODEL_ID: Final[JsonSchema] = {
    "description": "The row's primary key; an array where it has several parts.",
    "anyOf": [
        _TEXT,
        _INTEGER,
        {"type": "array", "minItems": 1, "maxItems": MOST_KEY_PARTS, "items": {"anyOf": [_TEXT, _INTEGER]}},
    ],
}
IDEMPOTENCY_KEY: Final = Parameter(
    name=HEADER,
    place="header",
    description="The same request under the same key is accepted once within a day, and answered as the first time.",
    schema={"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": r"^[!-~]([ -~]*[!-~])?$"},
)
EVENT_ID: Final = Parameter(
    name="event_id", place="path", description="The event's id.", schema={"type": "string", "minLength": 1}
)


def text(description: str, *, nullable: bool = False) -> dict[str, Any]:
    """The schema of a text as ``fields.text`` takes it."""
    return {**_TEXT, "type": ["string", "null"] if nullable else "string", "description": description}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = route.operation()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "webhook-streams",
            "version": version("webhook-streams"),
            "description": "Triggers, changes and call-backs in; events and why they wait out.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "`webhook tokens create` makes one."}
            },
            "schemas": {"Problem": PROBLEM},
        },
    }


def documented(routes: Sequence[Route]) -> list[Route]:
    """These routes, and the one that serves their document."""

    async def get(_: web.Request) -> web.Response:
        return web.Response(body=text, content_type="application/json")

    own = Route(
        method="GET",
        path=PATH,
        handler=get,
        name="openapi",
        tag="service",
        summary="What this door takes and answers",
        answers={200: Answer("This document.", {"type": "object"})},
    )
    text = orjson.dumps(document([*routes, own]))
    return [*routes, own]


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of what ``orjson`` makes of a value of this type, such as a view's class."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _union([each for each in arguments if each is not type(None)], len(arguments))
    if origin is Literal:
        return {"enum": list(arguments)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object"}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return {"type": "array", "items": schema_of(arguments[0])}
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        properties = {each.name: schema_of(hints[each.name]) for each in fields(kind)}
        return object_of(properties)
    return dict(_SIMPLE[kind])


def object_of(properties: Mapping[str, JsonSchema]) -> dict[str, Any]:
    """The schema of an object with exactly these properties."""
    return {
        "type": "object",
        "required": list(properties),
        "additionalProperties": False,
        "properties": dict(properties),
    }


_SIMPLE: Final[Mapping[Any, JsonSchema]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    datetime: {"type": "string", "format": "date-time"},
}


def _union(kinds: Sequence[Any], count: int) -> dict[str, Any]:
    schemas = [schema_of(each) for each in kinds]
    if count > len(kinds):
        schemas.append({"type": "null"})
    return {"anyOf": schemas}
