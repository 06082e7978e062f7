"""Schema ids from an external registry of Confluent's kind. Used where ``SCHEMA_REGISTRY_URL`` is set."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from schemas.store import load_ids, schema_text

_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_MAX_ANSWER_BYTES: Final = 1024 * 1024


class RegistryError(ValueError):
    """No registry that can be used: it is away, refuses a schema, or answers what is not understood."""


def ids_from_registry(url: str, subjects: Mapping[str, str], *, timeout_s: float = 10.0) -> dict[int, str]:
    """Register every shipped schema under its subjects; the registry's ids, as ``schemas.codec.use_ids`` takes them.

    ``url`` may hold a user and password. ``subjects`` gives each subject's record: ``{"orders-value": "TaskReady"}``.
    Registering a schema that is there already changes nothing and gives its id, so every program may do it at start.
    Raises ``RegistryError`` for a registry that cannot be reached or refuses, ``ValueError`` for an unknown record.
    """
    versions: dict[str, list[tuple[str, str]]] = {}
    for versioned in load_ids().values():
        text = schema_text(versioned)
        versions.setdefault(json.loads(text)["name"], []).append((versioned, text))
    ids: dict[int, str] = {}
    for subject, record in subjects.items():
        if record not in versions:
            raise ValueError(f"subject {subject}: no record {record!r}; known are {', '.join(versions)}")
        for versioned, text in versions[record]:
            number = _register(url, subject, text, timeout_s)
            if ids.setdefault(number, versioned) != versioned:
                raise RegistryError(f"{_shown(url)} gives id {number} to {ids[number]} and to {versioned}")
    return ids


def _register(url: str, subject: str, text: str, timeout_s: float) -> int:
    answer = _post(url, f"/subjects/{quote(subject, safe='')}/versions", {"schema": text}, timeout_s)
    number = answer.get("id") if isinstance(answer, dict) else None
    if not isinstance(number, int) or not 0 < number < 2**31:
        raise RegistryError(f"{_shown(url)} gives no schema id for {subject}: is it a schema registry?")
    return number


def _post(url: str, path: str, body: dict[str, str], timeout_s: float) -> Any:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RegistryError(f"{_shown(url)} is no http or https address; correct SCHEMA_REGISTRY_URL")
    headers = {"Content-Type": _MEDIA_TYPE, "Accept": _MEDIA_TYPE}
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(credentials.encode()).decode()}"
    host = parts.netloc.rpartition("@")[2]
    address = urlunsplit((parts.scheme, host, parts.path.rstrip("/") + path, "", ""))
    # The scheme is one of two, checked above.
    request = Request(address, json.dumps(body).encode(), headers)  # noqa: S310
    try:
        with urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            return json.loads(answer.read(_MAX_ANSWER_BYTES))
    except HTTPError as error:
        with error:
            said = error.read(_MAX_ANSWER_BYTES).decode(errors="replace").strip()
        raise RegistryError(f"{_shown(url)} refuses {path} with {error.code}: {said[:500]}") from error
    except (URLError, OSError, ValueError) as error:
        raise RegistryError(
            f"{_shown(url)} cannot be used: {error}; correct SCHEMA_REGISTRY_URL or unset it"
        ) from error


def _shown(url: str) -> str:
    """The address without user and password."""
    parts = urlsplit(url)
    return f"schema registry {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
