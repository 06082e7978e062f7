import base64
import json

import pytest

from handlers.tenants.encryption import DecryptionError, KeyringError
from handlers.tenants.laravel import decrypt_laravel, parse_app_key
from tests.handlers.tenants.laravel_values import KEY, OTHER, cbc, gcm, serialized

TEXT = '{"auth": {"secret": "canary-ü"}}'
SERIALIZED = serialized(TEXT)


@pytest.mark.parametrize("value", [cbc(TEXT), cbc(SERIALIZED), cbc(TEXT, OTHER), gcm(TEXT), gcm(SERIALIZED)])
def test_every_form_is_read(value: str) -> None:
    assert decrypt_laravel(value, [KEY, OTHER]) == TEXT


def test_short_keys_and_text_that_only_looks_serialized() -> None:
    assert decrypt_laravel(cbc(TEXT, b"s" * 16), [b"s" * 16]) == TEXT
    assert decrypt_laravel(cbc('s:9:"short";'), [KEY]) == 's:9:"short";'


def test_a_value_changed_anywhere_or_of_another_key_is_refused_without_being_shown() -> None:
    value = cbc(TEXT)
    parts = json.loads(base64.b64decode(value))
    for name in ("iv", "value", "mac"):
        other = "A" if parts[name][5] != "A" else "B"
        changed = {**parts, name: parts[name][:5] + other + parts[name][6:]}
        with pytest.raises(DecryptionError) as caught:
            decrypt_laravel(base64.b64encode(json.dumps(changed).encode()).decode(), [KEY])
        assert "canary" not in str(caught.value)
    with pytest.raises(DecryptionError, match="none of the application keys"):
        decrypt_laravel(value, [OTHER])


@pytest.mark.parametrize("value", ["", "x", "e30=", "W10=", "bnVsbA==", base64.b64encode(b'{"iv": 1}').decode(), "é"])
def test_what_is_no_encrypted_value_is_refused(value: str) -> None:
    with pytest.raises(DecryptionError):
        decrypt_laravel(value, [KEY])


def test_application_keys() -> None:
    assert parse_app_key(f" base64:{base64.b64encode(KEY).decode()}\n") == KEY
    assert parse_app_key("k" * 32) == KEY
    for text in ("base64:%%", "short-canary", ""):
        with pytest.raises(KeyringError) as caught:
            parse_app_key(text)
        assert "canary" not in str(caught.value)
