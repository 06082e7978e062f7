import csv
import hashlib
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from handlers.contract import Context
from handlers.orders.export import OrderExportHandler
from handlers.results import Completed, Rejected
from schemas.errors import Permanent, Retryable
from tests.handlers.orders.vendor import context

ORDERS: dict[str, dict[str, Any]] = {
    "123": {
        "number": "600001",
        "reference": "=HYPERLINK(1)",
        "status": "in-progress",
        "date": "2026-01-05",
        "total": 99.5,
        "lines": [
            {"productCode": "flyers", "description": "Flyers", "quantity": 500, "price": 99.5, "status": "shipped"},
            {"productCode": "@posters", "quantity": -1, "attributes": [{"attribute": "format", "value": "A4"}]},
        ],
    },
    "125": {"orderNumber": 60001234, "customerReference": "T-125", "grandTotal": "-12.50", "items": []},
}


async def source(ids: Sequence[str], _: Context) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
    for order_id in ids:
        if order_id in ORDERS:
            yield order_id, ORDERS[order_id]


def payload(**changes: Any) -> dict[str, Any]:
    return {"order_ids": [123, 124, 125], "format": "xlsx", "include_items": True, **changes}


async def export(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    done = await OrderExportHandler(source).handle(payload(**changes), context(tmp_path))
    assert isinstance(done, Completed)
    return done.result


async def test_a_workbook_holds_what_was_asked_for(tmp_path: Path) -> None:
    result = await export(tmp_path)

    assert result["missing"] == ["124"]
    assert result["rows"] == {"orders": 2, "items": 2}
    (file,) = result["files"]
    path = tmp_path / file["path"]
    assert path.parent == tmp_path / "exports" / "1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
    book = openpyxl.load_workbook(path, read_only=True)
    orders = list(book["orders"].iter_rows(values_only=True))
    items = list(book["items"].iter_rows(values_only=True))
    book.close()
    assert orders == [
        ("order_id", "number", "reference", "status", "date", "customer_id", "total"),
        ("123", "600001", "'=HYPERLINK(1)", "in-progress", "2026-01-05", None, 99.5),
        ("125", 60001234, "T-125", None, None, None, "-12.50"),
    ]
    assert items == [
        ("order_id", "line", "sku", "description", "quantity", "price", "status", "specs"),
        ("123", 1, "flyers", "Flyers", 500, 99.5, "shipped"),
        ("123", 2, "'@posters", None, -1, None, None, '[{"attribute":"format","value":"A4"}]'),
    ]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


async def test_comma_separated_values_hold_the_same(tmp_path: Path) -> None:
    result = await export(tmp_path, format="csv")

    assert [Path(file["path"]).name.rpartition("-")[2] for file in result["files"]] == ["orders.csv", "items.csv"]
    with (tmp_path / result["files"][0]["path"]).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1] == ["123", "600001", "'=HYPERLINK(1)", "in-progress", "2026-01-05", "", "99.5"]


async def test_orders_that_the_payload_carries_need_no_lookup(tmp_path: Path) -> None:
    result = await export(tmp_path, orders=[{"id": 124, "status": "new"}], include_items=False)
    assert result["missing"] == []
    assert result["rows"] == {"orders": 3}


async def test_a_second_attempt_replaces_the_files_of_the_first(tmp_path: Path) -> None:
    first, second = await export(tmp_path), await export(tmp_path, order_ids=[125])
    assert first["files"][0]["path"] == second["files"][0]["path"]
    assert second["rows"] == {"orders": 1, "items": 0}
    assert len(list((tmp_path / "exports" / "1").iterdir())) == 1


async def test_a_fault_of_the_lookup_leaves_no_file(tmp_path: Path) -> None:
    async def fails(ids: Sequence[str], _: Context) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        yield ids[0], ORDERS["123"]
        raise Retryable("the upstream is away")

    with pytest.raises(Retryable):
        await OrderExportHandler(fails).handle(payload(), context(tmp_path))
    assert list((tmp_path / "exports" / "1").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"order_ids": []}, "at least one order"),
        ({"order_ids": None}, "at least one order"),
        ({"order_ids": [None, True, {}]}, "at least one order"),
        ({"format": "pdf"}, "'pdf' is not known; give xlsx or csv"),
        ({"format": ["xlsx"]}, "is not known"),
    ],
)
async def test_what_cannot_be_exported_is_rejected(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    rejected = await OrderExportHandler(source).handle(payload(**changes), context(tmp_path))
    assert isinstance(rejected, Rejected)
    assert reason in rejected.reason


async def test_without_a_directory_nothing_is_written() -> None:
    with pytest.raises(Permanent, match="no directory for files"):
        await OrderExportHandler(source).handle(payload(), context())
