"""Bounds hold, and the check itself is linear in what it is given."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.limits import MAX_JSON_DEPTH, MAX_PAYLOAD_BYTES, check_json_depth

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\ab', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='{["\\', max_size=4), inner, max_size=3)
    ),
    max_leaves=40,
)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max((_depth(item) for item in inner), default=0)


@given(values, st.integers(0, 6))
def test_depth_is_that_of_the_parsed_value(value: Any, limit: int) -> None:
    text = json.dumps(value)
    if _depth(value) <= limit:
        check_json_depth(text, limit)
    else:
        with pytest.raises(ValueError, match=f"more than {limit} levels"):
            check_json_depth(text, limit)


def test_the_bound_itself() -> None:
    check_json_depth("[" * MAX_JSON_DEPTH + "]" * MAX_JSON_DEPTH)
    with pytest.raises(ValueError, match="32 levels"):
        check_json_depth("[" * (MAX_JSON_DEPTH + 1) + "]" * (MAX_JSON_DEPTH + 1))


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    "text", ['"' + '\\"' * (MAX_PAYLOAD_BYTES // 2), '"\\' * (MAX_PAYLOAD_BYTES // 2), "[]" * (MAX_PAYLOAD_BYTES // 2)]
)
def test_hostile_text_takes_no_longer_than_its_length(text: str) -> None:
    check_json_depth(text + "{}" * (MAX_JSON_DEPTH + 1))
