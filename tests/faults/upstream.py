"""An upstream over HTTP that answers, or takes calls and never answers; it notes when each call came."""

import asyncio
import contextlib
import threading
import time
from typing import Final

_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Upstream:
    """Listens on ``host``, an address of loopback, in a thread of its own until ``close``."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.calls: list[float] = []
        self._loop = asyncio.new_event_loop()
        self._answers = asyncio.Event()
        self._answers.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="upstream")
        self._thread.start()
        serving = asyncio.start_server(self._serve, host, 0, backlog=2048)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """Where it is called."""
        return f"http://{self.host}:{self.port}/"

    def hang(self) -> None:
        """Take calls and give no answer."""
        self._loop.call_soon_threadsafe(self._answers.clear)

    def answer(self) -> None:
        """Answer at once, those who still wait too."""
        self._loop.call_soon_threadsafe(self._answers.set)

    def close(self) -> None:
        """Break off every connection and end."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.calls.append(time.monotonic())
                await reader.readexactly(_length(head))
                await self._answers.wait()
                writer.write(_ANSWER)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
