import json
from decimal import Decimal
from typing import Any

import pytest

from handlers.payloads import JSON_DEPTH, PAYLOAD_LIMIT_BYTES, Refused, payload_text


def nested(levels: int) -> dict[str, Any]:
    """An object with so many containers inside one another."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def sized(size: int) -> dict[str, str]:
    return {"a": "x" * (size - len('{"a":""}'))}


@pytest.mark.parametrize(
    "payload", [{}, {"a": [1, 2.5, None, True, "é", {"b": []}]}, nested(JSON_DEPTH), sized(PAYLOAD_LIMIT_BYTES)]
)
def test_an_object_within_bounds_becomes_its_text(payload: dict[str, Any]) -> None:
    assert json.loads(payload_text(payload)) == payload


@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (None, "bad_payload", "not null"),
        ([], "bad_payload", "not an array"),
        ("{}", "bad_payload", "not text"),
        (7, "bad_payload", "not int"),
        ({"a": [{"b": float("nan")}]}, "bad_payload", "nan"),
        ({"a": float("-inf")}, "bad_payload", "-inf"),
        ({"a": (1, [float("inf")])}, "bad_payload", "inf"),
        ({"a": Decimal(1)}, "bad_payload", "Decimal"),
        ({1: "a"}, "bad_payload", "key"),
        ({"a": "\ud800"}, "bad_payload", "JSON"),
        ({"a": 1 << 70}, "bad_payload", "JSON"),
        (nested(JSON_DEPTH + 1), "too_deep", "32 levels"),
        (nested(100_000), "too_deep", "32 levels"),
        (sized(PAYLOAD_LIMIT_BYTES + 1), "too_large", str(PAYLOAD_LIMIT_BYTES + 1)),
        ({"a": "é" * 200_000}, "too_large", "400008"),
    ],
)
def test_anything_else_is_refused_with_a_reason(payload: object, code: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        payload_text(payload)
    assert caught.value.code == code
    assert reason in str(caught.value)


def test_an_object_that_holds_itself_is_refused_quickly() -> None:
    looped: dict[str, Any] = {}
    looped["me"] = looped
    with pytest.raises(Refused, match="levels"):
        payload_text(looped)
    doubled: dict[str, Any] = {"leaf": 1}
    for _ in range(JSON_DEPTH - 1):
        doubled = {"a": doubled, "b": doubled}
    with pytest.raises(Refused, match="more than"):
        payload_text(doubled)
