"""Writes tables row by row, as xlsx or csv, without keeping them in memory."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from openpyxl import Workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

_LONGEST_TEXT: Final = 32_767
_NUMBER: Final = re.compile(r"[-+]?\d+([.,]\d+)?")
_STARTS_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


class TableWriter(Protocol):
    """Takes rows for named tables; its files are complete once ``close`` has returned."""

    def discard(self) -> None:
        """Let go of everything. Call it at the end, also after ``close``."""

    def write(self, table: str, row: Sequence[object]) -> None:
        """Add a row to a table."""

    def close(self) -> list[Path]:
        """Finish the files and say which they are. May take long, so call it in a thread."""


class XlsxTables:
    """One workbook with a sheet for each table."""

    def __init__(self, stem: Path, tables: Mapping[str, Sequence[str]]) -> None:
        self._path = stem.with_name(f"{stem.name}.xlsx")
        self._book = Workbook(write_only=True)
        self._sheets = {table: self._book.create_sheet(table) for table in tables}
        for table, columns in tables.items():
            self._sheets[table].append(list(columns))

    def write(self, table: str, row: Sequence[object]) -> None:
        """See ``TableWriter``."""
        self._sheets[table].append([harmless(value) for value in row])

    def close(self) -> list[Path]:
        """See ``TableWriter``."""
        self._book.save(self._path)
        return [self._path]

    def discard(self) -> None:
        """See ``TableWriter``."""
        for sheet in self._sheets.values():
            if not sheet.closed:
                # The library keeps a file for each sheet until the book is saved.
                sheet.close()
                sheet._writer.cleanup()


class CsvTables:
    """One file for each table, in UTF-8 with a mark that spreadsheet programs need to see it."""

    def __init__(self, stem: Path, tables: Mapping[str, Sequence[str]]) -> None:
        self._files = {
            table: stem.with_name(f"{stem.name}-{table}.csv").open("w", encoding="utf-8-sig", newline="")
            for table in tables
        }
        self._writers = {table: csv.writer(file) for table, file in self._files.items()}
        for table, columns in tables.items():
            self._writers[table].writerow(columns)

    def write(self, table: str, row: Sequence[object]) -> None:
        """See ``TableWriter``."""
        self._writers[table].writerow([harmless(value) for value in row])

    def close(self) -> list[Path]:
        """See ``TableWriter``."""
        for file in self._files.values():
            file.close()
        return [Path(file.name) for file in self._files.values()]

    def discard(self) -> None:
        """See ``TableWriter``."""
        for file in self._files.values():
            file.close()


def harmless(value: object) -> Any:
    """A value as a cell: text that a spreadsheet would take for a formula is quoted, control characters are dropped."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = ILLEGAL_CHARACTERS_RE.sub("", str(value))[: _LONGEST_TEXT - 1]
    if text.lstrip(" ").startswith(_STARTS_FORMULA) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text
