"""The one way out: an HTTP client that reaches public addresses and what the operator allows, nothing else.

Every address a name resolves to is checked, and the connection goes to a checked address: there is no second look-up
that could answer otherwise. Redirects are not followed, proxies of the environment not used, cookies not kept.
"""

import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import TracebackType
from typing import Final, TypeAlias

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from handlers.contract import HttpResponse
from schemas.errors import Permanent, Retryable

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

DENIED: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, cloud metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast tunnels
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        # IPv6: only 2000::/3 is public; of that, not these.
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries an IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
)
_PUBLIC_IPV6: Final = IPv6Network("2000::/3")
_LONGEST_RETRY_AFTER_S: Final = 24 * 3600.0
_CHUNK_BYTES: Final = 64 * 1024


def denied(address: Address) -> bool:
    """Whether the table keeps an address from being reached. An IPv4 address inside an IPv6 one counts as itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return denied(address.ipv4_mapped)
        if address not in _PUBLIC_IPV6:
            return True
    return any(address in network for network in DENIED if network.version == address.version)


class AddressPolicy:
    """Which hosts and addresses may be reached: what is public, and what the operator allows."""

    def __init__(self, allow: Sequence[str] = ()) -> None:
        """``allow``: hosts (``dwd``), addresses or networks (``10.1.0.0/16``) that may be reached though private.

        Raises ``ValueError`` for an entry that is neither.
        """
        self._hosts: set[str] = set()
        self._networks: list[Network] = []
        for entry in allow:
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                if "/" in entry or ":" in entry or not entry.strip("."):
                    raise ValueError(f"outbound_allow: {entry!r} is neither a host nor a network") from None
                self._hosts.add(entry.lower().rstrip("."))

    def permits(self, host: str, address: Address) -> bool:
        """Whether ``address``, to which ``host`` resolved, may be reached."""
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if host.lower().rstrip(".") in self._hosts:
            return True
        return not denied(address) or any(
            address in network for network in self._networks if network.version == address.version
        )

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """Raise ``Permanent`` (code ``address_refused``) if any of the addresses may not be reached."""
        for text in addresses:
            # A scope id (fe80::1%eth0) changes nothing about where an address leads.
            if not self.permits(host, ip_address(text.partition("%")[0])):
                raise Permanent(
                    f"{host} leads to {text}, which is not public; an operator can allow it with "
                    "WEBHOOK_OUTBOUND_ALLOW, a tenant cannot",
                    code="address_refused",
                )


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
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(10.0, timeout_s))
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
        self, method: str, url: str, *, json: object = None, headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """Send a request and read its answer whole; see ``handlers.contract.HttpClient`` for what it raises.

        3xx and 4xx answers other than 429 are returned.
        """
        target = self._target(url)
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        data = None
        if json is not None:
            data = orjson.dumps(json)
            sent.setdefault("Content-Type", "application/json")
        # Query and fragment stay out of messages: they may hold secrets.
        place = f"{method} {target.scheme}://{target.host}{target.raw_path}"
        try:
            async with self._open().request(
                method, target, data=data, headers=sent, allow_redirects=False, timeout=self._timeout
            ) as answer:
                body = await self._read(answer, place)
                answered = HttpResponse(answer.status, answer.headers, body)
        except (aiohttp.InvalidURL, ValueError) as error:
            raise Permanent(f"{place}: the request cannot be sent: {error}", code="bad_address") from None
        except TimeoutError:
            raise Retryable(f"{place}: no answer within {self._timeout.total} s", code="timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable(f"{place}: {type(error).__name__}: {error}", code="connection") from error
        if answered.status == 429 or answered.status >= 500:
            raise Retryable(
                f"{place}: the upstream answered {answered.status}",
                code=f"http_{answered.status}",
                retry_after_s=retry_after_s(answered.headers.get("Retry-After")),
            )
        return answered

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

    async def _read(self, answer: aiohttp.ClientResponse, place: str) -> bytes:
        body = bytearray()
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            body += chunk
            if len(body) > self._body_limit_bytes:
                answer.close()
                raise Permanent(
                    f"{place}: the answer has more than {self._body_limit_bytes} bytes", code="answer_too_large"
                )
        return bytes(body)


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
