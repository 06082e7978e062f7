"""The embedded broker: librdkafka's mock cluster in this process, so that nothing has to be installed.

It keeps 5 MiB per partition and drops the oldest silently, forgets everything when the process ends, and takes one
member per consumer group. What that asks of producers and of a start is in R21 and R22.
"""

import ctypes
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import confluent_kafka

from streams.errors import SetupError
from streams.settings import Settings
from topics.catalogue import Catalogue

FETCH_WAIT_MS: Final = 20
"""Longest wait of a fetch: the mock answers an empty one only after all of it, and wakes nobody earlier."""

LINGER_MS: Final = 0
"""A request costs nothing here, and an event's records wait for each other: accepted, task, intent, outcome."""

SESSION_TIMEOUT_S: Final = 6.0
"""Shortest session timeout the settings take: a member that joins again waits for all of it."""

_EPOCHS: Final[dict[str, str]] = {}
"""Epochs of the brokers that run in this process, by address."""

_LIBRARIES: Final = (
    "confluent_kafka.libs/librdkafka-*.so*",
    "confluent_kafka/.dylibs/librdkafka*.dylib",
    "confluent_kafka.libs/librdkafka-*.dll",
)
_PRODUCER: Final = 0
_ERROR_TEXT_BYTES: Final = 512
_REBALANCE_DELAY_MS: Final = 50
_KNOCK_S: Final = 0.005


class EmbeddedBroker:
    """One mock cluster with every topic of a catalogue; it lives from ``__enter__`` to ``__exit__``.

    ``bootstrap_servers`` is its address on loopback, ``epoch`` the identity of its log: another one each start (R20).
    """

    def __init__(self, catalogue: Catalogue, brokers: int = 1) -> None:
        self.catalogue = catalogue
        self.epoch = f"embedded-{uuid.uuid4()}"
        self.bootstrap_servers = ""
        self._brokers = brokers
        self._client: int | None = None
        self._cluster: int | None = None

    def __enter__(self) -> Self:
        library = _library()
        text = ctypes.create_string_buffer(_ERROR_TEXT_BYTES)
        configuration = library.rd_kafka_conf_new()
        # The client behind the cluster never connects anywhere; its own log lines would only puzzle.
        library.rd_kafka_conf_set(configuration, b"log_level", b"0", text, _ERROR_TEXT_BYTES)
        self._client = library.rd_kafka_new(_PRODUCER, configuration, text, _ERROR_TEXT_BYTES)
        if not self._client:
            raise SetupError(f"The embedded broker did not start: {text.value.decode()}.")
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, self._brokers)
        if not self._cluster:
            self.close()
            raise SetupError("The embedded broker did not start: no port on loopback.")
        self.bootstrap_servers = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, _REBALANCE_DELAY_MS)
        with _kept_awake(self.bootstrap_servers):
            for spec in self.catalogue.specs.values():
                self.create_topic(spec.name, spec.partitions)
        _EPOCHS[self.bootstrap_servers] = self.epoch
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the cluster; everything in it is forgotten. May be called twice."""
        library = _library()
        _EPOCHS.pop(self.bootstrap_servers, None)
        if self._cluster:
            library.rd_kafka_mock_cluster_destroy(self._cluster)
        if self._client:
            library.rd_kafka_destroy(self._client)
        self._cluster = self._client = None

    def settings(self, base: Settings) -> Settings:
        """``base``, pointed at this broker and with the waits that suit it."""
        return base.model_copy(update={"bootstrap_servers": self.bootstrap_servers, **embedded_waits()})

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic; its number of partitions cannot change later. Raises ``SetupError`` where it exists."""
        code = _library().rd_kafka_mock_topic_create(self._running(), name.encode(), partitions, 1)
        if code:
            raise SetupError(f"The embedded broker refused topic {name!r} (librdkafka error {code}).")

    def inject_errors(self, api_key: int, codes: Sequence[int]) -> None:
        """Answer the next requests of a kind with these error codes, one each; for tests.

        ``api_key`` is the protocol's number of the request (0 Produce, 1 Fetch, 8 OffsetCommit), ``codes`` are the
        protocol's error codes, 0 for none.
        """
        array = (ctypes.c_int * len(codes))(*codes)
        _library().rd_kafka_mock_push_request_errors_array(self._running(), api_key, len(codes), array)

    def set_down(self, broker: int = 1) -> None:
        """Close a broker's connections and refuse new ones, until ``set_up``; brokers count from 1."""
        _library().rd_kafka_mock_broker_set_down(self._running(), broker)

    def set_up(self, broker: int = 1) -> None:
        """Accept connections again; what was written before is still there."""
        _library().rd_kafka_mock_broker_set_up(self._running(), broker)

    def _running(self) -> int:
        if self._cluster is None:
            raise RuntimeError("the embedded broker is used outside its `with` block")
        return self._cluster


def running_epoch(bootstrap_servers: str | None) -> str | None:
    """Epoch of the embedded broker at this address, where it runs in this process."""
    return _EPOCHS.get(bootstrap_servers or "")


def embedded_waits() -> dict[str, object]:
    """Settings that differ on the embedded broker: see the constants of their names."""
    return {"fetch_wait_ms": FETCH_WAIT_MS, "linger_ms": LINGER_MS, "session_timeout_s": SESSION_TIMEOUT_S}


@contextmanager
def _kept_awake(bootstrap_servers: str) -> Iterator[None]:
    """Knock at the broker's door all the while.

    Its thread can miss an order and sleep on for a second; any connection wakes it. Nineteen topics took up to three
    seconds without, a tenth of a second with it.
    """
    host, port = bootstrap_servers.split(",")[0].rsplit(":", 1)
    done = threading.Event()

    def knock() -> None:
        while not done.wait(_KNOCK_S):
            with suppress(OSError):  # a door that does not open makes the start no slower than it was
                socket.create_connection((host, int(port))).close()

    thread = threading.Thread(target=knock, name="embedded-broker-knock")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@cache
def _library() -> ctypes.CDLL:
    """The librdkafka that confluent-kafka brought along, with the signatures of the functions used here."""
    packages = Path(confluent_kafka.__file__).parent.parent
    found = [path for pattern in _LIBRARIES for path in packages.glob(pattern)]
    if not found:
        raise SetupError(
            f"No librdkafka beside confluent-kafka in {packages}: it was not installed from a wheel.",
            "Install the wheel of confluent-kafka, or set WEBHOOK_BOOTSTRAP_SERVERS to a Kafka broker.",
        )
    library = ctypes.CDLL(str(found[0]))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    signatures: dict[str, tuple[object, list[object]]] = {
        "rd_kafka_conf_new": (pointer, []),
        "rd_kafka_conf_set": (ctypes.c_int, [pointer, text, text, text, ctypes.c_size_t]),
        "rd_kafka_new": (pointer, [ctypes.c_int, pointer, text, ctypes.c_size_t]),
        "rd_kafka_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_new": (pointer, [pointer, ctypes.c_int]),
        "rd_kafka_mock_cluster_destroy": (None, [pointer]),
        "rd_kafka_mock_cluster_bootstraps": (text, [pointer]),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_topic_create": (ctypes.c_int, [pointer, text, ctypes.c_int, ctypes.c_int]),
        "rd_kafka_mock_push_request_errors_array": (None, [pointer, ctypes.c_int16, ctypes.c_size_t, pointer]),
        "rd_kafka_mock_broker_set_down": (ctypes.c_int, [pointer, ctypes.c_int32]),
        "rd_kafka_mock_broker_set_up": (ctypes.c_int, [pointer, ctypes.c_int32]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
