"""The HTTP door against its own OpenAPI document: schemathesis makes requests of it, with all of its checks on."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from handlers.service import Outcome
from streams.settings import Settings
from tests.streams.web.test_app import Door, opened_door

CONFIGURATION: Final = Path(__file__).with_name("schemathesis.toml")
EXAMPLES: Final = "6"
LONGEST_S: Final = 170.0


@pytest.fixture
async def door(settings: Settings, tmp_path: Path) -> AsyncIterator[Door]:
    async with opened_door(settings.model_copy(update={"http_token_rate_per_s": 0.0}), tmp_path) as made:
        made.history.outcomes[""] = Outcome("completed", {"uuid": "u"}, None)
        yield made


async def test_no_request_is_answered_in_a_way_that_the_document_does_not_tell(door: Door, tmp_path: Path) -> None:
    """Takes some 15 s: each of the routes gets hundreds of requests, good ones and broken ones."""
    url = str(door.client.make_url("/openapi.json"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", str(CONFIGURATION), "run", url),
        *("--header", f"Authorization: Bearer {door.tokens['bound']}", "--checks", "all"),
        *("--max-examples", EXAMPLES, "--generation-deterministic"),
        *("--suppress-health-check", "all", "--continue-on-failure", "--request-timeout", "60", "--warnings", "off"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), LONGEST_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    # Some went all the way: what is always refused would show little.
    triggers = {request.trigger for request in door.requests()}
    assert {"http", "call_back"} <= triggers


async def test_the_document_tells_of_every_route_and_nothing_else(door: Door) -> None:
    served = {
        (route.method, route.resource.canonical)
        for route in door.client.app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    _, document = await door.get("/openapi.json")
    told = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert served == told
    assert document["openapi"] == "3.1.0"
    names = [operation["operationId"] for each in document["paths"].values() for operation in each.values()]
    assert len(set(names)) == len(names)


async def test_every_problem_that_a_trigger_can_meet_is_told_of(door: Door) -> None:
    _, document = await door.get("/openapi.json")
    answers: dict[str, Any] = document["paths"]["/v1/webhooks"]["post"]["responses"]
    assert {int(status) for status in answers} == {200, 202, 400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503}
    problems = [answer for status, answer in answers.items() if int(status) >= 400]
    assert all(list(answer["content"]) == ["application/problem+json"] for answer in problems)
    assert "Retry-After" in answers["429"]["headers"]
    assert "Retry-After" in answers["503"]["headers"]
    assert json.dumps(document).count('"$ref"') == json.dumps(document).count("#/components/schemas/Problem")
