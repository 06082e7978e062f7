import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from handlers.contract import Context, HttpResponse, StreamedResponse


class Recorder:
    """Keeps the headers it was asked to send."""

    def __init__(self) -> None:
        self.sent: list[dict[str, str]] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> HttpResponse:
        self.sent.append(dict(headers or {}))
        return HttpResponse(200, {}, b"")

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
        self.sent.append(dict(headers or {}))
        yield StreamedResponse(200, {}, no_chunks())


async def no_chunks() -> AsyncIterator[bytes]:
    return
    yield


def context(client: Recorder, traceparent: str | None = None) -> Context:
    return Context(
        tenant_id="1",
        event_id="e",
        event_type="order_created",
        endpoint="webhook/order",
        run=1,
        step=0,
        attempt=1,
        idempotency_key="key-1",
        config={},
        http=client,
        log=logging.LoggerAdapter(logging.getLogger("test"), {}),
        traceparent=traceparent,
    )


async def test_every_request_of_a_handler_carries_the_tasks_headers_whatever_it_sets_itself() -> None:
    client = Recorder()
    await context(client).http.request("GET", "http://x/", headers={"Idempotency-Key": "forged", "X": "y"})
    async with context(client).http.stream("GET", "http://x/"):
        pass
    await context(client, "00-a-b-01").http.request("GET", "http://x/")
    assert client.sent == [
        {"Idempotency-Key": "key-1", "X": "y"},
        {"Idempotency-Key": "key-1"},
        {"Idempotency-Key": "key-1", "traceparent": "00-a-b-01"},
    ]


async def test_a_copied_context_sends_its_own_key() -> None:
    client = Recorder()
    await replace(context(client), idempotency_key="key-2").http.request("GET", "http://x/")
    assert client.sent == [{"Idempotency-Key": "key-2"}]


def test_a_step_sees_the_result_of_the_one_before() -> None:
    first = context(Recorder())
    assert first.previous_step_result is None
    assert replace(first, results=[{"a": 1}, {"b": 2}]).previous_step_result == {"b": 2}


def test_a_context_in_a_message_does_not_show_the_configuration() -> None:
    shown = repr(replace(context(Recorder()), config={"auth": {"secret": "canary"}}))
    assert "Context(" in shown
    assert "canary" not in shown
