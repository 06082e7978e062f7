"""A tenant's configuration: the JSON document of ``websites.configure``, validated as a whole.

Unknown keys are kept and noted, never refused: plugins have settings of their own. Everything known is checked, and
every mistake is named at once with its path.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import json5
import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    Strict,
    ValidationError,
    model_validator,
)

from handlers.tenants.parts import Part
from handlers.tenants.repetition import Coalesce, SingletonSetting
from handlers.tenants.secrets import MASK, NO_SCHEMA, SHOWN_IN_AUTH, masked

DOCUMENT_LIMIT_BYTES: Final = 256 * 1024
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SEGMENT: Final = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
_ROUTE: Final = re.compile(f"{_SEGMENT}(/{_SEGMENT})*")


class Problem(NamedTuple):
    """One thing to mend: where in the document (``webhook_settings[0].priority``) and what is wrong with it."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class ConfigurationError(ValueError):
    """A configuration that cannot be used; ``problems`` lists every mistake."""

    def __init__(self, problems: Sequence[Problem], source: str = "the tenant's configuration") -> None:
        self.problems = tuple(problems)
        super().__init__("\n  ".join([f"{source} cannot be used:", *map(str, self.problems)]))


def bare_model_name(name: str) -> str:
    r"""``Order`` of ``App\Models\Tenants\Order``, ``shop.models.Order`` or ``Order``."""
    return re.split(r"[\\.]", name)[-1]


def _model_name(value: str) -> str:
    name = bare_model_name(value.strip())
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError("must name a model, as Order, shop.models.Order or App\\Models\\Order")
    return name


def _handler_name(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError("must be a handler's bare name as its plugin lists it, for example OrderWebhookHandler")
    return value


def _route(value: str) -> str:
    route = value.strip("/")
    if not _ROUTE.fullmatch(route):
        raise ValueError("must be a path such as webhook/order: letters, digits, - _ . between single slashes")
    return route


def _queue_mode(value: object) -> object:
    return "foreground" if value in ("sync", "immediate") else value


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL with a host")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password; give them as keys of their own")
    return value


ModelName = Annotated[str, AfterValidator(_model_name)]
HandlerName = Annotated[str, AfterValidator(_handler_name)]
Route = Annotated[str, AfterValidator(_route)]
Whole = Annotated[int, Strict()]


class Auth(Part):
    """How to reach the upstream. Plugins define further keys; all but ``url`` and ``client_id`` count as secret."""

    url: Annotated[str, AfterValidator(_web_address)] | None = None
    secret: SecretStr | None = None
    client_id: str | None = None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, value if name in SHOWN_IN_AUTH or value is None else MASK


class PluginRoute(Part):
    """A route that may be called, in either direction."""

    route: Route
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class PipelineStep(Part):
    """One step: ``retry_attempts`` is the total number of tries, ``timeout`` the longest run of one try, seconds."""

    handler_class: HandlerName
    retry_attempts: Annotated[Whole, Field(ge=1, le=100)] = 3
    timeout: float = Field(60, gt=0, le=3600)


class SettingsEntry(Part):
    """One entry of ``webhook_settings``: what fires it, and how it is carried out.

    ``delay`` is in seconds. ``ordering`` ``strict``: one event of a row at a time, from its first try to its end (R12).
    ``coalesce``: of events that come shortly one after the other, the last is carried out for all.
    ``singleton``: of events alike one at a time.
    ``entry_id`` is the entry's ``id``, else a hash of it: an entry that will be edited under way wants an ``id``.
    """

    id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    models: list[ModelName] = Field(default_factory=list)
    events: list[Literal["created", "updated", "deleted", "restored"]] = Field(default_factory=list)
    webhook_endpoint: Route
    target_class: HandlerName | None = None
    queue_mode: Annotated[Literal["background", "foreground"], BeforeValidator(_queue_mode)] = "background"
    priority: Annotated[Whole, Field(ge=1, le=10)] | None = None
    delay: Annotated[Whole, Field(ge=0)] | None = None
    pipeline: Annotated[list[PipelineStep], Field(min_length=1, max_length=100)] | None = None
    ordering: Literal["default", "strict"] = "default"
    on_exhausted: Literal["skip", "halt"] = "skip"
    coalesce: Coalesce | None = None
    singleton: SingletonSetting | None = None
    _entry_id: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _consistent(self) -> "SettingsEntry":
        if self.models and not self.events:
            raise ValueError("names models but no events, so it would never fire; list events such as created")
        if self.events and not self.models:
            raise ValueError("names events but no models; list the models whose changes fire it")
        if self.models and self.queue_mode == "foreground":
            # The call would run inside the writer's transaction.
            raise ValueError("queue_mode foreground is for manual triggers; an entry with models runs in background")
        if self.singleton and (self.coalesce or self.ordering == "strict"):
            raise ValueError("singleton is an order of its own: without coalesce and strict order")
        if self.coalesce and (self.delay or self.ordering == "strict" or self.queue_mode == "foreground"):
            raise ValueError("coalesce waits for the last event of several: without delay, strict order or foreground")
        return self

    @property
    def entry_id(self) -> str:
        """Stable identity of the entry within its tenant."""
        return self._entry_id

    def handler_names(self) -> Iterator[tuple[str, str]]:
        """Path and name of each handler the entry names."""
        if self.target_class:
            yield "target_class", self.target_class
        for index, step in enumerate(self.pipeline or ()):
            yield f"pipeline[{index}].handler_class", step.handler_class


class TenantConfiguration(Part):
    """The document of ``websites.configure``. Make one with ``parse_configuration``."""

    auth: Auth = Auth()
    plugin_version: str | None = Field(None, alias="plugin__v")
    plugin_name: Annotated[str, Field(min_length=1, max_length=200)]
    plugin_port: Annotated[Whole, Field(ge=1, le=65535)] | None = None
    plugin_routes: list[PluginRoute] = Field(default_factory=list)
    plugin_route_prefix: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    transport: Literal["direct", "sidecar"] = "direct"
    production: Annotated[bool, Strict()] = False
    route_handlers: dict[Route, HandlerName] = Field(default_factory=dict)
    webhook_settings: list[SettingsEntry] = Field(default_factory=list)
    _document: dict[str, Any] = PrivateAttr(default_factory=dict)
    _by_change: dict[tuple[str, str], list[SettingsEntry]] = PrivateAttr(default_factory=dict)
    _by_id: dict[str, SettingsEntry] = PrivateAttr(default_factory=dict)

    @property
    def document(self) -> Mapping[str, Any]:
        """The document as it was given, secrets in clear: for handlers and for storing, never for a log."""
        return self._document

    def matching(self, model: str, model_event: str) -> list[SettingsEntry]:
        """Entries that a change of ``model`` fires, in the document's order; each fires an event of its own."""
        return self._by_change.get((bare_model_name(model), model_event), [])

    def entry(self, entry_id: str | None) -> SettingsEntry | None:
        """The entry with that ``entry_id``, if the configuration still has it."""
        return self._by_id.get(entry_id or "")

    def entry_for(self, endpoint: str) -> SettingsEntry | None:
        """The first entry of an endpoint."""
        return next((each for each in self.webhook_settings if each.webhook_endpoint == endpoint), None)

    def lists_route(self, route: str, method: str = "POST") -> bool:
        """Whether ``plugin_routes`` allows the route with that method."""
        return any(each.route == route and each.method == method for each in self.plugin_routes)

    def masked(self, schema: Mapping[str, Any] = NO_SCHEMA) -> Any:
        """The document with every secret replaced, fit to be shown; ``schema`` is the plugin's."""
        return masked(self._document, schema)

    def changes_from(self, other: "TenantConfiguration | None") -> dict[str, str]:
        """What differs from another configuration, by path: added, removed or changed. Values are not told."""
        old, new = dict(_leaves(other.document if other else {})), dict(_leaves(self._document))
        changes = {path: "added" if path not in old else "changed" for path in new if new[path] != old.get(path, ...)}
        return dict(sorted((changes | {path: "removed" for path in old if path not in new}).items()))

    def handler_names(self) -> Iterator[tuple[str, str]]:
        """Path and name of every handler the document names."""
        for endpoint, name in self.route_handlers.items():
            yield f"route_handlers.{endpoint}", name
        for index, entry in enumerate(self.webhook_settings):
            yield from ((f"webhook_settings[{index}].{path}", name) for path, name in entry.handler_names())

    def notes(self, plugin_keys: Collection[str] = ()) -> list[Problem]:
        """What is allowed but probably not meant: unknown keys, and entries that shadow one another.

        ``plugin_keys`` are the keys of the document's top level that the tenant's plugin knows.
        """
        notes = [
            Problem(path, "is not a known setting; it is kept")
            for path in self.unknown_keys()
            if not path.startswith("auth.") and path not in plugin_keys
        ]
        first: dict[str, int] = {}
        for index, entry in enumerate(self.webhook_settings):
            other = first.setdefault(entry.webhook_endpoint, index)
            if other != index:
                reason = f"repeats the endpoint of webhook_settings[{other}]; a manual trigger uses that one"
                notes.append(Problem(f"webhook_settings[{index}].webhook_endpoint", reason))
        return notes


def parse_configuration(document: object, source: str = "the tenant's configuration") -> TenantConfiguration:
    """Validate a document, a JSON object as Python has it. Raises ``ConfigurationError`` with every mistake in it."""
    if not isinstance(document, dict):
        raise ConfigurationError([Problem("", f"must be a JSON object, not {type(document).__name__}")], source)
    try:
        size = len(_canonical(document))
    except (TypeError, ValueError) as error:
        raise ConfigurationError([Problem("", f"does not fit JSON: {error}")], source) from None
    if size > DOCUMENT_LIMIT_BYTES:
        problem = Problem("", f"has {size} bytes; at most {DOCUMENT_LIMIT_BYTES} are allowed")
        raise ConfigurationError([problem], source)
    try:
        configuration = TenantConfiguration.model_validate(document)
    except ValidationError as error:
        # The cause is dropped: it carries the input, secrets included.
        raise ConfigurationError(list(_problems(error)), source) from None
    _index(configuration, document, source)
    return configuration


def read_configuration(text: str, source: str = "the configuration file") -> TenantConfiguration:
    """Validate a document as people write it. Raises ``ConfigurationError`` for all that is wrong with it."""
    return parse_configuration(read_document(text, source), source)


def read_document(text: str, source: str = "the configuration file") -> object:
    """The document of a file: JSON, with comments and trailing commas allowed.

    Raises ``ConfigurationError`` for broken syntax, a key given twice, and what is too large.
    """
    if len(text) > DOCUMENT_LIMIT_BYTES:
        problem = Problem("", f"has {len(text)} characters; at most {DOCUMENT_LIMIT_BYTES} are allowed")
        raise ConfigurationError([problem], source)
    try:
        return json5.loads(text, allow_duplicate_keys=False)
    except RecursionError:
        raise ConfigurationError([Problem("", "is nested too deeply")], source) from None
    except ValueError as error:
        raise ConfigurationError([Problem("", f"is not JSON: {error}")], source) from None


def _canonical(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from _leaves(each, f"{path}[{index}]")
    elif path:
        yield path, value


def _index(configuration: TenantConfiguration, document: dict[str, Any], source: str) -> None:
    """Give each entry its identity, and build what the hot path looks up."""
    configuration._document = document
    problems: list[Problem] = []
    for index, (entry, raw) in enumerate(
        zip(configuration.webhook_settings, document.get("webhook_settings", []), strict=True)
    ):
        entry._entry_id = entry.id or hashlib.sha256(_canonical(raw)).hexdigest()[:16]
        if entry.entry_id in configuration._by_id:
            # Two entries of one identity would derive one event id, and the second would never run (R9).
            reason = "is the same as an earlier entry, or has its id; remove it or give it an `id` of its own"
            problems.append(Problem(f"webhook_settings[{index}]", reason))
        configuration._by_id[entry.entry_id] = entry
        for change in {(model, event) for model in entry.models for event in entry.events}:
            configuration._by_change.setdefault(change, []).append(entry)
    if problems:
        raise ConfigurationError(problems, source)


def _problems(error: ValidationError) -> Iterator[Problem]:
    for each in error.errors(include_url=False, include_context=False):
        path = ""
        for part in each["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
        reason = each["msg"].removeprefix("Value error, ")
        given = each.get("input")
        # Text may be a secret in the wrong place, and whatever stands under auth is one.
        if isinstance(given, int | float) and each["loc"][0] != "auth":
            reason += f" (it is {given!r})"
        yield Problem(path.removesuffix(".[key]"), reason)
