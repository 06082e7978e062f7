"""Standard Webhooks' own library and ours agree: it signs and we verify, and the other way round."""

from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from handlers.inbound.schemes import Scheme, generated_secret
from tests.handlers.inbound.signing import Sent, signed_headers

_IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="."), min_size=1, max_size=64)
_TIMES = st.integers(0, 4_000_000_000)


@given(delivery_id=_IDS, at_s=_TIMES, body=st.text(st.characters(codec="utf-8")))
def test_what_the_library_signs_we_take(delivery_id: str, at_s: int, body: str) -> None:
    secret = generated_secret(Scheme.STANDARD)
    signature = standardwebhooks.Webhook(secret).sign(delivery_id, datetime.fromtimestamp(at_s, UTC), body)
    headers = {"webhook-id": delivery_id, "webhook-timestamp": str(at_s), "webhook-signature": signature}
    made = Sent(Scheme.STANDARD, headers, body.encode(), at_s)
    assert made.fault(secret) is None
    assert made.fault(generated_secret(Scheme.STANDARD)) is not None


@given(delivery_id=_IDS, body=st.text(st.characters(codec="utf-8")))
def test_what_we_take_the_library_takes(delivery_id: str, body: str) -> None:
    secret = generated_secret(Scheme.STANDARD)
    now_s = int(datetime.now(UTC).timestamp())
    headers = signed_headers(Scheme.STANDARD, body.encode(), secret, delivery_id, now_s)
    assert Sent(Scheme.STANDARD, headers, body.encode(), now_s).fault(secret) is None
    standardwebhooks.Webhook(secret).verify(body, dict(headers), json_parse=False)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(generated_secret(Scheme.STANDARD)).verify(body, dict(headers), json_parse=False)
