"""The base of the vendors' stand-ins: a server on loopback whose faults can be switched on while it runs.

``/_fake/behaviour`` shows (``GET``) and changes (``PUT``) how it answers, ``/_fake/journal`` shows every order that was
placed and every call-back that was sent, ``PUT /_fake/orders/{number}`` gives an order another status.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from uuid import uuid4

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

Answer: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

FAULTS: Final = ("none", "error", "rate_limit", "reset", "late_error", "stall", "lost", "garbage")
"""What a call can meet. The first four have no effect at the fake, the others strike when the call has had its effect:
500 afterwards, an answer held back for ``stall_s``, a connection cut, an answer that is no JSON."""
_EARLY: Final = frozenset({"none", "error", "rate_limit", "reset"})


@dataclass(slots=True)
class Behaviour:
    """How the fake answers; change it at any time, or ``PUT`` fields to ``/_fake/behaviour``.

    ``delay_s``: wait before each answer. ``processed_after_s``: how long a new order stays hidden. ``fail_next``: so
    many calls are answered with ``fail_status`` (and ``Retry-After``, if set) before any effect. ``lose_next``: so many
    orders are placed and the connection then cut. ``faults``: one of ``FAULTS`` for each of the next calls, over and
    over with ``repeat_faults``. ``stall_s``: how long a stall lasts. ``rate_per_s``: calls a second, 429 beyond.
    ``callbacks``: how often each call-back is sent. ``secret``: credentials other than this are refused.
    ``honours_key``: an ``Idempotency-Key`` seen before places nothing, which neither vendor documents.
    ``combinations_bytes``: size of the list of combinations, where the vendor has one.
    """

    delay_s: float = 0.0
    processed_after_s: float = 0.0
    fail_next: int = 0
    fail_status: int = 503
    retry_after_s: int | None = None
    lose_next: int = 0
    faults: list[str] = field(default_factory=list)
    repeat_faults: bool = False
    stall_s: float = 120.0
    rate_per_s: int | None = None
    callbacks: int = 1
    secret: str | None = None
    honours_key: bool = False
    combinations_bytes: int = 0

    def next_fault(self) -> str:
        """The fault of the next call."""
        if not self.faults:
            return "none"
        fault = self.faults.pop(0)
        if self.repeat_faults:
            self.faults.append(fault)
        return fault


@dataclass(slots=True)
class PlacedOrder:
    """One order of the journal. ``calls`` counts how often it was asked for; ``placed_at`` is in monotonic seconds."""

    key: str
    uuid: str
    number: int
    order: dict[str, Any]
    placed_at: float
    date: str
    status: str
    calls: int = 1


class FakeApi(ABC):
    """A vendor's stand-in, an asynchronous context manager: inside it, ``url`` is what ``auth.url`` has to be.

    ``journal`` holds the placed orders by idempotency key, ``called_back`` the call-backs in order.
    """

    path = ""
    first_number = 600000

    def __init__(self, host: str = "127.0.0.1", port: int = 0, behaviour: Behaviour | None = None) -> None:
        self.host = host
        self.port = port
        self.behaviour = behaviour or Behaviour()
        self.journal: dict[str, PlacedOrder] = {}
        self.called_back: list[dict[str, Any]] = []
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._window = (0, 0)

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://{self.host}:{self.port}{self.path}"

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    def application(self) -> web.Application:
        """The fake as an aiohttp application."""
        app = web.Application(client_max_size=1024 * 1024, middlewares=[self._misbehave])
        app.add_routes(
            [
                *self.routes(),
                web.get("/_fake/journal", self._show_journal),
                web.get("/_fake/behaviour", self._change),
                web.put("/_fake/behaviour", self._change),
                web.put("/_fake/orders/{number}", self._set_status),
            ]
        )
        return app

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """The vendor's own paths."""

    @abstractmethod
    def refusal(self, request: web.Request) -> web.Response | None:
        """The vendor's answer to a call without the right credentials."""

    @abstractmethod
    def status_changed(self, placed: PlacedOrder) -> None:
        """Send the vendor's call-backs about an order's new status."""

    def place(self, request: web.Request, order: dict[str, Any], status: str) -> PlacedOrder:
        """Put an order into the journal, or find it there by its key where the fake honours keys."""
        key = request.headers.get("Idempotency-Key") or f"none-{uuid4()}"
        known = self.journal.get(key)
        if known is not None and self.behaviour.honours_key:
            known.calls += 1
            return known
        now = datetime.now(UTC).isoformat(timespec="seconds")
        number = self.first_number + len(self.journal)
        placed = PlacedOrder(key, str(uuid4()), number, order, time.monotonic(), now, status)
        self.journal[key if known is None else f"{key}-{placed.uuid}"] = placed
        return placed

    def shown(self) -> list[PlacedOrder]:
        """The orders that the vendor's lists show by now, the newest first."""
        return [placed for placed in reversed(self.journal.values()) if self.processed(placed)]

    def processed(self, placed: PlacedOrder) -> bool:
        """Whether the vendor is done with taking in an order."""
        return time.monotonic() - placed.placed_at >= self.behaviour.processed_after_s

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something until it ends or the fake does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def call_back(self, url: str, body: dict[str, Any]) -> None:
        """Send a call-back as often as ``callbacks`` says. Only to loopback: no fake calls a real address."""
        if not _loops_back(url):
            self.called_back.append({"url": url, "body": body, "answer": "not sent: only loopback is called"})
            return
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            for _ in range(self.behaviour.callbacks):
                try:
                    async with session.post(url, json=body, allow_redirects=False) as response:
                        answer = str(response.status)
                except (aiohttp.ClientError, TimeoutError) as error:
                    answer = type(error).__name__
                self.called_back.append({"url": url, "body": body, "answer": answer})

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        if request.path.startswith("/_fake/"):
            return await handler(request)
        behaviour = self.behaviour
        if behaviour.delay_s:
            await asyncio.sleep(behaviour.delay_s)
        early = self._without_effect(request)
        if early is not None:
            return early
        fault = behaviour.next_fault()
        if fault in _EARLY and fault != "none":
            return self._early(request, fault)
        refused = self.refusal(request)
        response = refused or await handler(request)
        if behaviour.lose_next > 0 and request.method == "POST" and request.path.endswith("/orders"):
            behaviour.lose_next -= 1
            fault = "lost"
        return await self._late(request, fault, response)

    def _without_effect(self, request: web.Request) -> web.Response | None:
        behaviour = self.behaviour
        if behaviour.fail_next > 0:
            behaviour.fail_next -= 1
            headers = {} if behaviour.retry_after_s is None else {"Retry-After": str(behaviour.retry_after_s)}
            return web.json_response({"message": "switched-on fault"}, status=behaviour.fail_status, headers=headers)
        if behaviour.rate_per_s is not None:
            second, calls = self._window
            now = int(time.monotonic())
            self._window = (now, calls + 1 if now == second else 1)
            if self._window[1] > behaviour.rate_per_s:
                return self._early(request, "rate_limit")
        return None

    def _early(self, request: web.Request, fault: str) -> web.Response:
        if fault == "reset" and request.transport is not None:
            request.transport.abort()
        if fault == "rate_limit":
            after = self.behaviour.retry_after_s
            headers = {"Retry-After": str(1 if after is None else after)}
            return web.json_response({"message": "Too many requests"}, status=429, headers=headers)
        return web.json_response({"message": "Internal server error"}, status=500)

    async def _late(self, request: web.Request, fault: str, response: web.StreamResponse) -> web.StreamResponse:
        if fault == "stall":
            await asyncio.sleep(self.behaviour.stall_s)
        if fault == "lost" and request.transport is not None:
            request.transport.abort()
        if fault == "garbage":
            return web.Response(text="<html>It works!", content_type="application/json")
        return web.json_response({"message": "late error"}, status=500) if fault == "late_error" else response

    async def _show_journal(self, request: web.Request) -> web.Response:
        orders = [asdict(placed) for placed in self.journal.values()]
        return web.json_response({"orders": orders, "called_back": self.called_back})

    async def _change(self, request: web.Request) -> web.Response:
        known = {each.name for each in fields(Behaviour)}
        changes = await body_of(request) if request.method == "PUT" else {}
        if not changes.keys() <= known:
            return web.json_response({"message": f"known are {sorted(known)}"}, status=400)
        if not set(changes.get("faults", ())) <= set(FAULTS):
            return web.json_response({"message": f"known faults are {list(FAULTS)}"}, status=400)
        self.behaviour = Behaviour(**{**asdict(self.behaviour), **changes})
        return web.json_response(asdict(self.behaviour))

    async def _set_status(self, request: web.Request) -> web.Response:
        number = request.match_info["number"]
        placed = next((each for each in self.journal.values() if number in (str(each.number), each.uuid)), None)
        if placed is None:
            return web.json_response({"message": "no such order"}, status=404)
        placed.status = str((await body_of(request)).get("status", placed.status))
        self.status_changed(placed)
        return web.json_response(asdict(placed))


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request; anything else is answered with 400."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text='{"message": "a JSON object is wanted"}', content_type="application/json")
    return body


def _loops_back(url: str) -> bool:
    host = URL(url).host or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
