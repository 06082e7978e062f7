"""What may be asked for: a payload is a JSON object, bounded in bytes and depth; delays are bounded too."""

import math
from typing import Final, Literal, TypeAlias

import orjson

from schemas.limits import MAX_JSON_DEPTH, MAX_PAYLOAD_BYTES

PAYLOAD_LIMIT_BYTES: Final = MAX_PAYLOAD_BYTES
JSON_DEPTH: Final = MAX_JSON_DEPTH
LONGEST_DELAY_S: Final = 365 * 24 * 3600
"""Longest delay of an event, seconds: less than half of what the schedule's topic keeps (R11)."""

Refusal: TypeAlias = Literal[
    "bad_payload",
    "too_large",
    "too_deep",
    "bad_option",
    "unknown_endpoint",
    "foreground_unsupported",
    "inside_transaction",
    "unavailable",
    "failed",
]
"""Why a trigger is not accepted, or (``failed``) how one in the foreground ended; for programs."""


class Refused(ValueError):
    """Something a caller asked for is refused; the message is for people, ``code`` for programs."""

    def __init__(self, code: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def payload_text(payload: object, limit_bytes: int = PAYLOAD_LIMIT_BYTES, name: str = "the payload") -> str:
    """A payload as JSON text. Raises ``Refused`` for what is no object, no JSON, too large or too deep."""
    if not isinstance(payload, dict):
        raise Refused("bad_payload", f"{name} must be a JSON object, not {_json_name(payload)}")
    _check_values(payload, limit_bytes)
    try:
        data = orjson.dumps(payload)
    except (TypeError, ValueError) as error:
        raise Refused("bad_payload", f"the payload does not fit JSON: {error}") from None
    if len(data) > limit_bytes:
        raise _too_large(f"{len(data)}", limit_bytes)
    return data.decode()


def whole_number(name: str, value: object, least: int, most: int) -> int | None:
    """An option that is a whole number within bounds, or absent. Raises ``Refused``."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        unit = " of seconds" if name == "delay" else ""
        raise Refused("bad_option", f"{name} must be a whole number{unit} from {least} to {most}, not {value!r:.80}")
    return value


def one_of(name: str, value: str | None, known: tuple[str, ...]) -> str:
    """An option that is one of these words. Raises ``Refused``."""
    if value not in known:
        raise Refused("bad_option", f"{name} is {value!r}; it must be {' or '.join(known)}")
    return value


def _check_values(payload: object, limit_bytes: int) -> None:
    """Refuse depth, NaN and infinity level by level: a recursive walk would itself fail on deep values."""
    level: list[object] = [payload]
    for _ in range(JSON_DEPTH):
        below: list[object] = []
        for container in level:
            if isinstance(container, dict):
                children: list[object] = list(container.values())
            else:
                children = list(container) if isinstance(container, list | tuple) else []
            for child in children:
                if isinstance(child, float) and not math.isfinite(child):
                    raise Refused("bad_payload", f"the payload holds {child}, which JSON cannot say; leave it out")
            below += [child for child in children if isinstance(child, dict | list | tuple)]
            if len(below) > limit_bytes:
                # Each takes two bytes at least; an object that contains another twice grows without end.
                raise _too_large(f"more than {limit_bytes}", limit_bytes)
        if not below:
            return
        level = below
    raise Refused("too_deep", f"the payload is nested more than {JSON_DEPTH} levels deep")


def _too_large(size: str, limit_bytes: int) -> Refused:
    return Refused("too_large", f"the payload has {size} bytes; at most {limit_bytes} are accepted")


def _json_name(value: object) -> str:
    return {"NoneType": "null", "list": "an array", "str": "text"}.get(type(value).__name__, type(value).__name__)
