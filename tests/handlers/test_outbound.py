import asyncio
import socket
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from handlers.contract import StreamedResponse
from handlers.outbound import GuardedClient, retry_after_s
from schemas.errors import Permanent, Retryable

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
LOOPBACK = ("127.0.0.0/8",)


class Server:
    """A server on loopback whose answer a test chooses."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self.answer: Answer = self.ok

    async def ok(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.answer(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{port}"
    yield server
    await runner.cleanup()


async def test_the_connection_goes_to_the_address_that_was_checked(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(server.url.rpartition(":")[2])
    answers = iter(["127.0.0.1", "192.168.77.7"])
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *args: object, **named: object) -> object:
        if host != "rebind.example":
            return real(host, *args, **named)  # type: ignore[arg-type]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    async with GuardedClient(LOOPBACK) as client:
        assert (await client.request("GET", f"http://rebind.example:{port}/")).status == 200
    assert asked == ["rebind.example"]


async def test_a_request_is_sent_and_its_answer_read(server: Server) -> None:
    async with GuardedClient(LOOPBACK) as client:
        answer = await client.request("POST", f"{server.url}/a?b=c", json={"x": 1}, headers={"X": "y"})

    assert (answer.status, answer.body) == (200, b'{"ok": true}')
    (request,) = server.requests
    assert (request.method, request.path_qs, server.bodies) == ("POST", "/a?b=c", [b'{"x":1}'])
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X"] == "y"


async def test_a_redirect_is_returned_not_followed(server: Server) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": f"{server.url}/elsewhere"})

    server.answer = redirect
    async with GuardedClient(LOOPBACK) as client:
        assert (await client.request("GET", f"{server.url}/")).status == 302
    assert len(server.requests) == 1


async def test_proxies_of_the_environment_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with GuardedClient(LOOPBACK) as client:
        assert (await client.request("GET", server.url)).status == 200


async def test_cookies_are_not_kept(server: Server) -> None:
    async def cookie(request: web.Request) -> web.StreamResponse:
        return web.Response(headers={"Set-Cookie": "tenant=1"})

    server.answer = cookie
    by_name = server.url.replace("127.0.0.1", "localhost")  # a jar would take none from a bare address
    async with GuardedClient(["localhost"]) as client:
        await client.request("GET", by_name)
        await client.request("GET", by_name)
    assert "Cookie" not in server.requests[1].headers


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_passing_faults_are_retryable_with_the_wait_asked_for(server: Server, status: int) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"retry-after": "17"})

    server.answer = busy
    async with GuardedClient(LOOPBACK) as client:
        with pytest.raises(Retryable, match=str(status)) as caught:
            await client.request("GET", f"{server.url}/x?key=canary")
    assert caught.value.retry_after_s == 17
    assert caught.value.code == f"http_{status}"
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
async def test_other_refusals_are_the_handlers_to_judge(server: Server, status: int) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    server.answer = refuse
    async with GuardedClient(LOOPBACK) as client:
        assert (await client.request("GET", server.url)).status == status


async def test_an_answer_too_large_is_cut_off(server: Server) -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 65536)
            sent += 65536
        return response

    server.answer = flood
    async with GuardedClient(LOOPBACK, body_limit_bytes=100_000) as client:
        with pytest.raises(Permanent, match="more than 100000 bytes"):
            await client.request("GET", server.url)
    assert sent < 1000 * 65536


async def test_silence_and_broken_connections_are_retryable(server: Server) -> None:
    release = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with GuardedClient(LOOPBACK, timeout_s=0.2) as client:
        server.answer = silent
        with pytest.raises(Retryable) as slow:
            await client.request("POST", server.url)
        release.set()
        server.answer = broken
        with pytest.raises(Retryable) as cut:
            await client.request("POST", server.url)
        with pytest.raises(Retryable) as closed:
            await client.request("GET", "http://127.0.0.1:1/")
    assert [each.value.code for each in (slow, cut, closed)] == ["timeout", "connection", "not_connected"]


async def chunk_sizes(answer: StreamedResponse) -> list[int]:
    return [len(chunk) async for chunk in answer.chunks]


async def test_a_large_answer_is_read_piece_by_piece_and_a_break_is_named(server: Server) -> None:
    async def large(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_length = 2 * 1024 * 1024
        await answer.prepare(request)
        await answer.write(b"x" * 1024 * 1024)
        if request.path == "/whole":
            await answer.write(b"x" * 1024 * 1024)
        else:
            assert request.transport is not None
            request.transport.close()
        return answer

    server.answer = large
    async with GuardedClient(LOOPBACK, body_limit_bytes=1024) as client:
        async with client.stream("GET", f"{server.url}/whole") as answer:
            sizes = await chunk_sizes(answer)
        assert (answer.status, sum(sizes)) == (200, 2 * 1024 * 1024)
        assert max(sizes) <= 64 * 1024
        async with client.stream("GET", f"{server.url}/broken") as answer:
            with pytest.raises(Retryable) as broken:
                await chunk_sizes(answer)
    assert broken.value.code == "connection"


async def test_a_request_may_have_a_time_limit_of_its_own(server: Server) -> None:
    release = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    server.answer = silent
    async with GuardedClient(LOOPBACK, timeout_s=60) as client:
        with pytest.raises(Retryable, match=r"0\.1 s"):
            await client.request("POST", server.url, timeout_s=0.1)
    release.set()


async def test_a_header_that_would_split_the_request_is_refused(server: Server) -> None:
    async with GuardedClient(LOOPBACK) as client:
        with pytest.raises(Permanent):
            await client.request("GET", server.url, headers={"X": "a\r\nInjected: 1"})
    assert server.requests == []


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("0", 0), ("120", 120), ("99999999", 86400), ("-5", None), ("soon", None), ("", None), ("²", None)],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value) == seconds


def test_retry_after_as_a_date() -> None:
    now = datetime.now(UTC)
    later = retry_after_s(format_datetime(now + timedelta(minutes=10), usegmt=True))
    assert later is not None
    assert 500 < later <= 600
    assert retry_after_s(format_datetime(now - timedelta(minutes=10), usegmt=True)) == 0


async def test_what_is_logged_of_a_request_has_neither_query_nor_headers(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with GuardedClient(LOOPBACK) as client:
        await client.request("GET", f"{server.url}/orders?key=canary#canary", headers={"Authorization": "canary"})
    (said,) = [record.getMessage() for record in caplog.records if record.name == "handlers.outbound"]
    assert said == "GET http://127.0.0.1/orders was answered 200"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_what_unpacks_to_more_than_the_cap_is_cut_off(server: Server, encoding: str) -> None:
    packed = zlib.compress(b"x" * 50_000_000, wbits=31 if encoding == "gzip" else 15)

    async def bomb(request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed, headers={"Content-Encoding": encoding})

    server.answer = bomb
    tracemalloc.start()
    async with GuardedClient(LOOPBACK, body_limit_bytes=100_000) as client:
        with pytest.raises(Permanent, match="more than 100000 bytes"):
            await client.request("GET", server.url)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10_000_000, "the answer is unpacked piece by piece"
