"""A network between a role and the brokers that can be slow, cut, or dead: a proxy, and a network namespace."""

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Coroutine
from typing import Any, Final

_PIECE: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards TCP connections on loopback from ``port`` to ``target``. Runs in a thread of its own until ``close``."""

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.delay_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def hold(self) -> None:
        """Forward nothing more and tell nobody: connections are half-open."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def go_on(self) -> None:
        """Forward again, what was held back too."""
        self._loop.call_soon_threadsafe(self._open.set)

    def reset(self) -> None:
        """Break every connection off with a reset."""
        self._run(self._reset())

    def close(self) -> None:
        """Break everything off and end."""
        self._server.close()
        self.reset()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _reset(self) -> None:
        for writer in list(self._writers):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers -= {writer, far_writer}
            writer.close()
            far_writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError


class Namespace:
    """A network of its own for processes, joined to this machine by one cable. Needs root."""

    def __init__(self) -> None:
        self.name = f"webhook{os.getpid()}"
        self._cable = f"wh{os.getpid()}"
        self.host_address = "10.213.77.1"
        own = "10.213.77.2"
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self._cable, "type", "veth", "peer", "name", "inside", "netns", self.name)
            _ip("address", "add", f"{self.host_address}/30", "dev", self._cable)
            _ip("link", "set", self._cable, "up")
            for command in (
                ("address", "add", f"{own}/30", "dev", "inside"),
                ("link", "set", "inside", "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-n", self.name, *command)
        except subprocess.CalledProcessError:
            self.close()
            raise

    @property
    def prefix(self) -> tuple[str, ...]:
        """Command that runs another one inside."""
        return ("ip", "netns", "exec", self.name)

    def unplug(self) -> None:
        """Every packet is lost from now on, in both directions, and no connection hears of it."""
        _ip("link", "set", self._cable, "down")

    def plug(self) -> None:
        """Packets pass again."""
        _ip("link", "set", self._cable, "up")

    def close(self) -> None:
        """Remove it, and the cable with it."""
        _ip("netns", "delete", self.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
