"""Fields of a request's JSON: each checked, and refused with its name."""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiohttp import web

from handlers.tenants.tokens import Token
from streams.web.problems import Problem
from topics.keys import model_key_text

LONGEST_TEXT: Final = 200
LONGEST_HOSTNAME: Final = 255
MOST_KEY_PARTS: Final = 10

PRINTABLE: Final = r"^[^\u0000-\u001f\u007f]+$"
"""What texts are made of, as a regular expression: no databases' zero, and nothing that moves a terminal's cursor."""
_PRINTABLE: Final = re.compile(PRINTABLE.encode().decode("unicode_escape"))


def bad(detail: str) -> Problem:
    """The refusal of a value."""
    return Problem(422, "bad_option", detail)


def known_fields(body: Mapping[str, Any], known: Collection[str], required: Collection[str]) -> None:
    """Raise ``Problem`` 422 where a field is unknown, or a required one missing."""
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise Problem(422, "unknown_field", f"unknown field {unknown[0]!r:.80}; known are {', '.join(sorted(known))}")
    missing = [name for name in required if name not in body]
    if missing:
        raise Problem(422, "missing_field", f"the field {missing[0]!r} is missing")


def is_printable(text: str) -> bool:
    """Whether a text holds no control characters, and something."""
    return _PRINTABLE.fullmatch(text) is not None


def event_id_of(request: web.Request) -> str:
    """The event's id in a path. Raises ``Problem`` 404 for what cannot be one, which databases refuse to look for."""
    event_id = request.match_info["event_id"]
    if not is_printable(event_id):
        raise Problem(404, "unknown_event", "no event has an id with control characters")
    return event_id


def text(body: Mapping[str, Any], name: str) -> str | None:
    """A text of 1 to ``LONGEST_TEXT`` characters, or ``None`` where it is null or missing. Raises ``Problem`` 422."""
    value = body.get(name)
    if value is None:
        return None
    if not (isinstance(value, str) and len(value) <= LONGEST_TEXT and is_printable(value)):
        raise bad(f"{name} must be text of 1 to {LONGEST_TEXT} characters, without control characters")
    return value


def number(body: Mapping[str, Any], name: str) -> object:
    """A value as it is, but a whole one as a whole number: JSON does not tell 7.0 from 7."""
    return _whole(body.get(name))


def model_id(body: Mapping[str, Any]) -> str | None:
    """A row's primary key as ``model_key_text`` makes it, of one part or an array. Raises ``Problem`` 422."""
    value = body.get("model_id")
    if value is None:
        return None
    parts = [_whole(each) for each in (value if isinstance(value, list) else [value])]
    if not 0 < len(parts) <= MOST_KEY_PARTS or not all(_is_key_part(each) for each in parts):
        raise bad(f"model_id must be text or a whole number, or an array of 1 to {MOST_KEY_PARTS} of them")
    return model_key_text(*parts)


def tenant_of(body: Mapping[str, Any], token: Token) -> str:
    """The tenant's id or hostname: the body's, else the token's own. Raises ``Problem`` 422."""
    tenant = body.get("tenant")
    if tenant is None:
        tenant = token.tenant_id
    tenant = _whole(tenant)
    if tenant is None:
        raise Problem(422, "missing_field", "the field 'tenant' is missing: an id or a hostname")
    if isinstance(tenant, bool) or not isinstance(tenant, int | str):
        raise bad("tenant must be an id or a hostname")
    name = str(tenant)
    if len(name) > LONGEST_HOSTNAME or not is_printable(name):
        raise bad("tenant must be an id or a hostname")
    return name


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_key_part(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT and is_printable(value)
    return isinstance(value, int) and not isinstance(value, bool)
