import pytest

from handlers.contract import HttpResponse
from handlers.upstreams.answers import UpstreamRefused, checked, list_of, object_of, placing
from schemas.errors import Permanent, PipelineError, Retryable, Unknown


def answer(status: int, body: bytes = b"{}") -> HttpResponse:
    return HttpResponse(status, {}, body)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, Permanent, "check auth.key in the tenant's configuration"),
        (403, Permanent, "check auth.key"),
        (408, Retryable, "tried again"),
        (400, UpstreamRefused, "mend what it names"),
        (301, UpstreamRefused, "301"),
    ],
)
def test_each_status_has_its_error_and_says_what_to_do(status: int, error: type[PipelineError], words: str) -> None:
    with pytest.raises(error, match=words):
        checked(answer(status), "auth.key")
    assert checked(answer(204), "auth.key").status == 204


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"message": "too long"}', "too long"),
        (b'{"message": ["one", "two"]}', "['one', 'two']"),
        (b'{"errorMessage": "no"}', "no"),
        (b"<html>", "<html>"),
        (b"", "no explanation"),
        (b"[" + b"9," * 5000 + b"9]", "9, 9"),
    ],
)
def test_the_upstreams_words_are_kept_short(body: bytes, words: str) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        checked(answer(422, body), "auth.key")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"null", b'"text"'])
def test_what_is_no_object_is_asked_for_again(body: bytes) -> None:
    with pytest.raises(Retryable) as caught:
        object_of(answer(200, body))
    assert caught.value.code == "bad_answer"


def test_a_list_stands_alone_or_under_a_name() -> None:
    assert list_of([{"a": 1}]) == list_of({"orders": [{"a": 1}]}, "items", "orders") == [{"a": 1}]
    unusable: list[object] = [{}, {"orders": {}}, [1], None]
    for wrong in unusable:
        with pytest.raises(Retryable):
            list_of(wrong, "orders")


@pytest.mark.parametrize("code", ["http_429", "not_connected", "not_sent"])
def test_what_certainly_had_no_effect_stays_retryable(code: str) -> None:
    with pytest.raises(Retryable), placing("R"):
        raise Retryable("fault", code=code)


@pytest.mark.parametrize(
    "code", ["http_500", "http_503", "timeout", "connection", "bad_answer", "http_408", "retryable"]
)
def test_whatever_else_leaves_it_open(code: str) -> None:
    with pytest.raises(Unknown, match="under the reference R"), placing("R"):
        raise Retryable("fault", code=code)


def test_an_answer_too_large_to_read_leaves_it_open_and_a_refusal_does_not() -> None:
    with pytest.raises(Unknown), placing("R"):
        raise Permanent("fault", code="answer_too_large")
    with pytest.raises(UpstreamRefused), placing("R"):
        raise UpstreamRefused("no")
