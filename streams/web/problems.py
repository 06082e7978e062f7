"""Answers that are no success: RFC 9457 problem documents, and the one place where a request's errors become them."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import orjson
import structlog
from aiohttp import web
from sqlalchemy.exc import SQLAlchemyError

from schemas.errors import Retryable

_log = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 2
UNAVAILABLE: Final = "nothing can be stored now, so nothing was accepted; try again"
PROBLEM_TYPE: Final = "application/problem+json"


class Problem(Exception):
    """Something a caller can mend, or should wait for. ``code`` is for programs, ``detail`` for people."""

    def __init__(self, status: int, code: str, detail: str, *, retry_after_s: int = RETRY_AFTER_S) -> None:
        """``retry_after_s`` is told with 429 and 503."""
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


def problem_response(status: int, code: str, detail: str, retry_after_s: int = RETRY_AFTER_S) -> web.Response:
    """``{"type", "title", "status", "code", "detail"}``, with ``Retry-After`` and ``WWW-Authenticate`` where due."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    headers: dict[str, str] = {}
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = str(retry_after_s)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(body=orjson.dumps(body), status=status, content_type=PROBLEM_TYPE, headers=headers)


@web.middleware
async def answer_problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn whatever a handler raises into a problem document; nothing of the inside reaches the caller."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem_response(problem.status, problem.code, str(problem), problem.retry_after_s)
    except web.HTTPRequestEntityTooLarge:
        limit = request.app[BODY_LIMIT_BYTES]
        return problem_response(413, "too_large", f"the body is larger than {limit} bytes")
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        answer = problem_response(error.status, "http", f"{request.method} {request.path}: {error.reason}")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except (Retryable, SQLAlchemyError) as error:
        _log.warning("a request could not be served", path=_place(request), error=str(error))
        return problem_response(503, "unavailable", UNAVAILABLE)
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - the HTTP door's one place for what nobody foresaw
        _log.exception("a request failed", method=request.method, path=_place(request), error=str(error))
        return problem_response(500, "internal", "this request failed here; the log of the server says why")


def _place(request: web.Request) -> str:
    """Which route a request was for, without what stands in its place: an address may hold a secret."""
    resource = request.match_info.route.resource
    return request.method if resource is None else resource.canonical


BODY_LIMIT_BYTES: Final = web.AppKey("body_limit_bytes", int)
