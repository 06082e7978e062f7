"""Text that PostgreSQL cannot hold is refused or not found; it never reaches the database, nor ends in a 500."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from streams.settings import Settings
from tests.streams.web.test_app import ASKED, Door, opened_door

ODD = ["%00", "a%00b", "%FF", "%ED%A0%80", "%F0%9F", "%25%30%30", "%E2%80%AE"]


@pytest.fixture
async def door(settings: Settings, tmp_path: Path, postgres_database: str) -> AsyncIterator[Door]:
    async with opened_door(settings, tmp_path, postgres_database) as made:
        yield made


@pytest.mark.postgres
@pytest.mark.parametrize("text", ODD)
async def test_odd_text_in_a_path_or_a_query_is_not_found_or_refused(door: Door, text: str) -> None:
    headers = {"Authorization": f"Bearer {door.tokens['operator']}", "Content-Type": "application/json"}
    for method, path in (
        ("GET", f"/v1/events/{text}"),
        ("GET", f"/v1/events/{text}/waiting"),
        ("GET", f"/v1/waiting?after={text}"),
        ("GET", f"/v1/waiting?tenant={text}"),
        ("GET", f"/v1/waiting?tier={text}"),
        ("GET", f"/subjects/{text}/versions"),
        ("GET", f"/subjects/{text}/versions/1"),
        ("GET", f"/schemas/ids/{text}"),
        ("POST", f"/v1/call-backs/k?tenant={text}"),
        ("POST", f"/v1/call-backs/{text}?tenant=none"),
    ):
        url = URL(str(door.client.make_url("/")).rstrip("/") + path, encoded=True)
        async with door.client.session.request(method, url, data=b"{}", headers=headers) as answer:
            status, body = answer.status, await answer.text()
        # A tenant that nobody is has no waiting events.
        assert status in (400, 404, 422) or (path.startswith("/v1/waiting?tenant") and status == 200), (path, body)
    assert door.requests() == []


@pytest.mark.postgres
@pytest.mark.parametrize("field", ["tenant", "endpoint", "event_type", "model", "model_id", "ordering"])
async def test_odd_text_in_a_field_is_refused(door: Door, field: str) -> None:
    asked = ASKED | {"model": "Order", "model_id": "7"} | {field: "a\x00b"}
    assert (await door.post(asked))[0] in (404, 422)
    assert door.requests() == []
