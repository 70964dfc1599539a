"""Tables as Arrow record batches: CSV files, Parquet files and tables in memory."""

from __future__ import annotations

import csv
import gzip
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InvalidDataError, SourceFileError
from .reader import block_rows, source_errors

if TYPE_CHECKING:
    import pyarrow as pa

CSV_BYTES = 4 * 2**20  # text parsed at once
_MISSING = ("", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None")
MISSING = [blank + text for text in _MISSING for blank in ("", " ")]


class Table(Protocol):
    """Named columns of a source, read batch by batch."""

    @property
    def where(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def types(self) -> Mapping[str, Any]:
        """Arrow types of the columns; empty where the source has none."""
        ...

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns, with the given Arrow types."""
        ...


class ColumnTypeError(InvalidDataError):
    """A column of text holds a value that is not of the type it is read as."""

    def __init__(self, message: str, column: str) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True)
class CsvTable:
    """A CSV file, gzipped or not, with the columns' names in its first line."""

    path: Path
    names: tuple[str, ...]
    types: Mapping[str, Any]

    @property
    def where(self) -> str:
        """What messages call it."""
        return str(self.path)

    @classmethod
    def open(cls, path: Path) -> CsvTable:
        """Read the first line; blanks around names are dropped."""
        with source_errors(path, "CSV"):
            try:
                opened = gzip.open if path.suffix == ".gz" else open
                with opened(path, "rt", encoding="utf-8-sig", newline="") as handle:
                    header = next(csv.reader(handle), [])
            except (UnicodeDecodeError, csv.Error) as error:
                raise SourceFileError(f"{path} is no CSV file in UTF-8: {error}") from error
        names = tuple(name.strip() for name in header)
        if "" in names:
            raise SourceFileError(
                f"{path}: column {names.index('') + 1} has no name in the first line (an index?); "
                "name it, or drop it"
            )
        _check_distinct(path, names)
        if not names or all(_is_number(name) for name in names):
            raise SourceFileError(f"{path}: the first line must hold the columns' names")
        return cls(path, names, {})

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns, with the given Arrow types."""
        from pyarrow import csv as arrow

        reading = arrow.ReadOptions(
            block_size=CSV_BYTES, column_names=list(self.names), skip_rows=1, use_threads=False
        )
        converting = arrow.ConvertOptions(
            include_columns=list(columns),
            column_types=dict(columns),
            null_values=MISSING,
            strings_can_be_null=False,
        )
        with (
            _arrow_errors(self.path, "CSV", self.names),
            arrow.open_csv(self.path, reading, convert_options=converting) as batches,
        ):
            yield from batches


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file."""

    path: Path
    names: tuple[str, ...]
    types: Mapping[str, Any]

    @property
    def where(self) -> str:
        """What messages call it."""
        return str(self.path)

    @classmethod
    def open(cls, path: Path) -> ParquetTable:
        """Read the schema."""
        from pyarrow import parquet

        with _arrow_errors(path, "Parquet"), parquet.ParquetFile(path) as handle:
            schema = handle.schema_arrow
        _check_distinct(path, schema.names)
        return cls(path, tuple(schema.names), dict(zip(schema.names, schema.types, strict=True)))

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns."""
        from pyarrow import parquet

        step = block_rows(8 * len(columns))
        with _arrow_errors(self.path, "Parquet"), parquet.ParquetFile(self.path) as handle:
            yield from handle.iter_batches(step, columns=list(columns), use_threads=False)


@dataclass(frozen=True)
class MemoryTable:
    """An Arrow table in memory."""

    where: str
    table: pa.Table

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.table.column_names)

    @property
    def types(self) -> Mapping[str, Any]:
        """Arrow types of the columns."""
        return dict(zip(self.table.schema.names, self.table.schema.types, strict=True))

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns."""
        picked = self.table.select(list(columns))
        yield from picked.to_batches(max_chunksize=block_rows(8 * len(columns)))


@contextmanager
def _arrow_errors(path: Path, form: str, names: Sequence[str] = ()) -> Iterator[None]:
    """Name the file, and the column where a value has the wrong type."""
    from pyarrow import ArrowException

    with source_errors(path, form):
        try:
            yield
        except (InvalidDataError, SourceFileError):
            raise
        except ArrowException as error:
            text = str(error)
            match = re.match(r"In CSV column #(\d+): (?:Row #(\d+): )?CSV conversion error", text)
            if not match:
                raise SourceFileError(
                    f"{path} is no {form} file, or a damaged one: {text}"
                ) from error
            line = f", line {match[2]}" if match[2] else ""
            name = names[int(match[1])]
            raise ColumnTypeError(
                f"{path}: column '{name}'{line}: {text.rsplit(': ', 1)[-1]}; "
                "features must be numbers: drop the column or encode it first",
                name,
            ) from error


def _check_distinct(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SourceFileError(f"{path}: two columns are called '{twice[0]}'; rename one")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
