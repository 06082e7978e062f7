"""A route and what it promises, in one place: the application serves it, and the OpenAPI document tells of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from aiohttp import web

from handlers.tenants.tokens import Scope
from streams.web.problems import PROBLEM_TYPE

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
JsonSchema: TypeAlias = Mapping[str, Any]

JSON: Final = "application/json"

OF_TOKENS: Final = (401, 403, 429, 503)
"""What whoever asks for a token may answer."""
OF_BODIES: Final = (400, 408, 413, 415)
"""What whoever reads a JSON body may answer."""

_WHY: Final = {
    400: "The request cannot be read.",
    401: "No token, or one that is unknown, revoked or expired.",
    403: "The token's scope is too small.",
    404: "There is nothing of that name within the token's reach.",
    408: "The body came too slowly.",
    409: "The key was sent before with another content.",
    413: "The body, or the payload in it, is too large.",
    415: "The body is not of the media type that is read here.",
    422: "The request can be read, and asks for what is not allowed; `detail` says why.",
    429: "The token has sent too many requests; `Retry-After` says when to come again.",
    503: "The database is away, or too much is under way; nothing was accepted.",
}

PROBLEM: Final[JsonSchema] = {
    "type": "object",
    "description": "A problem document (RFC 9457). `code` is for programs, `detail` for people.",
    "required": ["type", "title", "status", "code", "detail"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter: ``place`` is path, query or header."""

    name: str
    place: str
    description: str
    schema: JsonSchema
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer other than a problem: its meaning, its body's schema and what headers come with it."""

    description: str
    schema: JsonSchema
    headers: Mapping[str, JsonSchema] = field(default_factory=dict)
    media_type: str = JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route. ``path`` is aiohttp's, ``problems`` are statuses, ``scope`` what a token needs (``None``: no token).

    ``body`` is the schema of a body of media type ``body_type``.
    """

    method: str
    path: str
    handler: Handler
    name: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    problems: Sequence[int] = ()
    scope: Scope | None = None
    parameters: Sequence[Parameter] = ()
    body: JsonSchema | None = None
    body_type: str = JSON

    def served(self) -> web.RouteDef:
        """The route as the application takes it."""
        return web.route(self.method, self.path, self.handler)

    def operation(self) -> dict[str, Any]:
        """The route as an OpenAPI operation."""
        statuses = {*self.problems, *(OF_TOKENS if self.scope is not None else ())}
        if self.body is not None:
            statuses.update(OF_BODIES)
        answers = {str(status): _answer(answer) for status, answer in self.answers.items()}
        told: dict[str, Any] = {
            "operationId": self.name,
            "tags": [self.tag],
            "summary": self.summary,
            "security": [] if self.scope is None else [{"token": []}],
            "responses": answers | {str(status): _problem(status) for status in sorted(statuses)},
        }
        if self.scope is not None:
            told["description"] = f"Needs a token of scope {self.scope} or wider."
        if self.parameters:
            told["parameters"] = [_parameter(each) for each in self.parameters]
        if self.body is not None:
            told["requestBody"] = {"required": True, "content": {self.body_type: {"schema": self.body}}}
        return told


def _answer(answer: Answer) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": answer.description,
        "content": {answer.media_type: {"schema": answer.schema}},
    }
    if answer.headers:
        told["headers"] = {name: {"required": True, "schema": each} for name, each in answer.headers.items()}
    return told


def _problem(status: int) -> dict[str, Any]:
    headers: dict[str, JsonSchema] = {}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = {"type": "integer", "minimum": 1, "description": "Seconds."}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = {"type": "string"}
    return _answer(Answer(_WHY[status], {"$ref": "#/components/schemas/Problem"}, headers, PROBLEM_TYPE))


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "description": parameter.description,
        "schema": parameter.schema,
    }
