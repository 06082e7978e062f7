"""Payloads on the command line: JSON, or the name of a file with it; and what becomes of a request with one."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import orjson

from handlers.loading import PluginLoadError
from handlers.service import TriggerResult
from handlers.tenants.repository import TenantsUnavailable
from schemas.limits import check_json_depth
from streams.errors import SetupError

_READ_AT_MOST: Final = 4
"""Times the payload's limit that is read of a file: blanks between the JSON's parts do not count."""


def read_payload(text: str, limit_bytes: int) -> Any:
    """The JSON value of the option. Raises ``SetupError`` for what cannot be read or is no JSON."""
    if text.startswith("@"):
        text = _read_file(text[1:], limit_bytes * _READ_AT_MOST)
    try:
        check_json_depth(text)
        return orjson.loads(text)
    except ValueError as error:
        raise SetupError(f"The payload is no usable JSON: {error}.", "Give an object such as '{\"id\": 7}'.") from error


def accepted_id(ask: Callable[[], TriggerResult], told: str) -> str:
    """Id of what ``ask`` puts into the outbox. Raises ``SetupError`` for what is refused: it is not ``told``."""
    try:
        result = ask()
    except PluginLoadError as error:
        raise SetupError(f"Not {told}: {error}.", "See `webhook tenants list` and `webhook tenants show`.") from error
    except TenantsUnavailable as error:
        raise SetupError(f"Not {told}: {error}.", "Try again when the database is back.") from error
    if result.event_id is None:
        raise SetupError(f"Not {told} ({result.code}): {result.reason}.", "Correct it and try again.")
    return result.event_id


def _read_file(name: str, most: int) -> str:
    try:
        if name == "-":
            data = sys.stdin.buffer.read(most + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(most + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"The payload cannot be read from {name}: {error}.", "Give --payload @FILE or @-.") from error
    if len(data) > most:
        raise SetupError(f"The payload in {name} is larger than {most} bytes.", "Send less, or a reference to it.")
    return text
