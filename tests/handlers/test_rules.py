import hashlib
import hmac
import math
from typing import Any

import pytest

from handlers.rules import WEBHOOK_RULES, Number, Received, Required, Signed, checks_of, faults_of

GOOD: dict[str, Any] = {"id": 1, "event_type": "order.created", "tenant_id": 7}
BODY = b'{"id":1}'
SECRET = "not-a-real-one"
SIGNATURE = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()


def faults(**changes: Any) -> list[str]:
    return faults_of(Received({**GOOD, **changes}, "7"), WEBHOOK_RULES)


@pytest.mark.parametrize("total", [None, 0, 1, 12.5, "12.5", "0", 10**6])
def test_good_payloads_pass(total: object) -> None:
    assert faults(total=total) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": None}, "id is missing"),
        ({"event_type": None}, "event_type is missing"),
        ({"tenant_id": None}, "tenant_id is missing"),
        ({"tenant_id": 8}, "names another tenant"),
        ({"tenant_id": "77"}, "names another tenant"),
        ({"total": -1}, "total must be a number of 0 or more, not -1"),
        ({"total": math.nan}, "total must be"),
        ({"total": math.inf}, "total must be"),
        ({"total": "NaN"}, "total must be"),
        ({"total": True}, "total must be"),
        ({"total": "many"}, "total must be"),
        ({"total": [1]}, "total must be"),
        ({"total": 10**400}, "total must be"),
    ],
)
def test_each_fault_has_its_words(changes: dict[str, Any], words: str) -> None:
    (fault,) = faults(**changes)
    assert words in fault


def test_a_missing_field_is_a_null_one_and_all_faults_are_told() -> None:
    assert faults_of(Received({}, "7"), WEBHOOK_RULES) == [
        "id is missing",
        "event_type is missing",
        "tenant_id is missing",
    ]


@pytest.mark.parametrize(
    ("headers", "secret", "words"),
    [
        ({"x-signature": SIGNATURE}, SECRET, None),
        ({"x-signature": SIGNATURE[:-1] + "x"}, SECRET, "does not fit"),
        ({"x-signature": "é"}, SECRET, "does not fit"),
        ({}, SECRET, "does not fit"),
        ({"x-signature": SIGNATURE}, "another", "does not fit"),
        ({"x-signature": SIGNATURE}, None, "has no auth.secret"),
        ({"x-signature": hmac.new(b"", BODY, hashlib.sha256).hexdigest()}, "", "has no auth.secret"),
    ],
)
def test_a_signature_is_over_the_raw_body_with_the_tenants_secret(
    headers: dict[str, str], secret: str | None, words: str | None
) -> None:
    received = Received({}, "7", BODY, headers, secret)
    found = faults_of(received, (Signed(), *WEBHOOK_RULES))
    if words is None:
        assert found == faults_of(received, WEBHOOK_RULES)
    else:
        # Whoever cannot sign learns nothing of the rest.
        assert len(found) == 1
        assert words in found[0]


def test_a_handler_extends_the_rules() -> None:
    rules = (*WEBHOOK_RULES, Required("sku"), Number("quantity", 1, 10, whole=True))
    assert checks_of(rules) == ["id", "event_type", "tenant_id", "total", "sku", "quantity"]
    assert faults_of(Received({**GOOD, "sku": "a", "quantity": 11}, "7"), rules) == [
        "quantity must be a whole number of 1 or more and at most 10, not 11"
    ]
