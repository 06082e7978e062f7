import pytest

from handlers.tenants.secrets import MASK, masked, secret_values

SCHEMA = {
    "properties": {
        "colour": {"secret": True},
        "token_count": {"secret": False},
        "auth": {"properties": {"user": {"secret": False}, "more": {"properties": {"deep": {"secret": False}}}}},
        "shops": {"items": {"properties": {"pin": {"secret": True}}}},
        "by_name": {"additionalProperties": {"properties": {"pin": {"secret": True}}}},
    }
}
DOCUMENT = {
    "auth": {
        "url": "https://up.example/api?key=q-canary",
        "client_id": "acme",
        "secret": "s-canary",
        "user": "u",
        "oauth": {"scopes": ["o-canary"], "id": 12345678, "on": True, "none": None},
        "empty": None,
    },
    "colour": "c-canary",
    "token_count": 7,
    "api_key": "k-canary",
    "smtp": {"host": "mail", "Password": "p-canary", "ports": [25, {"private_key": "x-canary"}]},
    "shops": [{"pin": "1-canary", "name": "a"}, "plain"],
    "by_name": {"north": {"pin": "2-canary", "name": "b"}},
    "monkey": "shown",
}


def test_secrets_are_masked_by_schema_by_name_and_by_place() -> None:
    assert masked(DOCUMENT, SCHEMA) == {
        "auth": {
            "url": f"https://up.example/api?{MASK}",
            "client_id": "acme",
            "secret": MASK,
            "user": "u",
            "oauth": MASK,
            "empty": None,
        },
        "colour": MASK,
        "token_count": 7,
        "api_key": MASK,
        "smtp": {"host": "mail", "Password": MASK, "ports": [25, {"private_key": MASK}]},
        "shops": [{"pin": MASK, "name": "a"}, "plain"],
        "by_name": {"north": {"pin": MASK, "name": "b"}},
        "monkey": "shown",
    }


def test_what_is_masked_is_what_is_looked_for() -> None:
    canaries = {f"{each}-canary" for each in ("s", "o", "c", "k", "p", "x", "1", "2")}
    assert secret_values(DOCUMENT, SCHEMA) == canaries | {"key=q-canary", "12345678"}


def test_without_a_schema_names_decide() -> None:
    shown = masked(DOCUMENT)
    assert (shown["colour"], shown["token_count"], shown["auth"]["user"]) == ("c-canary", MASK, MASK)


@pytest.mark.parametrize(
    "schema", [{}, {"properties": None}, {"properties": {"colour": True}}, {"items": False}, {"properties": []}]
)
def test_an_odd_schema_hides_no_less(schema: dict[str, object]) -> None:
    assert masked(DOCUMENT, schema) == masked(DOCUMENT)
