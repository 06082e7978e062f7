"""Signatures: published vectors hold, whatever else was sent is refused and never raises."""

import base64
import hmac
import itertools
import json
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from handlers.inbound.schemes import HmacLayout, Scheme
from handlers.inbound.signatures import MOST_SIGNATURES, SignedRequest, verify
from tests.handlers.inbound.signing import (
    NOW_S,
    SECRETS,
    SIGNATURE_HEADERS,
    SIGNING,
    TIMED,
    Sent,
    mac,
    other_secret,
    sent,
    signed_headers,
)


def test_the_vector_of_standard_webhooks() -> None:
    body = b'{"test": 2432232314}'
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    made = Sent(Scheme.STANDARD, headers, body, 1614265330)
    assert made.fault("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") is None
    assert made.fault("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") is None
    assert replace(made, body=body + b" ").fault("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def test_the_vector_of_github() -> None:
    signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    made = Sent(Scheme.GITHUB, {"X-Hub-Signature-256": f"sha256={signature}"}, b"Hello, World!")
    assert made.fault("It's a Secret to Everybody") is None
    assert made.with_headers(X_Hub_Signature_256=signature).fault("It's a Secret to Everybody")
    assert made.with_headers(X_Hub_Signature_256=f"sha256={signature.upper()}").fault("It's a Secret to Everybody")


@pytest.mark.parametrize("scheme", SIGNING)
def test_what_each_provider_signs_is_taken(scheme: Scheme) -> None:
    assert sent(scheme).fault() is None


@pytest.mark.parametrize("scheme", SIGNING)
def test_two_secrets_count_during_a_rotation_and_no_third(scheme: Scheme) -> None:
    other = other_secret(scheme)
    made = sent(scheme)
    assert made.fault(other, SECRETS[scheme]) is None
    assert made.fault(SECRETS[scheme], other) is None
    assert made.fault(other) == "no signature matches"
    assert made.fault(other, other, SECRETS[scheme]) == "no signature matches"


@pytest.mark.parametrize("scheme", SIGNING)
def test_each_bit_of_body_and_signature_counts(scheme: Scheme) -> None:
    made = sent(scheme)
    for position in range(len(made.body) * 8):
        changed = bytearray(made.body)
        changed[position // 8] ^= 1 << position % 8
        assert replace(made, body=bytes(changed)).fault() is not None
    header = SIGNATURE_HEADERS[scheme]
    good = made.headers[header].removesuffix(",v0=" + "0" * 64)
    made = replace(made, headers={**made.headers, header: good})
    assert made.fault() is None
    for position in range(len(good) * 7):
        place, bit = divmod(position, 7)
        text = good[:place] + chr(ord(good[place]) ^ (1 << bit)) + good[place + 1 :]
        assert replace(made, headers={**made.headers, header: text}).fault() is not None, text


@pytest.mark.parametrize("scheme", SIGNING)
@pytest.mark.parametrize("key", [b"", bytes(32)], ids=["empty", "zeros"])
def test_what_fills_the_place_of_a_missing_secret_signs_nothing(scheme: Scheme, key: bytes) -> None:
    """As many digests are made for one secret as for two; the second one's key is no secret."""
    made = sent(scheme)
    before = {Scheme.STANDARD: f"d1.{NOW_S}.", Scheme.STRIPE: f"{NOW_S}.", Scheme.HMAC: f"{NOW_S}."}.get(scheme, "")
    forged = mac(key, before.encode() + made.body)
    text = base64.b64encode(forged).decode() if scheme in (Scheme.STANDARD, Scheme.SHOPIFY) else forged.hex()
    known = {Scheme.STANDARD: "v1,", Scheme.GITHUB: "sha256=", Scheme.STRIPE: f"t={NOW_S},v1="}
    headers = {**made.headers, SIGNATURE_HEADERS[scheme]: known.get(scheme, "") + text}
    assert replace(made, headers=headers).fault() == "no signature matches"


@pytest.mark.parametrize("scheme", SIGNING)
def test_without_its_headers_nothing_is_taken(scheme: Scheme) -> None:
    made = sent(scheme)
    for missing in (SIGNATURE_HEADERS[scheme], *(["webhook-id"] if scheme is Scheme.STANDARD else [])):
        headers = {name: text for name, text in made.headers.items() if name != missing}
        assert replace(made, headers=headers).fault() is not None


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize(("offset_s", "good"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)])
def test_a_timestamp_may_be_off_by_the_tolerance(scheme: Scheme, offset_s: int, good: bool) -> None:
    made = replace(sent(scheme), now_s=NOW_S + offset_s)
    assert (made.fault() is None) is good
    assert replace(made, now_s=NOW_S + 301).fault(tolerance_s=301) is None


@pytest.mark.parametrize(
    "timestamp", ["", "1e9", "1700000000.0", "+1700000000", " 1700000000", "17000000000000", "\u0661"]
)
def test_odd_timestamps_are_refused_though_they_are_signed(timestamp: str) -> None:
    """The library takes some of them as numbers."""
    key = base64.b64decode(SECRETS[Scheme.STANDARD].removeprefix("whsec_"))
    signature = base64.b64encode(mac(key, f"d1.{timestamp}.{{}}".encode())).decode()
    headers = {"webhook-id": "d1", "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}
    assert Sent(Scheme.STANDARD, headers, b"{}").fault() is not None
    stripe = mac(SECRETS[Scheme.STRIPE].encode(), f"{timestamp}.{{}}".encode()).hex()
    assert Sent(Scheme.STRIPE, {"Stripe-Signature": f"t={timestamp},v1={stripe}"}, b"{}").fault() is not None
    plain = mac(SECRETS[Scheme.HMAC].encode(), f"{timestamp}.{{}}".encode()).hex()
    assert Sent(Scheme.HMAC, {"X-Signature": plain, "X-Timestamp": timestamp}, b"{}").fault() is not None


def test_an_id_with_a_dot_could_be_read_in_two_ways() -> None:
    key = base64.b64decode(SECRETS[Scheme.STANDARD].removeprefix("whsec_"))
    signature = "v1," + base64.b64encode(mac(key, f"a.{NOW_S}.{NOW_S}.{{}}".encode())).decode()
    headers = {"webhook-timestamp": str(NOW_S), "webhook-signature": signature}
    assert Sent(Scheme.STANDARD, headers | {"webhook-id": f"a.{NOW_S}"}, b"{}").fault() is not None
    assert Sent(Scheme.STANDARD, headers | {"webhook-id": "a"}, f"{NOW_S}.{{}}".encode()).fault() is None


def test_several_signatures_of_which_one_fits() -> None:
    made = sent(Scheme.STANDARD)
    good = made.headers["webhook-signature"]
    many = " ".join(["v1,AAAA", "v2,x", "v1a,AAAA", good])
    assert made.with_headers(webhook_signature=many).fault() is None
    full = " ".join(["v1,AAAA"] * (MOST_SIGNATURES - 1) + [good])
    assert made.with_headers(webhook_signature=full).fault() is None
    assert made.with_headers(webhook_signature=f"v1,AAAA {full}").fault() is not None
    stripe = sent(Scheme.STRIPE)
    text = stripe.headers["Stripe-Signature"]
    assert stripe.with_headers(Stripe_Signature=text + ",v1=" + "0" * 64).fault() is None
    assert stripe.with_headers(Stripe_Signature=text + f",t={NOW_S}").fault() is not None
    assert stripe.with_headers(Stripe_Signature=text + (",v1=" + "0" * 64) * MOST_SIGNATURES).fault() is not None


def test_public_keys_sign_as_v1a() -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"7" * 32)
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    public = "whpk_" + base64.b64encode(raw).decode()
    signature = base64.b64encode(private.sign(f"d1.{NOW_S}.{{}}".encode())).decode()
    made = Sent(
        Scheme.STANDARD,
        {"webhook-id": "d1", "webhook-timestamp": str(NOW_S), "webhook-signature": f"v1,AAAA v1a,{signature}"},
        b"{}",
    )
    assert made.fault(public) is None
    # From a shared secret to a public key, and back.
    assert made.fault(SECRETS[Scheme.STANDARD], public) is None
    assert sent(Scheme.STANDARD).fault(public, SECRETS[Scheme.STANDARD]) is None
    assert replace(made, body=b"[]").fault(public) is not None
    assert replace(made, now_s=NOW_S + 999).fault(public) is not None
    # The public key is known to all: it must never count as a shared one.
    forged = base64.b64encode(mac(raw, f"d1.{NOW_S}.{{}}".encode())).decode()
    assert made.with_headers(webhook_signature=f"v1,{forged}").fault(public) is not None
    assert made.with_headers(webhook_signature=f"v1a,{forged}").fault(public) is not None


def test_layouts_of_other_providers() -> None:
    """As Slack's and Zendesk's: another order, another prefix, base64, a signed id."""
    slack = HmacLayout(
        "X-Slack-Signature", "X-Slack-Request-Timestamp", signed="v0:{timestamp}:{body}", signature_prefix="v0="
    )
    secret = SECRETS[Scheme.HMAC]
    signature = "v0=" + mac(secret.encode(), f"v0:{NOW_S}:a=1".encode()).hex()
    headers = {"X-Slack-Signature": signature, "X-Slack-Request-Timestamp": str(NOW_S)}
    made = Sent(Scheme.HMAC, headers, b"a=1", layout=slack)
    assert made.fault() is None
    assert made.with_headers(X_Slack_Signature=signature.removeprefix("v0=")).fault() is not None
    other = HmacLayout(signed="{id}{timestamp}{body}", encoding="base64")
    text = base64.b64encode(mac(secret.encode(), f"d1{NOW_S}{{}}".encode())).decode()
    made = Sent(
        Scheme.HMAC, {"X-Signature": text, "X-Timestamp": str(NOW_S), "X-Delivery-Id": "d1"}, b"{}", layout=other
    )
    assert made.fault() is None
    assert made.with_headers(X_Delivery_Id="d2").fault() is not None


@pytest.mark.parametrize(
    "signed", ["{body}", "{timestamp}", "{timestamp}{timestamp}{body}", "{id}{id}{timestamp}{body}"]
)
def test_a_layout_that_proves_nothing_is_refused(signed: str) -> None:
    with pytest.raises(ValueError, match="signed"):
        HmacLayout(signed=signed)


PUBLIC = "whpk_" + base64.b64encode(bytes(range(32))).decode()
_TEXT = st.text(st.characters(codec="latin-1"), max_size=200)
_PIECES = st.lists(
    st.sampled_from(["v1", "v1a", ",", "=", " ", "t", "sha256=", "==", str(NOW_S), "A" * 44, "0" * 64, "ÿ", "whsec_"]),
    max_size=30,
).map("".join)
_HEADERS = (
    *("webhook-id", "webhook-timestamp", "webhook-signature", "stripe-signature", "x-hub-signature-256"),
    *("x-shopify-hmac-sha256", "x-signature", "x-timestamp", "x-delivery-id"),
)


_OTHERS_BODY = b'{"signed": "with another secret"}'
_NEARLY_GOOD = {
    scheme: {
        name.lower(): text
        for name, text in signed_headers(scheme, _OTHERS_BODY, other_secret(scheme)).items()
        if name != "Content-Type"
    }
    for scheme in SIGNING
}


@settings(max_examples=500)
@given(
    headers=st.dictionaries(st.sampled_from(_HEADERS), _TEXT | _PIECES | st.just(str(NOW_S))),
    body=st.binary(max_size=100) | st.just(_OTHERS_BODY),
)
@example(headers={"webhook-signature": "v1"}, body=b"\xff")
@example(headers={"x-delivery-id": "\udcff", "x-timestamp": "1"}, body=b"")
def test_ten_thousand_bad_signatures_are_refused_and_none_raises(headers: dict[str, str], body: bytes) -> None:
    """Each of 500 draws is tried in 20 ways: by every scheme, alone and over a good delivery of somebody else's."""
    for scheme, alone in itertools.product(SIGNING, (True, False)):
        request = SignedRequest(headers if alone else _NEARLY_GOOD[scheme] | headers, body, NOW_S)
        for secrets in ((SECRETS[scheme],), (PUBLIC if scheme is Scheme.STANDARD else "x" * 16, SECRETS[scheme])):
            assert verify(scheme, secrets, request, 300, HmacLayout()) is not None


@pytest.mark.parametrize("scheme", SIGNING)
def test_the_work_is_the_same_for_whatever_is_wrong(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: digests over the whole body, whichever way a request is wrong."""
    made = sent(scheme, {"id": "x", "text": "y" * 1000})
    counted: list[int] = []
    digest = hmac.digest

    def counting(key: bytes, content: bytes, name: str) -> bytes:
        counted.append(len(content) // 1000)
        return digest(key, content, name)

    monkeypatch.setattr(hmac, "digest", counting)
    wrong = [
        made,
        replace(made, body=made.body[:-1] + b" "),
        replace(made, headers={}),
        made.with_headers(**{SIGNATURE_HEADERS[scheme].replace("-", "_"): "v1,??? sha256=zz"}),
        replace(made, now_s=NOW_S + 10_000),
    ]
    for each in wrong:
        counted.clear()
        each.fault()
        assert counted == [1, 1], json.dumps(dict(each.headers))
