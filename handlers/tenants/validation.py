"""Everything that can be said of a tenant's configuration before it is stored: its own rules and its plugin's schema.

Reasons never show a value: it may be a secret.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from handlers.contract import PluginManifest
from handlers.registry import PluginRegistry
from handlers.tenants.configuration import (
    ConfigurationError,
    Problem,
    TenantConfiguration,
    parse_configuration,
    read_document,
)

_REASONS: Final[Mapping[str, str]] = {
    "type": "must be of type {}",
    "enum": "must be one of {}",
    "const": "must be {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} entries",
    "maxProperties": "must have at most {} entries",
    "pattern": "must match {}",
    "uniqueItems": "must not list anything twice",
}


def validate(
    document: object, plugins: PluginRegistry, source: str = "the tenant's configuration"
) -> TenantConfiguration:
    """The configuration of a document, checked by its own rules and by the schema of the plugin it names.

    Raises ``ConfigurationError`` with every mistake in it. A plugin that is not installed checks nothing.
    """
    problems: list[Problem] = []
    configuration = None
    try:
        configuration = parse_configuration(document, source)
    except ConfigurationError as error:
        problems += error.problems
    plugin = _plugin(document, plugins)
    if plugin is not None and isinstance(document, dict):
        known = {problem.path for problem in problems}
        problems += [each for each in schema_problems(document, plugin) if each.path not in known]
    if problems or configuration is None:
        raise ConfigurationError(problems, source)
    return configuration


def validate_text(text: str, plugins: PluginRegistry, source: str = "the configuration file") -> TenantConfiguration:
    """The same for a document as people write it: JSON, with comments and trailing commas allowed."""
    return validate(read_document(text, source), plugins, source)


def schema_problems(document: Mapping[str, Any], plugin: PluginManifest) -> list[Problem]:
    """Where a document does not meet the plugin's schema, by path."""
    try:
        Draft202012Validator.check_schema(plugin.config_schema)
        # A schema is complete in itself: nothing is fetched because it names an address.
        validator = Draft202012Validator(plugin.config_schema, registry=Registry())
        return sorted({each for error in validator.iter_errors(document) for each in _problems(error)})
    except SchemaError as error:
        reason = f"the schema is wrong at {error.json_path}"
    except Unresolvable as error:
        reason = f"the schema refers to {error.ref}, which is not in it"
    return [Problem("", f"plugin {plugin.id} {plugin.version} cannot check this configuration: {reason}")]


def _plugin(document: object, plugins: PluginRegistry) -> PluginManifest | None:
    if not isinstance(document, dict):
        return None
    names = (document.get("plugin_route_prefix"), document.get("plugin_name"))
    return next((found for name in names if isinstance(name, str) and (found := plugins.find(name))), None)


def _problems(error: ValidationError) -> Iterator[Problem]:
    path = ""
    for part in error.absolute_path:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    keyword, wanted = str(error.validator), error.validator_value
    inside = _INSIDE.get(keyword)
    if inside is not None:
        yield from (Problem(f"{path}.{name}" if path else name, reason) for name, reason in inside(error))
    elif keyword in _REASONS:
        shown = ", ".join(map(str, wanted)) if isinstance(wanted, list) else str(wanted)
        yield Problem(path, _REASONS[keyword].format(shown))
    else:
        yield Problem(path, f"does not meet the plugin's schema ({keyword})")


def _missing(error: ValidationError) -> Iterator[tuple[str, str]]:
    given: Any = error.instance
    wanted: Any = error.validator_value
    return ((str(name), "is missing") for name in wanted if name not in given)


def _unknown(error: ValidationError) -> Iterator[tuple[str, str]]:
    allowed = error.schema.get("properties", {}) if isinstance(error.schema, Mapping) else {}
    given: Any = error.instance
    return ((str(name), "is not allowed here") for name in given if name not in allowed)


_INSIDE: Final[Mapping[str, Callable[[ValidationError], Iterator[tuple[str, str]]]]] = {
    "required": _missing,
    "additionalProperties": _unknown,
}
