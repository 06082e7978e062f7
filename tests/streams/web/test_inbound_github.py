"""GitHub's public examples, signed: each is accepted once, a repeat answered alike, one with a changed bit refused."""

import random
import uuid
from collections.abc import Iterator
from urllib.parse import urlencode

import orjson

from handlers.inbound.schemes import Scheme
from tests.handlers.inbound.signing import Sent, signed_headers
from tests.streams.web.test_inbound import Inbound
from tests.streams.web.test_inbound import inbound as inbound
from tests.support.github_examples import OWN_EXAMPLES, Example, github_examples

_FORM = "application/x-www-form-urlencoded"


def deliveries(examples: list[Example]) -> Iterator[tuple[Example, Sent]]:
    """Every example as GitHub sends it, each fifth as a form."""
    for number, (event, payload) in enumerate(examples):
        body = orjson.dumps(payload)
        if number % 5 == 4:
            body = urlencode({"payload": body.decode()}).encode()
        headers = signed_headers(Scheme.GITHUB, body, delivery_id=str(uuid.UUID(int=number))) | {
            "X-GitHub-Event": event
        }
        if number % 5 == 4:
            headers["Content-Type"] = _FORM
        yield (event, payload), Sent(Scheme.GITHUB, headers, body)


def one_bit_changed(made: Sent, chance: random.Random) -> Sent:
    """The delivery with a bit of its body or its signature changed."""
    if chance.random() < 0.5:
        body = bytearray(made.body)
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        return Sent(Scheme.GITHUB, made.headers, bytes(body))
    signature = made.headers["X-Hub-Signature-256"]
    digest = bytearray.fromhex(signature.removeprefix("sha256="))
    digest[chance.randrange(len(digest))] ^= 1 << chance.randrange(8)
    return made.with_headers(X_Hub_Signature_256=f"sha256={digest.hex()}")


async def accepted_once_each(inbound: Inbound, examples: list[Example]) -> None:
    chance = random.Random(6)
    answers = []
    for _, made in deliveries(examples):
        changed = await inbound.post(one_bit_changed(made, chance))
        first, again = await inbound.post(made), await inbound.post(made)
        assert (changed[0], first[0], first) == (401, 202, again)
        answers.append(first[1]["event_id"])
    requests = inbound.door.requests()
    assert [each.event_id for each in requests] == answers
    assert len(set(answers)) == len(examples)
    assert [(each.event_type, orjson.loads(each.payload)) for each in requests] == examples


async def test_a_few_of_our_own_are_accepted_once_each(inbound: Inbound) -> None:
    await accepted_once_each(inbound, OWN_EXAMPLES)


async def test_githubs_public_examples_are_accepted_once_each(inbound: Inbound) -> None:
    """A thousand requests: some five seconds."""
    examples = github_examples()
    assert len(examples) > 300
    await accepted_once_each(inbound, examples)
