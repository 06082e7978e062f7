"""A vendor on loopback that takes every order as a new one, shows it late, and writes down what it took."""

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

import orjson

SHOWS_AFTER_S: Final = 1.0
"""So long an order is taken and cannot be found."""


class _Server(ThreadingHTTPServer):
    # Else what is sent in a burst is taken later than any handler waits for it.
    request_queue_size = 1024

    def handle_error(self, *_: object) -> None:
        """Nothing: who asked was killed meanwhile."""


class Vendor:
    """A context manager. ``POST /orders`` with a ``reference`` takes an order, ``GET /orders/REFERENCE`` finds it.

    An order takes 0.6 s, and is taken in the middle of that: who dies meanwhile has ordered, or not yet. It is taken
    even where nobody waits for the answer any more. ``taken`` counts the orders by reference, ``looks`` the searches
    by whether they found something.
    """

    takes_s: Final = 0.6

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.looks: Counter[bool] = Counter()
        self._taken_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._requests())
        self._thread = threading.Thread(target=self._server.serve_forever, name="vendor", daemon=True)

    @property
    def url(self) -> str:
        """Address of its orders."""
        return f"http://127.0.0.1:{self._server.server_port}/orders"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, reference: str) -> None:
        """Write an order down."""
        with self._lock:
            self.taken[reference] += 1
            self._taken_at.setdefault(reference, time.monotonic())

    def shows(self, reference: str) -> bool:
        """Whether an order can be found."""
        with self._lock:
            found = time.monotonic() - self._taken_at.get(reference, time.monotonic()) >= SHOWS_AFTER_S
            self.looks[found] += 1
        return found

    def _requests(self) -> type[BaseHTTPRequestHandler]:
        vendor = self

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                reference = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))["reference"]
                time.sleep(vendor.takes_s / 2)
                vendor.take(reference)
                time.sleep(vendor.takes_s / 2)
                self._answer(200, {"reference": reference})

            def do_GET(self) -> None:
                reference = self.path.rpartition("/")[2]
                self._answer(200 if vendor.shows(reference) else 404, {"reference": reference})

            def _answer(self, status: int, body: dict[str, Any]) -> None:
                data = orjson.dumps(body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Nothing: the journal is ``taken``."""

        return Requests
