"""Orders as a file: a workbook, or comma-separated values."""

import asyncio
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from handlers.contract import Context
from handlers.orders.spreadsheet import CsvTables, TableWriter, XlsxTables
from handlers.results import Completed, Rejected, Result
from schemas.errors import Permanent

Source: TypeAlias = Callable[[Sequence[str], Context], AsyncIterator[tuple[str, Mapping[str, Any]]]]
"""Finds orders by the tenant's ids: each id that it knows with the order's attributes, ``items`` or ``lines`` among
them, in any order."""

_MISSING_LISTED: Final = 1000
_FORMATS: Final[Mapping[str, Callable[[Path, Mapping[str, Sequence[str]]], TableWriter]]] = {
    "xlsx": XlsxTables,
    "csv": CsvTables,
}
_ORDER_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "number": ("number", "orderNumber", "order_number"),
    "reference": ("reference", "customerReference"),
    "status": ("status",),
    "date": ("date", "createdAt", "created_at"),
    "customer_id": ("customer_id", "customerId"),
    "total": ("total", "grandTotal"),
}
_ITEM_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "sku": ("sku", "productCode", "productSku"),
    "description": ("description", "productName"),
    "quantity": ("quantity", "copies"),
    "price": ("price", "grandTotal"),
    "status": ("status",),
    "specs": ("specs", "options", "attributes"),
}


class OrderExportHandler:
    """Writes the orders of ``order_ids`` to a file of the tenant.

    The payload has ``order_ids``, ``format`` (xlsx or csv) and ``include_items``; orders that it carries itself under
    ``orders`` are taken from there, the others from ``source``.
    """

    timeout_s = 600.0

    def __init__(self, source: Source) -> None:
        self._source = source

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """``files`` (``path`` below the installation's files, ``sha256``, ``size_bytes``), ``rows`` and ``missing``.

        The files of one event have the same names in every attempt, and are there whole or not at all.
        """
        kind = payload.get("format", "xlsx")
        if not _wanted(payload)[1]:
            return Rejected("order_ids must list at least one order", code="invalid_export")
        if not isinstance(kind, str) or kind not in _FORMATS:
            return Rejected(f"format {kind!r:.40} is not known; give {' or '.join(_FORMATS)}", code="invalid_export")
        if context.files_dir is None:
            raise Permanent("this installation has no directory for files", code="no_files_dir")
        tables = {"orders": ["order_id", *_ORDER_COLUMNS]}
        if payload.get("include_items") is True:
            tables["items"] = ["order_id", "line", *_ITEM_COLUMNS]
        directory = context.files_dir / "exports" / context.tenant_id
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".writing-") as scratch:
            writer = _FORMATS[kind](Path(scratch) / f"{context.event_id}-{context.run}", tables)
            try:
                rows, missing = await self._fill(writer, tables, payload, context)
                paths = await asyncio.to_thread(writer.close)
            finally:
                writer.discard()
            files = await asyncio.to_thread(_publish, paths, directory, context.files_dir)
        return Completed(
            {
                "format": kind,
                "files": files,
                "rows": rows,
                "missing": missing[:_MISSING_LISTED],
                "missing_count": len(missing),
            }
        )

    async def _fill(
        self, writer: TableWriter, tables: Collection[str], payload: Mapping[str, Any], context: Context
    ) -> tuple[dict[str, int], list[str]]:
        """Write every order that is found; the number of rows of each table, and the ids that are missing."""
        own, ids = _wanted(payload)
        rows, missing = dict.fromkeys(tables, 0), dict.fromkeys(ids)
        for order_id in [each for each in ids if each in own]:
            del missing[order_id]
            _write(writer, order_id, own[order_id], rows)
        if missing:
            async for order_id, order in self._source(list(missing), context):
                del missing[order_id]
                _write(writer, order_id, order, rows)
        return rows, list(missing)


def _wanted(payload: Mapping[str, Any]) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Orders that the payload carries, by id, and the ids to export, each once."""
    carried = payload.get("orders")
    own: dict[str, Mapping[str, Any]] = {
        str(each.get("order_id", each.get("id"))): each
        for each in (carried if isinstance(carried, list) else ())
        if isinstance(each, dict)
    }
    ids = payload.get("order_ids")
    wanted = ids if isinstance(ids, list) else list(own)
    usable = (str(each) for each in wanted if isinstance(each, str | int) and not isinstance(each, bool))
    return own, list(dict.fromkeys(each for each in usable if each))


def _write(writer: TableWriter, order_id: str, order: Mapping[str, Any], rows: dict[str, int]) -> None:
    writer.write("orders", [order_id, *(_value(order, names) for names in _ORDER_COLUMNS.values())])
    rows["orders"] += 1
    if "items" not in rows:
        return
    items = order.get("items", order.get("lines"))
    for number, item in enumerate(items if isinstance(items, list) else (), start=1):
        if isinstance(item, Mapping):
            writer.write("items", [order_id, number, *(_value(item, names) for names in _ITEM_COLUMNS.values())])
            rows["items"] += 1


def _value(source: Mapping[str, Any], names: Sequence[str]) -> object:
    value = next((source[name] for name in names if source.get(name) is not None), None)
    return orjson.dumps(value).decode() if isinstance(value, Mapping | list) else value


def _publish(paths: Sequence[Path], directory: Path, files_dir: Path) -> list[dict[str, Any]]:
    """Move finished files to their place and describe them."""
    described: list[dict[str, Any]] = []
    for path in paths:
        path.chmod(0o600)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        target = Path(shutil.move(path, directory / path.name))
        described.append(
            {"path": str(target.relative_to(files_dir)), "sha256": digest, "size_bytes": target.stat().st_size}
        )
    return described
