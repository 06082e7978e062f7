"""The read side of a Confluent schema registry over the shipped schemas, so that official decoders read our topics.

Nothing here needs a token: a schema describes records and holds none.
"""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import orjson
from aiohttp import web

from schemas.store import load_ids, record_name, schema_text
from streams.web.bodies import read_bytes
from streams.web.openapi import object_of
from streams.web.routes import Answer, JsonSchema, Parameter, Route
from topics.catalogue import Catalogue

MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY: Final = "FULL_TRANSITIVE"

SUBJECT_NOT_FOUND: Final = 40401
VERSION_NOT_FOUND: Final = 40402
SCHEMA_NOT_FOUND: Final = 40403
READ_ONLY: Final = 42205
INVALID_SCHEMA: Final = 42201
INVALID_VERSION: Final = 42202

_VERSION_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
_ID_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_LARGEST_BYTES: Final = 256 * 1024
"""Of a body with a schema."""

_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """One version of one subject, with its id and its text as shipped."""

    subject: str
    version: int
    schema_id: int
    text: str

    def document(self) -> dict[str, Any]:
        """The version as the registry's API shows it."""
        return {"subject": self.subject, "version": self.version, "id": self.schema_id, "schema": self.text}


class RegistryError(Exception):
    """An answer that is no success: HTTP status, the API's own error code, and a message for people."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class SchemaRegistry:
    """Subjects, versions and ids: one subject for each topic, one version for each shipped schema of its record."""

    def __init__(self, catalogue: Catalogue) -> None:
        by_record: dict[str, list[tuple[int, int, str]]] = {}
        self._texts: dict[int, str] = {}
        for schema_id, versioned in load_ids().items():
            text = json.dumps(json.loads(schema_text(versioned)))
            self._texts[schema_id] = text
            version = int(versioned.rsplit(".v", 1)[1])
            by_record.setdefault(record_name(versioned), []).append((version, schema_id, text))
        self._subjects: dict[str, list[RegisteredSchema]] = {
            spec.subject: [
                RegisteredSchema(spec.subject, version, schema_id, text)
                for version, schema_id, text in sorted(by_record[_snake_case(spec.record)])
            ]
            for spec in catalogue.specs.values()
        }

    def subjects(self) -> list[str]:
        """Names of all subjects, sorted."""
        return sorted(self._subjects)

    def versions(self, subject: str) -> list[RegisteredSchema]:
        """All versions of a subject, oldest first. Raises ``RegistryError`` for an unknown subject."""
        try:
            return self._subjects[subject]
        except KeyError:
            raise RegistryError(404, SUBJECT_NOT_FOUND, f"Subject '{subject}' not found.") from None

    def version(self, subject: str, version: str) -> RegisteredSchema:
        """One version by number, or ``latest``. Raises ``RegistryError`` where there is none."""
        known = self.versions(subject)
        if version in ("latest", "-1"):
            return known[-1]
        if _VERSION_NUMBER.fullmatch(version) is None:
            raise RegistryError(
                422, INVALID_VERSION, f"The version '{version}' is neither 'latest' nor a number from 1."
            )
        for each in known:
            if each.version == int(version):
                return each
        raise RegistryError(404, VERSION_NOT_FOUND, f"Version {version} of subject '{subject}' not found.")

    def text(self, schema_id: str) -> str:
        """The schema with this id. Raises ``RegistryError`` for an unknown one."""
        text = self._texts.get(int(schema_id)) if _ID_NUMBER.fullmatch(schema_id) else None
        if text is None:
            raise RegistryError(404, SCHEMA_NOT_FOUND, f"Schema {schema_id} not found.")
        return text

    def users(self, schema_id: str) -> list[RegisteredSchema]:
        """Every version of every subject that has this id. Raises ``RegistryError`` for an unknown one."""
        self.text(schema_id)
        return [each for name in self.subjects() for each in self._subjects[name] if each.schema_id == int(schema_id)]

    def lookup(self, subject: str, schema: object) -> RegisteredSchema:
        """The version of a subject with this schema (JSON text). Raises ``RegistryError`` where there is none."""
        known = self.versions(subject)
        try:
            wanted = json.loads(schema) if isinstance(schema, str) else None
        except ValueError:
            wanted = None
        if wanted is None:
            raise RegistryError(422, INVALID_SCHEMA, "The field 'schema' must hold an Avro schema as JSON text.")
        for each in known:
            if json.loads(each.text) == wanted:
                return each
        raise RegistryError(404, SCHEMA_NOT_FOUND, f"Schema not found under subject '{subject}'.")


class RegistryResource:
    """The HTTP side of a ``SchemaRegistry``."""

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry

    async def subjects(self, _: web.Request) -> web.Response:
        """GET /subjects: all names."""
        return _answer(self._registry.subjects())

    async def versions(self, request: web.Request) -> web.Response:
        """GET /subjects/{subject}/versions: the numbers."""
        return _answer([each.version for each in self._registry.versions(request.match_info["subject"])])

    async def version(self, request: web.Request) -> web.Response:
        """GET /subjects/{subject}/versions/{version}: one version, or the latest."""
        return _answer(self._version(request).document())

    async def version_text(self, request: web.Request) -> web.Response:
        """GET /subjects/{subject}/versions/{version}/schema: its text alone."""
        return web.Response(text=self._version(request).text, content_type=MEDIA_TYPE)

    async def by_id(self, request: web.Request) -> web.Response:
        """GET /schemas/ids/{id}: what decoders ask for."""
        return _answer({"schema": self._registry.text(request.match_info["id"])})

    async def versions_by_id(self, request: web.Request) -> web.Response:
        """GET /schemas/ids/{id}/versions: who uses it."""
        users = self._registry.users(request.match_info["id"])
        return _answer([{"subject": each.subject, "version": each.version} for each in users])

    async def types(self, _: web.Request) -> web.Response:
        """GET /schemas/types: Avro only."""
        return _answer(["AVRO"])

    async def lookup(self, request: web.Request) -> web.Response:
        """POST /subjects/{subject}: the version with this schema."""
        return _answer(self._registry.lookup(request.match_info["subject"], await _schema_field(request)).document())

    async def register(self, request: web.Request) -> web.Response:
        """POST /subjects/{subject}/versions: serializers register before they write; known schemas get their id."""
        try:
            found = self._registry.lookup(request.match_info["subject"], await _schema_field(request))
        except RegistryError as error:
            if error.code != SCHEMA_NOT_FOUND:
                raise
            refusal = "This registry is read-only: new schemas ship with the package."
            raise RegistryError(422, READ_ONLY, refusal) from error
        return _answer({"id": found.schema_id, "version": found.version})

    async def config(self, _: web.Request) -> web.Response:
        """GET /config and /config/{subject}: the compatibility that the test suite proves."""
        return _answer({"compatibilityLevel": COMPATIBILITY})

    async def mode(self, _: web.Request) -> web.Response:
        """GET /mode."""
        return _answer({"mode": "READONLY"})

    def _version(self, request: web.Request) -> RegisteredSchema:
        return self._registry.version(request.match_info["subject"], request.match_info["version"])


def registry_routes(catalogue: Catalogue) -> list[Route]:
    """The routes of the read API for the subjects of this catalogue."""
    resource = RegistryResource(SchemaRegistry(catalogue))
    one, version, by_id = "/subjects/{subject}", "/subjects/{subject}/versions/{version}", "/schemas/ids/{id}"
    return [
        _route("GET", "/subjects", resource.subjects, "The subjects", _list_of({"type": "string"})),
        _route("GET", f"{one}/versions", resource.versions, "A subject's versions", _list_of(_NUMBER), 404),
        _route("GET", version, resource.version, "A version of a subject", _VERSION, 404, 422),
        _route("GET", f"{version}/schema", resource.version_text, "Its schema alone", {}, 404, 422),
        _route("GET", "/schemas/types", resource.types, "Kinds of schemas", _list_of({"const": "AVRO"})),
        _route("GET", by_id, resource.by_id, "The schema of an id", object_of({"schema": _SCHEMA}), 404),
        _route("GET", f"{by_id}/versions", resource.versions_by_id, "Who uses an id", _list_of(_USER), 404),
        _route("POST", one, resource.lookup, "The version with a schema", _VERSION, 404, 422),
        _route(
            "POST",
            f"{one}/versions",
            resource.register,
            "The id of a schema",
            object_of({"id": _NUMBER, "version": _NUMBER}),
            404,
            413,
            422,
        ),
        _route("GET", "/config", resource.config, "The compatibility of all", _CONFIG),
        _route("GET", "/config/{subject}", resource.config, "The compatibility of a subject", _CONFIG),
        _route("GET", "/mode", resource.mode, "Read-only", object_of({"mode": {"const": "READONLY"}})),
    ]


def _route(method: str, path: str, handler: _Handler, summary: str, schema: JsonSchema, *errors: int) -> Route:
    """A route that needs no token, with the API's own media type and errors."""
    answers = {200: Answer(summary, schema, media_type=MEDIA_TYPE)}
    answers |= {status: Answer(HTTPStatus(status).phrase, _ERROR, media_type=MEDIA_TYPE) for status in errors}
    return Route(
        method=method,
        path=path,
        handler=_guarded(handler),
        name=handler.__name__ + ("_of_subject" if path.startswith("/config/") else ""),
        tag="schema registry",
        summary=summary,
        answers=answers,
        parameters=[
            Parameter(name=name, place="path", description=meaning, schema={"type": "string", "pattern": pattern})
            for name, (meaning, pattern) in _IN_PATH.items()
            if f"{{{name}}}" in path
        ],
        body=_LOOKED_FOR if method == "POST" else None,
        body_type=MEDIA_TYPE,
    )


def _list_of(items: JsonSchema) -> JsonSchema:
    return {"type": "array", "items": items}


_NUMBER: Final[JsonSchema] = {"type": "integer", "minimum": 0}
_SCHEMA: Final[JsonSchema] = {"type": "string", "description": "An Avro schema as JSON text."}
_USER: Final[JsonSchema] = object_of({"subject": {"type": "string"}, "version": _NUMBER})
_VERSION: Final[JsonSchema] = object_of(
    {"subject": {"type": "string"}, "version": _NUMBER, "id": _NUMBER, "schema": _SCHEMA}
)
_CONFIG: Final[JsonSchema] = object_of({"compatibilityLevel": {"const": COMPATIBILITY}})
_ERROR: Final[JsonSchema] = object_of({"error_code": {"type": "integer"}, "message": {"type": "string"}})
_LOOKED_FOR: Final[JsonSchema] = {"type": "object", "required": ["schema"], "properties": {"schema": _SCHEMA}}
_IN_PATH: Final = {
    "subject": ("A topic's subject.", "^.+$"),
    "version": ("A number, or latest.", "^(latest|-1|[1-9][0-9]{0,8})$"),
    "id": ("A schema's id.", "^[0-9]{1,9}$"),
}


def _guarded(handler: _Handler) -> _Handler:
    """The same handler, answering a ``RegistryError`` in the registry's own form."""

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except RegistryError as error:
            return _answer({"error_code": error.code, "message": str(error)}, status=error.status)

    return answer


async def _schema_field(request: web.Request) -> object:
    try:
        body = orjson.loads(await read_bytes(request, _LARGEST_BYTES))
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise RegistryError(422, INVALID_SCHEMA, "The body must be a JSON object with the field 'schema'.")
    return body.get("schema")


def _answer(body: object, *, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type=MEDIA_TYPE)


def _snake_case(name: str) -> str:
    """``task_ready`` of ``TaskReady``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
