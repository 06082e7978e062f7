"""HTTP requests at a given rate, whether or not the earlier ones were answered; raw, so that they cost little."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

_TICK_S: Final = 0.005
MOST_CONNECTIONS: Final = 8000


@dataclass(slots=True)
class Figures:
    """What came of the requests. Latencies in seconds, from when a request was due; ``event_ids`` of those taken.

    ``answers_s`` are from when it was sent: on a busy machine this client itself may be late.
    """

    sent: int = 0
    elapsed_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    answers_s: list[float] = field(default_factory=list)
    event_ids: list[str] = field(default_factory=list)
    broken: int = 0


def share_s(seconds: Sequence[float], share: float) -> float:
    """What this share of the times has at most; 0 where there are none."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class _Connection(asyncio.Protocol):
    """A connection with one request under way at a time. Answers have a ``Content-Length``, as ours do."""

    def __init__(self, figures: Figures, free: Callable[["_Connection"], None]) -> None:
        self._figures = figures
        self._free = free
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._due = 0.0
        self._sent = 0.0
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at a time of the loop."""
        assert self._transport is not None
        self.busy, self._due, self._buffer = True, due, b""
        self._sent = asyncio.get_running_loop().time()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lowered = head.lower()
        begin = lowered.index(b"content-length:") + len(b"content-length:")
        length = int(lowered[begin:].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        status = int(head[9:12])
        self._figures.statuses[status] += 1
        now = asyncio.get_running_loop().time()
        self._figures.latencies_s.append(now - self._due)
        self._figures.answers_s.append(now - self._sent)
        if status == 202:
            self._figures.event_ids.append(orjson.loads(body)["event_id"])
        self.busy = False
        self._free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._figures.broken += self.busy
        self.busy = False
        self._transport = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Pool:
    """Connections, opened as they are needed."""

    def __init__(self, host: str, port: int, figures: Figures) -> None:
        self._place = host, port
        self._figures = figures
        self._free: list[_Connection] = []
        self.connections: list[_Connection] = []

    async def send(self, request: bytes, due: float) -> None:
        """Send by a free connection, or by a new one."""
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                connection.send(request, due)
                return
        if len(self.connections) >= MOST_CONNECTIONS:
            raise RuntimeError(f"{MOST_CONNECTIONS} requests are unanswered: the door does not keep up")
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._figures, self._free.append), *self._place
        )
        self.connections.append(connection)
        connection.send(request, due)


async def closed_loop(host: str, port: int, request: bytes, connections: int, for_s: float) -> Figures:
    """So many clients, each of which sends its next request when it has its answer: what the door can do."""
    loop, figures = asyncio.get_running_loop(), Figures()
    begin = loop.time()

    def again(connection: _Connection) -> None:
        if loop.time() - begin < for_s:
            figures.sent += 1
            connection.send(request, loop.time())
        else:
            connection.close()

    made = [await loop.create_connection(lambda: _Connection(figures, again), host, port) for _ in range(connections)]
    for _, connection in made:
        again(connection)
    while any(connection.is_open for _, connection in made):
        await asyncio.sleep(0.05)
    figures.elapsed_s = loop.time() - begin
    return figures


async def open_loop(host: str, port: int, request: bytes, rate_per_s: float, for_s: float, answer_s: float) -> Figures:
    """So many requests a second for a time; then up to ``answer_s`` for the answers that are missing."""
    loop, figures = asyncio.get_running_loop(), Figures()
    pool = _Pool(host, port, figures)
    begin = loop.time()
    while figures.sent < int(rate_per_s * for_s):
        due_now = min(int((loop.time() - begin) * rate_per_s), int(rate_per_s * for_s))
        while figures.sent < due_now:
            await pool.send(request, begin + figures.sent / rate_per_s)
            figures.sent += 1
        await asyncio.sleep(_TICK_S)
    figures.elapsed_s = loop.time() - begin
    until = loop.time() + answer_s
    while any(each.busy for each in pool.connections) and loop.time() < until:
        await asyncio.sleep(0.05)
    for connection in pool.connections:
        connection.close()
    return figures
