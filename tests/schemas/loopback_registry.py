"""A small schema registry on loopback: registers schemas, gives one id to each distinct one."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Registry(ThreadingHTTPServer):
    """One id for each distinct schema, as Confluent's registry gives them; refuses what it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.ids: dict[str, int] = {}
        self.subjects: dict[str, list[int]] = {}
        self.credentials: list[str] = []
        self.refuse: tuple[int, bytes] | None = None

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Registry"]:
        """A registry that answers, on a free port."""
        with cls() as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def register(self, subject: str, schema: str) -> int:
        number = self.ids.setdefault(schema, 100 + 7 * len(self.ids))
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number


class _Answers(BaseHTTPRequestHandler):
    server: Registry

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.credentials.append(self.headers.get("Authorization", ""))
        empty, root, subject, versions = self.path.split("/")
        assert (empty, root, versions) == ("", "subjects", "versions")
        if self.server.refuse is not None:
            status, answer = self.server.refuse
        else:
            status, answer = 200, json.dumps({"id": self.server.register(unquote(subject), body["schema"])}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        pass
