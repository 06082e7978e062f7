"""Secrets and the keys they stand for."""

import base64

import pytest

from handlers.inbound.schemes import HmacLayout, Scheme, generated_secret, key_of


@pytest.mark.parametrize(
    ("scheme", "secret"),
    [
        (Scheme.GITHUB, ""),
        (Scheme.GITHUB, "x" * 15),
        (Scheme.HMAC, "x" * 513),
        (Scheme.STANDARD, ""),
        (Scheme.STANDARD, "whsec_"),
        (Scheme.STANDARD, "whsec_canary!"),
        (Scheme.STANDARD, "whsec_" + base64.b64encode(bytes(23)).decode()),
        (Scheme.STANDARD, "whsec_" + base64.b64encode(bytes(65)).decode()),
        (Scheme.STANDARD, "whpk_" + base64.b64encode(bytes(31)).decode()),
    ],
)
def test_no_secret_is_empty_short_or_malformed_and_none_is_shown(scheme: Scheme, secret: str) -> None:
    with pytest.raises(ValueError, match=r"secret|public key") as raised:
        key_of(scheme, secret)
    assert "canary" not in str(raised.value)


def test_generated_secrets_are_good_and_differ() -> None:
    for scheme in (Scheme.STANDARD, Scheme.GITHUB, Scheme.HMAC):
        first, second = generated_secret(scheme), generated_secret(scheme)
        assert first != second
        assert len(key_of(scheme, first)) >= 32


def test_all_of_stripes_secret_is_the_key() -> None:
    assert key_of(Scheme.STRIPE, "whsec_0123456789") == b"whsec_0123456789"


@pytest.mark.parametrize("header", ["", "a b", "X:Y", "Ä"])
def test_a_layout_names_headers(header: str) -> None:
    with pytest.raises(ValueError, match="header"):
        HmacLayout(id_header=header)
