"""What a delivery says: its payload, its ids, its event."""

import json
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from handlers.inbound.deliveries import Delivery, UnknownMediaType, read_delivery
from handlers.inbound.schemes import HmacLayout, Scheme
from handlers.payloads import Refused
from tests.handlers.inbound.signing import Sent, sent

FORM = "application/x-www-form-urlencoded"


def read(made: Sent, media_type: str = "application/json") -> Delivery:
    return read_delivery(made.scheme, made.request, media_type, made.layout)


@pytest.mark.parametrize(
    ("scheme", "event_type"),
    [
        (Scheme.STANDARD, "paid"),
        (Scheme.GITHUB, "push"),
        (Scheme.STRIPE, "paid"),
        (Scheme.SHOPIFY, "orders/create"),
        (Scheme.HMAC, None),
        (Scheme.TOKEN, None),
    ],
)
def test_each_provider_has_an_id_and_most_name_the_event(scheme: Scheme, event_type: str | None) -> None:
    delivery = read(sent(scheme, delivery_id="evt-1"))
    assert delivery.event_type == event_type
    assert delivery.ids[-1] == "evt-1"
    assert delivery.payload == {"id": "evt-1", "type": "paid"}
    assert read(sent(Scheme.HMAC, {"event_type": "paid"})).event_type == "paid"
    assert read(sent(Scheme.HMAC, {"event_type": ["paid"]})).event_type is None


def test_an_id_that_is_not_signed_comes_behind_what_is_signed() -> None:
    made = sent(Scheme.HMAC)
    first, own = read(made).ids
    assert own == "d1"
    assert read(made.with_headers(X_Delivery_Id="d2")).ids == (first, "d2")
    assert read(sent(Scheme.HMAC, at_s=1)).ids[0] != first
    assert read(replace(made, layout=HmacLayout(signed="{id}.{timestamp}.{body}"))).ids == ("d1",)


def test_only_a_token_needs_no_id() -> None:
    assert read(Sent(Scheme.TOKEN, {}, b"{}")).ids == ()
    for scheme in (Scheme.STANDARD, Scheme.GITHUB, Scheme.SHOPIFY, Scheme.STRIPE):
        with pytest.raises(Refused, match="id"):
            read(Sent(scheme, {}, b"{}"))
    for bad in ("", "x" * 256, "\u00fc", "\x00"):
        with pytest.raises(Refused, match="printable ASCII"):
            read(sent(Scheme.GITHUB).with_headers(X_GitHub_Delivery=bad))


def test_forms_of_those_that_send_them() -> None:
    body = urlencode({"payload": json.dumps({"zen": "ü"})}).encode()
    made = replace(sent(Scheme.GITHUB), body=body)
    assert read(made, FORM).payload == {"zen": "ü"}
    plain = replace(sent(Scheme.HMAC), body=b"a=1&b=&a=2&a=3")
    assert read(plain, FORM).payload == {"a": ["1", "2", "3"], "b": ""}
    for scheme in (Scheme.STANDARD, Scheme.STRIPE, Scheme.SHOPIFY):
        with pytest.raises(UnknownMediaType):
            read(sent(scheme), FORM)
    for body in (b"payload=%ff", b"\xff", b"payload=[1]", b"", b"&".join([b"a=1"] * 1001)):
        with pytest.raises(Refused):
            read(replace(made, body=body), FORM)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"a": NaN}', b'{"a":' * 40 + b"1" + b"}" * 40])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        read(replace(sent(Scheme.GITHUB), body=body))


def test_media_types() -> None:
    assert read(sent(Scheme.STANDARD), "application/cloudevents+json").payload
    for media_type in ("text/plain", "application/octet-stream", "text/json", "image/svg+json"):
        with pytest.raises(UnknownMediaType):
            read(sent(Scheme.STANDARD), media_type)
