"""The one way out: an HTTP client that reaches public addresses and what the operator allows, nothing else.

Every address a name resolves to is checked, and the connection goes to a checked address: there is no second look-up
that could answer otherwise. Redirects are not followed, proxies of the environment not used, cookies not kept.
"""

import logging
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from types import TracebackType
from typing import Final

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from handlers.addresses import AddressPolicy
from handlers.contract import HttpResponse, StreamedResponse
from schemas.errors import Permanent, Retryable

_log = logging.getLogger(__name__)

_LONGEST_RETRY_AFTER_S: Final = 24 * 3600.0
_CHUNK_BYTES: Final = 64 * 1024


class _CheckingResolver(AbstractResolver):
    """Resolves as the system does and gives out nothing but checked addresses."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._system.resolve(host, port, family)
        # All must pass, not just one: a name that also leads inside is not to be trusted.
        self._policy.check(host, [each["host"] for each in found])
        return found

    async def close(self) -> None:
        await self._system.close()


class GuardedClient:
    """The client behind ``Context.http``. One serves all tenants of a process; make it inside the event loop.

    ``timeout_s`` bounds a request as a whole, ``body_limit_bytes`` an answer's body.
    """

    def __init__(
        self, allow: Sequence[str] = (), timeout_s: float = 30.0, body_limit_bytes: int = 8 * 1024 * 1024
    ) -> None:
        self._policy = AddressPolicy(allow)
        self._timeout_s = timeout_s
        self._body_limit_bytes = body_limit_bytes
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "GuardedClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> HttpResponse:
        """Send a request and read its answer whole; see ``handlers.contract.HttpClient`` for what it raises.

        3xx and 4xx answers other than 429 are returned.
        """
        async with self.stream(method, url, json=json, headers=headers, timeout_s=timeout_s) as answer:
            body = bytearray()
            async for chunk in answer.chunks:
                body += chunk
                if len(body) > self._body_limit_bytes:
                    raise Permanent(
                        f"{_place(method, URL(url))}: the answer has more than {self._body_limit_bytes} bytes",
                        code="answer_too_large",
                    )
            return HttpResponse(answer.status, answer.headers, bytes(body))

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[StreamedResponse]:
        """See ``handlers.contract.HttpClient``: the time limit covers the body, no limit of size does."""
        target = self._target(url)
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        data = None
        if json is not None:
            data = orjson.dumps(json)
            sent.setdefault("Content-Type", "application/json")
        place = _place(method, target)
        limit_s = timeout_s or self._timeout_s
        timeout = aiohttp.ClientTimeout(total=limit_s, connect=min(10.0, limit_s))
        with _named_faults(place, limit_s):
            answer = await self._open().request(
                method, target, data=data, headers=sent, allow_redirects=False, timeout=timeout
            )
        async with answer:
            _log.debug("%s was answered %d", place, answer.status)
            if answer.status == 429 or answer.status >= 500:
                raise Retryable(
                    f"{place}: the upstream answered {answer.status}; {_advice(answer.status)}",
                    code=f"http_{answer.status}",
                    retry_after_s=retry_after_s(answer.headers.get("Retry-After")),
                )
            yield StreamedResponse(answer.status, answer.headers, _chunks(answer, place, limit_s))

    def _target(self, text: str) -> URL:
        try:
            url = URL(text)
        except (ValueError, TypeError):
            raise Permanent("the address to call is no URL", code="bad_address") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise Permanent("the address to call must be an http or https URL with a host", code="bad_address")
        if url.user is not None or url.password is not None:
            raise Permanent("the address to call must not carry a user name or password", code="bad_address")
        if ":" in url.host or url.host.replace(".", "").isdigit():
            # Written as an address, so no resolver is asked. Other spellings (127.1, 2130706433) end at the same place.
            try:
                ip_address(url.host.partition("%")[0])
            except ValueError:
                raise Permanent(f"{url.host} is neither a name nor an address", code="bad_address") from None
            self._policy.check(url.host, [url.host])
        return url

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=_CheckingResolver(self._policy), limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


def _place(method: str, target: URL) -> str:
    """What a message says of a request; query and fragment stay out of it, they may hold secrets."""
    return f"{method} {target.scheme}://{target.host}{target.raw_path}"


@contextmanager
def _named_faults(place: str, limit_s: float) -> Iterator[None]:
    """Give what the HTTP library raises its place in the pipeline's tree of errors."""
    try:
        yield
    except aiohttp.InvalidURL:
        # Its message has the whole address in it, query included.
        raise Permanent(f"{place}: the request cannot be sent: the address is not valid", code="bad_address") from None
    except ValueError as error:
        raise Permanent(f"{place}: the request cannot be sent: {error}", code="bad_address") from None
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        advice = "it is tried again; if that goes on, check the address in the tenant's configuration"
        raise Retryable(f"{place}: {type(error).__name__}: {error}; {advice}", code="not_connected") from error
    except TimeoutError:
        raise Retryable(f"{place}: no answer within {limit_s} s; {_advice(0)}", code="timeout") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Retryable(f"{place}: {type(error).__name__}: {error}; {_advice(0)}", code="connection") from error


def _advice(status: int) -> str:
    """What a tenant can do about a fault of the upstream."""
    if status == 429:
        return "it is tried again; if that goes on, send less at a time or ask the upstream for a higher limit"
    return "it is tried again; if that goes on, ask the upstream's support, then retry the event"


async def _chunks(answer: aiohttp.ClientResponse, place: str, limit_s: float) -> AsyncIterator[bytes]:
    with _named_faults(place, limit_s):
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            yield chunk


def retry_after_s(value: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, given as seconds or as a date; 0 to one day, ``None`` where unreadable."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        seconds = float(value[:12])
    else:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)
