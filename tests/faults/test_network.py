"""The proxy does to connections what its methods say."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.faults.network import Proxy
from tests.support.waiting import eventually


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                try:
                    while data := connection.recv(100):
                        connection.sendall(data)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    made = Proxy(echo)
    yield made
    made.close()


def test_it_forwards_in_both_directions(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(b"one")
        assert connection.recv(100) == b"one"


def test_a_held_connection_stays_open_and_silent_until_it_goes_on(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(b"one")
        assert connection.recv(100) == b"one"
        proxy.hold()
        connection.sendall(b"two")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        proxy.go_on()
        connection.settimeout(10)
        assert connection.recv(100) == b"two"


def test_a_reset_is_seen_as_one(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(b"one")
        assert connection.recv(100) == b"one"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            eventually(lambda: connection.recv(100) == b"never")
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(b"again")
        assert connection.recv(100) == b"again"
