import pytest

from handlers.orders.spreadsheet import harmless


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("  =1", "'  =1"),
        ("-12.50", "-12.50"),
        ("+31", "+31"),
        ("plain", "plain"),
        ("a\x00b\x1b", "ab"),
        (-5, -5),
        (None, None),
        (True, True),
    ],
)
def test_a_cell_is_never_a_formula(value: object, shown: object) -> None:
    assert harmless(value) == shown


def test_long_text_is_cut_to_what_a_cell_takes() -> None:
    assert len(harmless("=" + "x" * 40_000)) == 32_767
