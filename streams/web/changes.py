"""``POST /v1/changes``: model changes of programs that have no outbox of their own, one or a batch."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson
from aiohttp import web
from sqlalchemy import Connection

from handlers.payloads import Refused, payload_text, whole_number
from handlers.service import PluginService
from handlers.tenants.configuration import bare_model_name
from handlers.tenants.tokens import Scope, Token
from schemas.events import ModelChanged, now_micros
from schemas.limits import MAX_JSON_DEPTH
from streams.capture.outbox import OutboxSink
from streams.web.accepting import reached_tenant, status_of
from streams.web.authentication import Authenticator
from streams.web.blocking import BlockingCalls
from streams.web.bodies import parsed, read_bytes, require_json
from streams.web.fields import LONGEST_TEXT, bad, is_printable, known_fields, model_id, number, tenant_of, text
from streams.web.idempotency import ClaimedKey, claim, claim_all, claimed_key, fingerprint, key_reused
from streams.web.openapi import IDEMPOTENCY_KEY, MODEL_ID, TENANT, object_of
from streams.web.openapi import text as text_schema
from streams.web.problems import Problem
from streams.web.routes import Answer, Route

MOST_ITEMS: Final = 1000
BATCH_BYTES: Final = 8 * 1024 * 1024
MOST_CHANGED: Final = 500
REQUIRED: Final = ("model", "model_id", "model_event", "payload")
FIELDS: Final = frozenset({*REQUIRED, *("tenant", "changed", "previous", "priority", "change_id", "source")})
MODEL_EVENTS: Final = ("created", "updated", "deleted", "restored")
MODEL_PATTERN: Final = r"^[^\u0000-\u001f\u007f]*[^\u0000-\u001f\u007f.\\]$"
_NAMES: Final = uuid.UUID("7b0f52d8-3a4e-5a53-9d0c-6f1f8f6c2b11")
_DEPTH: Final = MAX_JSON_DEPTH + 2
"""A payload lies in an item, and that in a batch."""


_CHANGE: Final = {
    "type": "object",
    "required": list(REQUIRED),
    "additionalProperties": False,
    "properties": {
        "tenant": TENANT,
        "model": text_schema("Name of the model: Order, shop.models.Order or App\\Models\\Order.")
        | {"pattern": MODEL_PATTERN},
        "model_id": MODEL_ID,
        "model_event": {"enum": list(MODEL_EVENTS)},
        "payload": {"type": "object", "description": "The row's attributes after the change: at most 256 KiB."},
        "changed": {"type": ["array", "null"], "maxItems": MOST_CHANGED, "items": text_schema("Name of an attribute.")},
        "previous": {"type": ["object", "null"], "description": "Old values of the changed attributes."},
        "priority": {"type": ["integer", "null"], "minimum": 1, "maximum": 10},
        "change_id": text_schema("The sender's own id: a change sent again with it is accepted once.", nullable=True),
        "source": text_schema("Program that tells of the change.", nullable=True),
    },
    "examples": [{"model": "Order", "model_id": 7, "model_event": "updated", "payload": {"id": 7, "status": "paid"}}],
}
_BODY: Final = {"anyOf": [_CHANGE, {"type": "array", "minItems": 1, "maxItems": MOST_ITEMS, "items": {}}]}
_ACCEPTED: Final = object_of({"change_id": {"type": "string"}})
_ITEM: Final = {
    "anyOf": [
        object_of({"status": {"const": 202}, "change_id": {"type": "string"}}),
        object_of({"status": {"enum": [404, 409, 413, 422]}, "code": {"type": "string"}, "detail": {"type": "string"}}),
    ]
}
_COUNT: Final = {"type": "integer", "minimum": 0}
_BATCH: Final = object_of({"accepted": _COUNT, "refused": _COUNT, "items": {"type": "array", "items": _ITEM}})
_ANSWERS: Final = {
    202: Answer("All of it is in the outbox, in its order.", {"anyOf": [_ACCEPTED, _BATCH]}),
    207: Answer("Some of the batch is not in the outbox: each item has a `status`.", _BATCH),
}


@dataclass(frozen=True, slots=True)
class Answered:
    """Status and body of an answer; kept under the request's key as JSON text."""

    status: int
    body: Mapping[str, Any]

    def kept(self) -> str:
        """The text that is kept."""
        return orjson.dumps([self.status, self.body]).decode()


@dataclass(slots=True)
class _Item:
    """One change of a batch: what it becomes, or why it is refused. ``key`` where its sender named it."""

    change: ModelChanged | None = None
    key: ClaimedKey | None = None
    problem: Problem | None = None

    def answer(self) -> dict[str, Any]:
        if self.problem is not None or self.change is None:
            problem = self.problem or bad("it is no change")
            return {"status": problem.status, "code": problem.code, "detail": str(problem)}
        return {"status": 202, "change_id": self.change.change_id}


_AnswerOf: TypeAlias = Callable[[Sequence[_Item]], Answered]


class _Repeated(Exception):
    """The request was answered before: nothing of this transaction may stay."""

    def __init__(self, answer: str) -> None:
        super().__init__(answer)
        self.answer = answer


class ChangeResource:
    """Takes changes; answers 202 once they are in the outbox, in the order in which they came."""

    def __init__(
        self, service: PluginService, sink: OutboxSink, authenticator: Authenticator, calls: BlockingCalls, limit: int
    ) -> None:
        """``limit`` bounds one payload, bytes of JSON."""
        self._service = service
        self._sink = sink
        self._authenticator = authenticator
        self._calls = calls
        self._limit = limit

    def routes(self) -> list[Route]:
        """What this resource serves."""
        return [
            Route(
                method="POST",
                path="/v1/changes",
                handler=self.post,
                name="announce_changes",
                tag="triggers",
                summary="Tell of a change of a model's row, or of many",
                scope=Scope.OPERATOR,
                parameters=[IDEMPOTENCY_KEY],
                body=_BODY,
                answers=_ANSWERS,
                problems=[404, 409, 422],
            )
        ]

    async def post(self, request: web.Request) -> web.Response:
        """202 where all were accepted: ``{"change_id"}`` for one, ``{"accepted", "refused", "items"}`` for a batch.

        207 where some of a batch were not: each item has a ``status``. Else a problem: 400 401 403 404 408 409 413 415
        422 429 503.
        """
        token = await self._authenticator.token_of(request, Scope.OPERATOR)
        require_json(request)
        data = await read_bytes(request, BATCH_BYTES)
        key = claimed_key(request, token, data)
        # A batch takes its time to be read, so the loop does not do it.
        answer = await self._calls.run(lambda: self._accept(data, key, token))
        self._authenticator.rates.count(token.id, len(answer.body.get("items", "1")) - 1)
        return web.Response(status=answer.status, body=orjson.dumps(answer.body), content_type="application/json")

    def _accept(self, data: bytes, key: ClaimedKey | None, token: Token) -> Answered:
        body = parsed(data, _DEPTH)
        if isinstance(body, dict):
            return self._store([self._item(body, token)], key, _answer_of_one)
        if not isinstance(body, list):
            raise Problem(400, "bad_json", "the body must be a JSON object, or an array of them")
        if not body:
            raise bad("the batch is empty")
        if len(body) > MOST_ITEMS:
            raise Problem(422, "too_many", f"a batch has at most {MOST_ITEMS} changes, not {len(body)}")
        return self._store([self._item(each, token) for each in body], key, _answer_of_batch)

    def _item(self, body: object, token: Token) -> _Item:
        try:
            if not isinstance(body, dict):
                raise bad("a change must be a JSON object")
            known_fields(body, FIELDS, REQUIRED)
            tenant = reached_tenant(self._service, tenant_of(body, token), token)
            change = _change(body, tenant.id, token, self._limit)
        except Problem as problem:
            return _Item(problem=problem)
        except Refused as refused:
            return _Item(problem=Problem(status_of(refused.code), refused.code, str(refused)))
        named = text(body, "change_id")
        if named is None:
            return _Item(change)
        sent = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        return _Item(change, ClaimedKey(f"change|{tenant.id}", named, fingerprint(sent)))

    def _store(self, items: Sequence[_Item], key: ClaimedKey | None, answer_of: _AnswerOf) -> Answered:
        """Put what can be accepted into the outbox, all in one transaction."""
        answers: list[Answered] = []

        def accepted(connection: Connection) -> list[ModelChanged]:
            changes = _new_changes(connection, items)
            answer = answer_of(items)
            answers.append(answer)
            if key is not None:
                kept = answer.kept()
                first = claim(connection, key, kept)
                if first != kept:
                    raise _Repeated(first)
            return changes

        try:
            self._sink.accept_changes(accepted)
        except _Repeated as repeated:
            return Answered(*orjson.loads(repeated.answer))
        return answers[-1]


def _answer_of_one(items: Sequence[_Item]) -> Answered:
    [item] = items
    if item.problem is not None:
        raise item.problem
    answer = item.answer()
    return Answered(answer.pop("status"), answer)


def _answer_of_batch(items: Sequence[_Item]) -> Answered:
    refused = sum(item.problem is not None for item in items)
    body = {
        "accepted": len(items) - refused,
        "refused": refused,
        "items": [item.answer() for item in items],
    }
    return Answered(207 if refused else 202, body)


def _new_changes(connection: Connection, items: Sequence[_Item]) -> list[ModelChanged]:
    """The changes that were not accepted before, in order. Refuses items whose ``change_id`` was another change's."""
    named: dict[str, ClaimedKey] = {}
    claims: dict[ClaimedKey, str] = {}
    for item in items:
        if item.change is not None and item.key is not None:
            first = named.setdefault(item.change.change_id, item.key)
            claims[first] = item.change.change_id
    known = claim_all(connection, claims)
    changes = {}
    for place, item in enumerate(items):
        if item.change is None:
            continue
        if item.key is None:
            changes[str(place)] = item.change
            continue
        first = named[item.change.change_id]
        stored = known[first].fingerprint if first in known else first.fingerprint
        if stored != item.key.fingerprint:
            item.problem = key_reused(f"change_id {item.key.key!r:.80}")
        elif first not in known:
            changes.setdefault(item.change.change_id, item.change)
    return list(changes.values())


def _change(body: Mapping[str, Any], tenant_id: str, token: Token, limit_bytes: int) -> ModelChanged:
    """The change that an item says. Raises ``Problem`` and ``Refused``."""
    texts = {name: text(body, name) for name in ("model", "model_event", "change_id", "source")}
    model = bare_model_name(texts["model"] or "")
    if not model:
        raise bad("model must be the name of a model")
    model_event = texts["model_event"]
    if model_event not in MODEL_EVENTS:
        raise bad(f"model_event must be one of {', '.join(MODEL_EVENTS)}")
    row = model_id(body)
    if row is None:
        raise bad("model_id must be text or a whole number")
    named, previous = texts["change_id"], body.get("previous")
    return ModelChanged(
        # Of its sender's name, so that it is the same each time; of the tenant, so that nobody takes another's.
        change_id=str(uuid.uuid4() if named is None else uuid.uuid5(_NAMES, f"{tenant_id}|{named}")),
        tenant_id=tenant_id,
        model=model,
        model_id=row,
        model_event=model_event,
        occurred_at=now_micros(),
        payload=payload_text(body["payload"], limit_bytes),
        changed=_changed(body.get("changed")),
        previous=None if previous is None else payload_text(previous, limit_bytes, "previous"),
        priority=whole_number("priority", number(body, "priority"), 1, 10),
        source=texts["source"] or f"http: {token.name}"[:LONGEST_TEXT],
    )


def _changed(names: object) -> list[str]:
    if names is None:
        return []
    if not isinstance(names, list) or len(names) > MOST_CHANGED:
        raise bad(f"changed must be an array of at most {MOST_CHANGED} names")
    if not all(isinstance(each, str) and len(each) <= LONGEST_TEXT and is_printable(each) for each in names):
        raise bad(f"changed must hold names of 1 to {LONGEST_TEXT} characters")
    return names
