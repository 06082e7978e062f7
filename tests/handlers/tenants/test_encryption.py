import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.tenants.encryption import DecryptionError, Keyring, KeyringError

FIRST, SECOND = b"1" * 32, b"2" * 32
RING = Keyring({"k1": FIRST})
NAMES = st.text(min_size=1, max_size=20)


@given(st.text(), NAMES, NAMES)
def test_what_was_encrypted_comes_back(text: str, tenant_id: str, column: str) -> None:
    assert RING.decrypt(RING.encrypt(text, tenant_id, column), tenant_id, column) == text


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_a_value_opens_only_for_its_tenant_and_column(mine: tuple[str, str], other: tuple[str, str]) -> None:
    value = RING.encrypt("secret", *mine)
    if mine != other:
        with pytest.raises(DecryptionError):
            RING.decrypt(value, *other)


def test_a_value_changed_or_cut_anywhere_does_not_open() -> None:
    value = RING.encrypt("canary-1", "1", "configure")  # eight bytes: its base64 has no spare bits
    for place, character in enumerate(value):
        changed = [value[:place] + other + value[place + 1 :] for other in "Ab0-_.~" if other != character]
        for broken in (value[:place], *changed):
            with pytest.raises(DecryptionError) as caught:
                RING.decrypt(broken, "1", "configure")
            assert "canary" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "v1", "v1.k1..", "v2.k1.a.b", "v1.k1.####.####", '{"plain": 1}', "v1.k1.é.é"])
def test_what_is_no_envelope_is_refused(value: str) -> None:
    with pytest.raises(DecryptionError, match="configure of tenant 1"):
        RING.decrypt(value, "1", "configure")


def test_two_encryptions_of_one_text_differ() -> None:
    assert len({RING.encrypt("same", "1", "configure") for _ in range(50)}) == 50


def test_a_new_active_key_still_reads_the_old_one_and_an_absent_key_is_named() -> None:
    old = RING.encrypt("text", "1", "configure")
    rotated = Keyring({"k2": SECOND, "k1": FIRST})

    assert rotated.decrypt(old, "1", "configure") == "text"
    new = rotated.encrypt("text", "1", "configure")
    with pytest.raises(DecryptionError, match="'k2'; here are: k1"):
        RING.decrypt(new, "1", "configure")


def test_the_key_id_cannot_be_relabelled() -> None:
    value = RING.encrypt("text", "1", "configure").replace("v1.k1.", "v1.kx.")
    with pytest.raises(DecryptionError):
        Keyring({"k1": FIRST, "kx": FIRST}).decrypt(value, "1", "configure")


def test_a_value_is_wrapped_anew_without_touching_what_it_encrypts() -> None:
    old = RING.encrypt("text", "1", "configure")
    rotated = Keyring({"k2": SECOND, "k1": FIRST})
    new = rotated.rewrap(old, "1", "configure")

    assert Keyring({"k2": SECOND}).decrypt(new, "1", "configure") == "text"
    assert new.rpartition(".")[2] == old.rpartition(".")[2]
    for other in (("2", "configure"), ("1", "token")):
        with pytest.raises(DecryptionError, match="copied from another row"):
            rotated.rewrap(old, *other)
    with pytest.raises(DecryptionError, match="'k1'; here are: k2"):
        Keyring({"k2": SECOND}).rewrap(old, "1", "configure")


@pytest.mark.parametrize(
    "text",
    ["", "nokey", "k1:%%%", "k1:" + base64.b64encode(b"short").decode(), "é:" + base64.b64encode(FIRST).decode()],
)
def test_keys_that_cannot_be_used_are_refused(text: str) -> None:
    with pytest.raises(KeyringError):
        Keyring.parse(text)


def test_keys_are_parsed_in_order_and_never_shown() -> None:
    first, second = (base64.b64encode(key).decode() for key in (FIRST, SECOND))
    ring = Keyring.parse(f"k2:{second} k1:{first}")

    assert ring.active == "k2"
    assert first not in repr(ring)
    with pytest.raises(KeyringError, match="given twice") as caught:
        Keyring.parse(f"k1:{first} k1:{first}")
    assert first not in str(caught.value)
