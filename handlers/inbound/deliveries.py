"""What an inbound webhook says once its signature holds: its payload, its id, and the provider's name of the event."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from handlers.inbound.schemes import HmacLayout, Scheme
from handlers.inbound.signatures import SignedRequest, content_digest
from handlers.payloads import JSON_DEPTH, Refused
from schemas.limits import check_json_depth

LONGEST_ID: Final = 255
LONGEST_EVENT_TYPE: Final = 200
_MOST_FIELDS: Final = 1000
_FORM: Final = "application/x-www-form-urlencoded"

_ID_HEADERS: Final[Mapping[Scheme, str]] = {
    Scheme.STANDARD: "webhook-id",
    Scheme.GITHUB: "x-github-delivery",
    Scheme.SHOPIFY: "x-shopify-webhook-id",
}
_EVENT_HEADERS: Final[Mapping[Scheme, str]] = {Scheme.GITHUB: "x-github-event", Scheme.SHOPIFY: "x-shopify-topic"}
_EVENT_FIELDS: Final[Mapping[Scheme, str]] = {
    Scheme.STANDARD: "type",
    Scheme.STRIPE: "type",
    Scheme.HMAC: "event_type",
    Scheme.TOKEN: "event_type",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery. ``event_type`` is the provider's, ``None`` where it gives none.

    ``ids``: each stands for this delivery alone, those that a signature covers first; empty: nothing tells a repeat.
    """

    payload: dict[str, Any]
    ids: tuple[str, ...]
    event_type: str | None


class UnknownMediaType(ValueError):
    """A body of a kind that this scheme does not have."""


def read_delivery(scheme: Scheme, request: SignedRequest, media_type: str, layout: HmacLayout) -> Delivery:
    """The delivery in a request whose signature holds. ``media_type`` is without parameters, in lower case.

    Raises ``UnknownMediaType``, and ``Refused`` for what is no JSON object, too deep, or has no id though its scheme
    has one.
    """
    payload = _payload(scheme, request.body, media_type)
    return Delivery(payload, _ids(scheme, request, payload, layout), _event_type(scheme, request, payload))


def _payload(scheme: Scheme, body: bytes, media_type: str) -> dict[str, Any]:
    if media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json")):
        return _json_object(body)
    if media_type != _FORM or scheme not in (Scheme.GITHUB, Scheme.HMAC, Scheme.TOKEN):
        raise UnknownMediaType(f"send application/json, not {media_type:.80}")
    fields = _form(body)
    if scheme is Scheme.GITHUB:
        return _json_object(str(fields.get("payload", "")).encode())
    return fields


def _form(body: bytes) -> dict[str, Any]:
    """The fields of a form; one that comes several times is a list."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except (UnicodeDecodeError, ValueError):
        raise Refused("bad_payload", f"the body is no form in UTF-8 with at most {_MOST_FIELDS} fields") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise Refused("bad_payload", f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        check_json_depth(text, JSON_DEPTH)
    except ValueError as error:
        raise Refused("too_deep", str(error)) from None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refused("bad_payload", f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Refused("bad_payload", "the body must be a JSON object")
    return value


def _ids(scheme: Scheme, request: SignedRequest, payload: Mapping[str, Any], layout: HmacLayout) -> tuple[str, ...]:
    if scheme is Scheme.STRIPE:
        return (_checked_id(payload.get("id"), "the field id"),)
    if scheme in _ID_HEADERS:
        return (_checked_id(request.headers.get(_ID_HEADERS[scheme]), f"the header {_ID_HEADERS[scheme]}"),)
    given = request.headers.get(layout.id_header.lower())
    own = () if given is None else (_checked_id(given, f"the header {layout.id_header}"),)
    if scheme is Scheme.TOKEN or layout.signs_id:
        return own
    # An id that is not signed can be replaced: what is signed tells a copy all the same.
    return (f"sha256:{content_digest(request, layout)}", *own)


def _checked_id(value: object, where: str) -> str:
    if isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isascii() and value.isprintable():
        return value
    raise Refused("bad_payload", f"{where} must hold the delivery's id: 1 to {LONGEST_ID} printable ASCII characters")


def _event_type(scheme: Scheme, request: SignedRequest, payload: Mapping[str, Any]) -> str | None:
    header = _EVENT_HEADERS.get(scheme)
    value = request.headers.get(header) if header else payload.get(_EVENT_FIELDS[scheme])
    if isinstance(value, str) and 0 < len(value) <= LONGEST_EVENT_TYPE and value.isprintable():
        return value
    return None
