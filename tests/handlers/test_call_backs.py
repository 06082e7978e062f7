"""A call-back as a request: what it says, what is refused, and saying the same again."""

from uuid import UUID

import orjson
import pytest

from handlers.loading import UnknownTenant
from handlers.registry import PluginRegistry
from handlers.service import Accepted, PluginService
from handlers.tenants.repository import MemoryTenantRepository
from schemas.errors import Retryable
from schemas.events import WebhookRequested
from schemas.limits import MAX_STEP_RESULT_BYTES
from tests.handlers.examples import small


class Sink:
    """Keeps what it is given, or is away."""

    def __init__(self) -> None:
        self.requests: list[WebhookRequested] = []
        self.away = False

    def accept(self, request: WebhookRequested) -> Accepted:
        if self.away:
            raise Retryable("the database is away")
        self.requests.append(request)
        return Accepted(request.event_id)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def service(sink: Sink) -> PluginService:
    tenants = MemoryTenantRepository()
    tenants.create("Acme", small(), ["acme.example"])
    # No plugin is needed: the handler that waits has done its part.
    return PluginService(tenants, PluginRegistry({}), sink)


def test_a_call_back_is_a_request_with_its_key(service: PluginService, sink: Sink) -> None:
    result = service.call_back("acme.example", "order-7", {"paid": True}, requested_by="vendor")
    [request] = sink.requests
    assert result.event_id == request.event_id
    assert UUID(request.event_id).version == 7
    assert (request.tenant_id, request.trigger, request.options) == ("1", "call_back", {"key": "order-7"})
    assert (orjson.loads(request.payload), request.requested_by) == ({"paid": True}, "vendor")


def test_a_caller_without_an_answer_says_the_same_again(service: PluginService, sink: Sink) -> None:
    for _ in range(2):
        assert service.call_back(1, "k", {}, call_back_id="0199-c").event_id == "0199-c"
    assert [request.event_id for request in sink.requests] == ["0199-c"] * 2


@pytest.mark.parametrize(
    ("key", "payload", "code"),
    [
        ("", {}, "bad_option"),
        ("k" * 201, {}, "bad_option"),
        ("a\x00b", {}, "bad_option"),
        ("line\n", {}, "bad_option"),
        (7, {}, "bad_option"),
        ("k", [1], "bad_payload"),
        ("k", {"x": float("nan")}, "bad_payload"),
        ("k", {"x": "y" * MAX_STEP_RESULT_BYTES}, "too_large"),
    ],
)
def test_what_is_refused_leaves_nothing(
    service: PluginService, sink: Sink, key: object, payload: object, code: str
) -> None:
    result = service.call_back(1, key, payload)
    assert (bool(result), result.code, sink.requests) == (False, code, [])
    assert result.reason


def test_without_its_database_nothing_is_recorded(service: PluginService, sink: Sink) -> None:
    sink.away = True
    assert service.call_back(1, "k", {}).code == "unavailable"
    with pytest.raises(UnknownTenant):
        service.call_back(9, "k", {})
