"""Copies the upstream's catalogue into files of the installation."""

import asyncio
import gzip
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from handlers.contract import Context
from handlers.dwd.client import PrintdealClient
from handlers.results import Completed, Rejected, Result
from schemas.errors import Permanent

_AT_ONCE: Final = 1_000
_LISTED: Final = 200


class CatalogueWebhookHandler:
    """Writes a file for each category: JSON lines, compressed; first its attributes, then combination by combination.

    ``skus`` limits it to some categories. A category whose file is as new as its ``combinationsModifiedAt`` is left as
    it is, so a further attempt goes on where one ended. The list of combinations is never held as a whole.
    """

    timeout_s = 3_600.0

    async def handle(self, payload: dict[str, Any], context: Context) -> Result:
        """``categories``: ``sku``, ``path`` below the installation's files, ``rows`` (``None`` where it was left)."""
        wanted = payload.get("skus")
        if wanted is not None and not isinstance(wanted, list):
            return Rejected("skus must be a list of the upstream's categories, or be left out", code="invalid_sync")
        if context.files_dir is None:
            raise Permanent("this installation has no directory for files", code="no_files_dir")
        directory = context.files_dir / "catalogues" / context.tenant_id
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        client = PrintdealClient(context.config, context.http)
        copied: list[dict[str, Any]] = []
        for category in await client.categories():
            if wanted is not None and category.get("sku") not in wanted:
                continue
            target = directory / _file_name(category)
            rows = None if target.exists() else await _copy(client, category, target)
            path = str(target.relative_to(context.files_dir))
            copied.append({"sku": category.get("sku"), "path": path, "rows": rows})
        missing = sorted({str(sku) for sku in wanted or ()} - {str(each["sku"]) for each in copied})
        return Completed({"categories": copied[:_LISTED], "count": len(copied), "missing": missing[:_LISTED]})


async def _copy(client: PrintdealClient, category: Mapping[str, Any], target: Path) -> int:
    """Write a category's file whole or not at all; how many combinations it has."""
    sku = str(category["sku"])
    unfinished = target.with_suffix(".writing")
    rows, lines = 0, [orjson.dumps({**category, "attributes": await client.attributes(sku)})]
    try:
        with gzip.open(unfinished, "wb", compresslevel=1) as file:
            async for combination in client.combinations(sku):
                rows += 1
                lines.append(orjson.dumps(combination))
                if len(lines) >= _AT_ONCE:
                    await asyncio.to_thread(file.write, b"\n".join(lines) + b"\n")
                    lines.clear()
            await asyncio.to_thread(file.write, b"\n".join([*lines, b""]))
        for older in target.parent.glob(f"{target.name.partition('.')[0]}.*.jsonl.gz"):
            older.unlink()
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return rows


def _file_name(category: Mapping[str, Any]) -> str:
    """``{sku}.{digest}.jsonl.gz``: another one for every state of the category."""
    sku = str(category.get("sku"))
    digest = hashlib.sha256(f"{sku}|{category.get('combinationsModifiedAt')}".encode()).hexdigest()[:12]
    return f"{re.sub('[^A-Za-z0-9-]', '_', sku)[:80]}.{digest}.jsonl.gz"
