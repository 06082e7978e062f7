"""The read side of a Confluent schema registry over the shipped schemas, so that official decoders read our topics.

Nothing here needs a token: a schema describes records and holds none.
"""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson
from aiohttp import web

from schemas.store import load_ids, record_name, schema_text
from topics.catalogue import Catalogue

MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
COMPATIBILITY: Final = "FULL_TRANSITIVE"

SUBJECT_NOT_FOUND: Final = 40401
VERSION_NOT_FOUND: Final = 40402
SCHEMA_NOT_FOUND: Final = 40403
READ_ONLY: Final = 42205
INVALID_SCHEMA: Final = 42201
INVALID_VERSION: Final = 42202

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
        if not version.isdecimal() or int(version) == 0:
            raise RegistryError(
                422, INVALID_VERSION, f"The version '{version}' is neither 'latest' nor a number from 1."
            )
        for each in known:
            if each.version == int(version):
                return each
        raise RegistryError(404, VERSION_NOT_FOUND, f"Version {version} of subject '{subject}' not found.")

    def text(self, schema_id: str) -> str:
        """The schema with this id. Raises ``RegistryError`` for an unknown one."""
        text = self._texts.get(int(schema_id)) if schema_id.isdecimal() else None
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
        return _answer({"id": found.schema_id})

    async def config(self, _: web.Request) -> web.Response:
        """GET /config and /config/{subject}: the compatibility that the test suite proves."""
        return _answer({"compatibilityLevel": COMPATIBILITY})

    async def mode(self, _: web.Request) -> web.Response:
        """GET /mode."""
        return _answer({"mode": "READONLY"})

    def _version(self, request: web.Request) -> RegisteredSchema:
        return self._registry.version(request.match_info["subject"], request.match_info["version"])


def registry_routes(catalogue: Catalogue) -> list[web.RouteDef]:
    """The routes of the read API for the subjects of this catalogue."""
    resource = RegistryResource(SchemaRegistry(catalogue))
    return [
        web.get("/subjects", _guarded(resource.subjects)),
        web.get("/subjects/{subject}/versions", _guarded(resource.versions)),
        web.get("/subjects/{subject}/versions/{version}", _guarded(resource.version)),
        web.get("/subjects/{subject}/versions/{version}/schema", _guarded(resource.version_text)),
        web.get("/schemas/types", _guarded(resource.types)),
        web.get("/schemas/ids/{id}", _guarded(resource.by_id)),
        web.get("/schemas/ids/{id}/versions", _guarded(resource.versions_by_id)),
        web.post("/subjects/{subject}", _guarded(resource.lookup)),
        web.post("/subjects/{subject}/versions", _guarded(resource.register)),
        web.get("/config", _guarded(resource.config)),
        web.get("/config/{subject}", _guarded(resource.config)),
        web.get("/mode", _guarded(resource.mode)),
    ]


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
        body = orjson.loads(await request.read())
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
