import base64
import json
from urllib.parse import quote, urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.redaction import REDACTED, Redactor
from handlers.results import Completed, Rejected, Wait
from schemas.errors import Permanent, Retryable, Undecodable, Unknown

SECRET = "canary-7f3a/ü\"'\\\n+x"
REDACTOR = Redactor([SECRET, "4711", "dup", "271828182"])

WRITTEN = {
    "as it is": f"a {SECRET} b",
    "json": json.dumps({"key": SECRET}),
    "json, not escaped": orjson.dumps({"key": SECRET}).decode(),
    "python": repr({"key": SECRET}),
    "an exception": repr(ValueError(SECRET)),
    "a query": urlencode({"key": SECRET}),
    "a path": quote(SECRET),
    "a word": "pin=4711",
    **{
        f"basic authentication, user of {length}": base64.b64encode(f"{'u' * length}:{SECRET}".encode()).decode()
        for length in range(4)
    },
}


@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_a_secret_is_found_however_it_is_written(text: str) -> None:
    clean = REDACTOR.text(text)
    assert REDACTED in clean
    assert "canary" not in clean
    assert "4711" not in clean
    # What is left of base64 must not give the secret away: at most the three bytes it shares with its neighbours.
    longest = max(clean.replace(REDACTED, " ").split(), key=len, default="")
    assert base64.b64encode(SECRET.encode()).decode()[4:12] not in longest


@pytest.mark.parametrize("text", ["id 14711", "a duplicate dup", "", "completed", "4711a"])
def test_a_short_secret_tears_no_word_apart(text: str) -> None:
    assert REDACTOR.text(text) == text


def test_of_two_secrets_the_longer_one_goes_whole() -> None:
    assert Redactor(["abcdefgh", "abcdefghij"]).text("abcdefghij") == REDACTED


def test_values_keep_their_shape() -> None:
    value = {"a": [SECRET, 271828182, 3.5, True, None], SECRET: {"ok": f"x{SECRET}"}}
    assert REDACTOR.value(value) == {"a": [REDACTED, REDACTED, 3.5, True, None], REDACTED: {"ok": f"x{REDACTED}"}}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)
    )
)
def test_nothing_is_changed_where_nothing_is_secret(value: object) -> None:
    assert Redactor(["canary-123456"]).value(value) == value
    assert Redactor().verdict(value) is value


def test_verdicts_come_out_clean_and_keep_their_meaning() -> None:
    assert REDACTOR.verdict(Completed({"echo": SECRET})) == Completed({"echo": REDACTED})
    assert REDACTOR.verdict(Completed({"echo": {1, 2}, "of": SECRET})) == Completed({"echo": "{1, 2}", "of": REDACTED})
    assert REDACTOR.verdict(Rejected(f"no {SECRET}", "code")) == Rejected(f"no {REDACTED}", "code")
    fine = Completed({"ok": 1}), Permanent("fine", code="x")
    assert tuple(map(REDACTOR.verdict, fine)) == fine


@pytest.mark.parametrize("kind", [Permanent, Retryable, Unknown])
def test_an_error_keeps_its_kind_and_code_and_loses_its_cause(kind: type[Permanent | Retryable | Unknown]) -> None:
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as cause:
            raise kind(f"the call failed: {SECRET}", code="http_500") from cause
    except kind as error:
        clean = REDACTOR.verdict(error)
    assert isinstance(clean, kind)
    assert (str(clean), clean.code) == (f"the call failed: {REDACTED}", "http_500")
    assert (clean.__cause__, clean.__traceback__) == (None, None)


def test_the_wait_asked_for_survives() -> None:
    clean = REDACTOR.verdict(Retryable(SECRET, retry_after_s=17))
    assert isinstance(clean, Retryable)
    assert clean.retry_after_s == 17


@pytest.mark.parametrize("error", [KeyError(SECRET), ValueError(SECRET), Undecodable(SECRET), RuntimeError(1, SECRET)])
def test_a_bug_of_a_handler_is_retried_and_named_without_the_secret(error: Exception) -> None:
    clean = REDACTOR.verdict(error)
    assert isinstance(clean, Retryable)
    assert clean.code == "handler_error"
    assert str(clean).startswith(f"{type(error).__name__}: ")
    assert "canary" not in str(clean)


def test_a_redactor_shows_nothing_itself() -> None:
    assert "canary" not in repr(REDACTOR)


def test_a_call_backs_key_holds_no_secret() -> None:
    """Without the secret it would be another key, for which nobody calls."""
    fault = REDACTOR.verdict(Wait(f"order-{SECRET}", 60))
    assert isinstance(fault, Permanent)
    assert "canary" not in str(fault)
    assert REDACTOR.verdict(Wait("order-7", 60)) == Wait("order-7", 60)
