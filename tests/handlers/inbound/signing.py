"""Signs as each provider does, written for itself: what it makes is compared with nothing of ours."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from handlers.inbound.schemes import HmacLayout, Scheme
from handlers.inbound.signatures import SignedRequest, verify

NOW_S = 1_700_000_000
SECRETS = {
    Scheme.STANDARD: "whsec_" + base64.b64encode(b"standard" * 4).decode(),
    Scheme.GITHUB: "a secret told to github",
    Scheme.STRIPE: "whsec_all of this text is the key",
    Scheme.SHOPIFY: "a secret of shopify's",
    Scheme.HMAC: "a secret of our own",
}


def other_secret(scheme: Scheme) -> str:
    """A secret that is not the source's."""
    return "whsec_" + base64.b64encode(b"another!" * 4).decode() if scheme is Scheme.STANDARD else "a secret of others"


SIGNING = tuple(SECRETS)
ID_HEADERS = {
    Scheme.STANDARD: "webhook-id",
    Scheme.GITHUB: "X-GitHub-Delivery",
    Scheme.SHOPIFY: "X-Shopify-Webhook-Id",
    Scheme.HMAC: "X-Delivery-Id",
    Scheme.TOKEN: "X-Delivery-Id",
}


def mac(key: bytes, content: bytes) -> bytes:
    return hmac.new(key, content, hashlib.sha256).digest()


def signed_headers(
    scheme: Scheme, body: bytes, secret: str | None = None, delivery_id: str = "d1", at_s: int = NOW_S
) -> dict[str, str]:
    """The headers of a good delivery; for Stripe the id is in the body."""
    secret = SECRETS.get(scheme, "") if secret is None else secret
    key = secret.encode()
    headers = {"Content-Type": "application/json"}
    if scheme in ID_HEADERS:
        headers[ID_HEADERS[scheme]] = delivery_id
    if scheme is Scheme.STANDARD:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        headers["webhook-timestamp"] = str(at_s)
        signature = mac(key, f"{delivery_id}.{at_s}.".encode() + body)
        headers["webhook-signature"] = f"v1,{base64.b64encode(signature).decode()}"
    elif scheme is Scheme.GITHUB:
        headers["X-GitHub-Event"] = "push"
        headers["X-Hub-Signature-256"] = f"sha256={mac(key, body).hex()}"
    elif scheme is Scheme.STRIPE:
        headers["Stripe-Signature"] = f"t={at_s},v1={mac(key, f'{at_s}.'.encode() + body).hex()},v0={'0' * 64}"
    elif scheme is Scheme.SHOPIFY:
        headers["X-Shopify-Topic"] = "orders/create"
        headers["X-Shopify-Hmac-Sha256"] = base64.b64encode(mac(key, body)).decode()
    elif scheme is Scheme.HMAC:
        headers["X-Timestamp"] = str(at_s)
        headers["X-Signature"] = mac(key, f"{at_s}.".encode() + body).hex()
    return headers


SIGNATURE_HEADERS = {
    Scheme.STANDARD: "webhook-signature",
    Scheme.GITHUB: "X-Hub-Signature-256",
    Scheme.STRIPE: "Stripe-Signature",
    Scheme.SHOPIFY: "X-Shopify-Hmac-Sha256",
    Scheme.HMAC: "X-Signature",
}
TIMED = (Scheme.STANDARD, Scheme.STRIPE, Scheme.HMAC)


@dataclass(frozen=True)
class Sent:
    """A delivery as it arrives."""

    scheme: Scheme
    headers: Mapping[str, str]
    body: bytes
    now_s: int = NOW_S
    layout: HmacLayout = HmacLayout()  # noqa: RUF009 (frozen)

    @property
    def request(self) -> SignedRequest:
        return SignedRequest({name.lower(): value for name, value in self.headers.items()}, self.body, self.now_s)

    def with_headers(self, **headers: str) -> "Sent":
        return replace(
            self, headers={**self.headers, **{name.replace("_", "-"): text for name, text in headers.items()}}
        )

    def fault(self, *secrets: str, tolerance_s: int = 300) -> str | None:
        """What ``verify`` finds."""
        return verify(self.scheme, secrets or (SECRETS[self.scheme],), self.request, tolerance_s, self.layout)


def sent(scheme: Scheme, payload: object = None, *, delivery_id: str = "d1", at_s: int = NOW_S) -> Sent:
    """A good delivery."""
    body = json.dumps({"id": delivery_id, "type": "paid"} if payload is None else payload).encode()
    return Sent(scheme, signed_headers(scheme, body, delivery_id=delivery_id, at_s=at_s), body)
