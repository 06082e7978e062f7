"""What a request brings: bytes, bounded while they are read, and the JSON in them."""

import asyncio
from typing import Any, Final

import orjson
from aiohttp import web

from schemas.limits import MAX_JSON_DEPTH, check_json_depth
from streams.web.problems import BODY_LIMIT_BYTES, Problem

_ENVELOPE_DEPTH: Final = MAX_JSON_DEPTH + 1
"""A payload may be as deep as payloads may, and lie in an object itself."""

_READ_WITHIN_S: Final = 30.0


async def read_bytes(request: web.Request, limit_bytes: int | None = None) -> bytes:
    """The body, unpacked where it came packed. Raises ``Problem``: 400 408 413.

    ``limit_bytes`` stands in for the application's own limit. What is over it is not kept.
    """
    limit = request.app[BODY_LIMIT_BYTES] if limit_bytes is None else limit_bytes
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    data = bytearray()
    try:
        async with asyncio.timeout(_READ_WITHIN_S):
            async for piece in request.content.iter_any():
                data += piece
                if len(data) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise Problem(408, "too_slow", f"the body did not come within {_READ_WITHIN_S:g} s") from None
    except web.RequestPayloadError as error:
        raise Problem(400, "bad_body", "the body cannot be read: it is cut off, or not packed as it says") from error
    return bytes(data)


async def read_object(request: web.Request) -> dict[str, Any]:
    """The body's JSON object, bounded in size and depth before it is parsed.

    Raises ``Problem``: 400 408 413 415 422.
    """
    require_json(request)
    return parsed_object(await read_bytes(request))


def require_json(request: web.Request) -> None:
    """Raise ``Problem`` 415 for a body that does not say it is JSON."""
    if request.content_type != "application/json":
        raise Problem(415, "media_type", f"send application/json, not {request.content_type}")


def parsed_object(data: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises ``Problem``: 400 422."""
    body = parsed(data, _ENVELOPE_DEPTH)
    if not isinstance(body, dict):
        raise Problem(400, "bad_json", "the body must be a JSON object")
    return body


def parsed(data: bytes, depth: int) -> Any:
    """The JSON in a body, nested at most so deep. Raises ``Problem``: 400 422."""
    try:
        check_json_depth(data.decode(), depth)
        return orjson.loads(data)
    except UnicodeDecodeError as error:
        raise Problem(400, "bad_json", f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    except orjson.JSONDecodeError as error:
        raise Problem(400, "bad_json", f"the body is not JSON: {error}") from error
    except ValueError as error:
        raise Problem(422, "too_deep", str(error)) from error


def _too_large(limit_bytes: int) -> Problem:
    return Problem(413, "too_large", f"the body is larger than {limit_bytes} bytes")
