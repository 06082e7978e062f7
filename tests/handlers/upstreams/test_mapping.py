import pytest

from handlers.upstreams.mapping import cents, map_sku, map_specifications, renamed
from schemas.errors import Permanent, Retryable


def test_products_are_mapped_passed_or_refused() -> None:
    config = {"sku_map": {"A": "a-1"}}
    assert map_sku("A", config) == "a-1"
    assert map_sku("B", config) == "B"
    assert map_sku("A", {"sku_map": "wrong"}) == "A"
    with pytest.raises(Permanent, match="add it to the tenant's configuration") as caught:
        map_sku("B", config | {"unmapped_sku": "reject"})
    assert caught.value.code == "unmapped_sku"


def test_specifications_are_renamed_in_a_fixed_order() -> None:
    item = {"specs": {"b": 2, "a": 1}}
    assert list(map_specifications(item, {"specification_map": {"b": "Paper"}}).items()) == [("a", 1), ("Paper", 2)]
    assert map_specifications({"specs": "red"}, {}) == {}


def test_the_first_name_with_a_value_counts() -> None:
    names = {"zip": ("zip", "postcode"), "city": ("city",)}
    assert renamed({"zip": "", "postcode": "1000", "country": "nl"}, names) == {"zip": "1000"}


@pytest.mark.parametrize(("price", "whole"), [(12.5, 1250), (0.29, 29), (99, 9900), (0, 0), (1.005, 100)])
def test_prices_are_whole_cents(price: float, whole: int) -> None:
    assert cents(price) == whole


@pytest.mark.parametrize("price", [None, "12", True, float("nan"), float("inf")])
def test_what_is_no_price_is_asked_for_again(price: object) -> None:
    with pytest.raises(Retryable):
        cents(price)
