"""CSV files and their like: opened, looked through once, and read as record batches."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..errors import Hint, SourceFileError
from .arrow import Flaw, arrow_errors, check_distinct, columns_of
from .cells import BOOLEAN, GROUPED, TEXT, Column, Inspection, convert
from .dialect import SNIFFED, CsvOptions, Dialect, decoded, encoding_of, is_number, sniff
from .places import Place

CSV_BYTES = 4 * 2**20  # text parsed at once, if rows are no longer
HEAD_BYTES = 2**18  # looked at first
MOST_HEAD = 2**26  # and at most, until a first row has ended
MOST_BLOCK = 2**28  # of rows that do not end
TAIL_BYTES = 64  # of the end of a file: line ends, and a quote before them
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


@dataclass(frozen=True)
class CsvTable:
    """A CSV file, compressed or not.

    Attributes
    ----------
    place : Place
    dialect : Dialect
    block_bytes : int
        Text that is parsed at once.
    names : tuple of str
    columns : mapping
        What each column holds.
    rows : int
    """

    place: Place
    dialect: Dialect
    block_bytes: int
    names: tuple[str, ...]
    columns: Mapping[str, Column]
    rows: int
    sniffed = True

    @classmethod
    def open(cls, place: Place, options: CsvOptions = SNIFFED) -> CsvTable:
        """Read the first lines, and then all of them, to tell what the columns hold."""
        with arrow_errors(str(place), "CSV"):
            dialect = _sniffed(place, options)
        names = _names(dialect, str(place))
        check_distinct(str(place), names)
        if dialect.records <= dialect.header:
            raise SourceFileError(f"{place} has no rows (or a quote that is never closed)")
        block = max(CSV_BYTES, 4 * dialect.longest)
        table = cls(place, dialect, block, names, {}, 0)
        while True:
            try:
                found = table._inspected()
            except LongRowError as error:
                table = replace(table, block_bytes=2 * table.block_bytes)
                if table.block_bytes > MOST_BLOCK:
                    raise SourceFileError(
                        f"{place} has a row of more than {MOST_BLOCK // 2:,} bytes; is a quote "
                        "never closed?"
                    ) from error
            else:
                columns = dict(zip(names, found.columns(), strict=True))
                return replace(table, columns=columns, rows=found.rows)

    @property
    def where(self) -> str:
        """What messages call it."""
        return str(self.place)

    @cached_property
    def types(self) -> Mapping[str, Any]:
        """Arrow types of the columns: int64, float64, bool or string."""
        return {name: column.type for name, column in self.columns.items()}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What nobody said but the file showed, a line each."""
        said = list(self.dialect.remarks)
        for kind, what in (
            (GROUPED, f"the thousands separator is {self.dialect.thousands!r} in"),
            (BOOLEAN, "true or yes is 1, false or no is 0 in"),
        ):
            named = [f"'{n}'" for n, column in self.columns.items() if column.kind == kind]
            if named and not (kind == GROUPED and self.dialect.grouping_given):
                said.append(f"{what} {_listed(named)}")
        units = dict.fromkeys(column.unit for column in self.columns.values() if column.unit)
        for unit in units:
            named = [f"'{n}'" for n, column in self.columns.items() if column.unit == unit]
            said.append(f"numbers with {unit} in {_listed(named)}")
        return tuple(said)

    def unit(self, name: str) -> str:
        """Return what stands before or behind every number of a column."""
        return self.columns[name].unit

    def flaw(self, name: str) -> Flaw | None:
        """Return what is wrong with a column; None where all is well."""
        return self.columns[name].flaw

    def batches(self, columns: Mapping[str, Any]) -> Iterator[Any]:
        """Yield record batches of some columns; one with the type string comes as it is written."""
        import pyarrow as pa

        alike: dict[Column, list[str]] = {}
        for name, kind in columns.items():
            as_text = Column(TEXT, pa.string())
            column = as_text if kind == pa.string() else self.columns[name]._replace(flaw=None)
            alike.setdefault(column, []).append(name)
        for batch in self._texts(list(columns)):
            held = columns_of(batch)
            done: dict[str, Any] = {}
            with arrow_errors(self.where, "CSV"):
                for column, names in alike.items():
                    texts = [held[name] for name in names]
                    done.update(zip(names, convert(texts, column, self.dialect), strict=True))
            yield pa.record_batch([done[name] for name in columns], names=list(columns))

    def _inspected(self) -> Inspection:
        found, last = Inspection.start(self.dialect, len(self.names)), ""
        for batch in self._texts(list(self.names)):
            found.look(batch.columns)
            last = batch.columns[-1][-1].as_py() if batch.num_rows else last
        if ("\n" in last or "\r" in last) and not _ends_quoted(self.place):
            raise SourceFileError(
                f"{self.where} ends within quotes: a quote is never closed, and the last row takes "
                f"in what stands after it, {last[:40]!r}; close the quote"
            )
        return found

    def _texts(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield record batches of text."""
        import pyarrow as pa
        from pyarrow import csv

        dialect = self.dialect
        reading = csv.ReadOptions(
            block_size=self.block_bytes,
            column_names=list(self.names),
            skip_rows=dialect.above,
            skip_rows_after_names=int(dialect.header),
            use_threads=False,
            encoding="utf8" if dialect.comment else _arrow_name(dialect.encoding),
        )
        parsing = csv.ParseOptions(delimiter=dialect.delimiter, newlines_in_values=True)
        converting = csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            strings_can_be_null=False,
        )
        with ExitStack() as stack:
            stack.enter_context(arrow_errors(self.where, "CSV"))
            stack.enter_context(_csv_errors(self.where, dialect))
            stream = stack.enter_context(_stream(self.place))
            if dialect.comment:
                stream = pa.PythonFile(_Uncommented(stream, dialect), mode="r")
            yield from stack.enter_context(csv.open_csv(stream, reading, parsing, converting))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


UNEVEN = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")


class LongRowError(Exception):
    """A row does not fit into a block."""


@contextmanager
def _csv_errors(where: str, dialect: Dialect) -> Iterator[None]:
    """Say what to do about rows that are too long, and text in another encoding."""
    from pyarrow import ArrowInvalid

    try:
        yield
    except (ArrowInvalid, UnicodeDecodeError) as error:
        text = str(error)
        if "straddl" in text:
            raise LongRowError from error
        if uneven := UNEVEN.search(text):
            raise _uneven_rows(where, *map(int, uneven.groups())) from error
        if isinstance(error, UnicodeDecodeError) or "UTF8" in text:
            raise SourceFileError(
                f"{where} has bytes that are no {dialect.encoding}",
                Hint(
                    "name its encoding, as encoding='cp1252'",
                    "name its encoding, as --encoding cp1252",
                ),
            ) from error
        raise


def _uneven_rows(where: str, row: int, wanted: int, found: int) -> SourceFileError:
    """Return the error for a row that has not as many cells as the header has names."""
    why = "a comma or quote too many or too few, or what stands above or below the table"
    if row == 2 and found == wanted + 1:
        why = "row names without a column name (give it one), or a delimiter at the end of rows"
    return SourceFileError(
        f"{where}: row {row} of the file has {found} cells, but its header {wanted} names: {why}"
    )


class _Uncommented(io.RawIOBase):
    """A stream in UTF-8 without the comment lines of another one."""

    def __init__(self, stream: Any, dialect: Dialect) -> None:
        super().__init__()
        self._lines = io.TextIOWrapper(
            io.BufferedReader(stream), encoding=dialect.encoding, newline=""
        )
        self._comment, self._quotes, self._left = dialect.comment, 0, b""

    def readable(self) -> bool:
        return True

    def readinto(self, out: Any) -> int:
        parts, size = [self._left], len(self._left)
        while size < len(out) and (line := self._lines.readline()):
            if self._quotes % 2 or not line.startswith(self._comment):
                self._quotes += line.count('"')
                parts.append(line.encode())
                size += len(parts[-1])
        whole = b"".join(parts)
        count = min(len(whole), len(out))
        out[:count], self._left = whole[:count], whole[count:]
        return count


@contextmanager
def _stream(place: Place) -> Iterator[Any]:
    """Open a file, unpacked where its name says that it is packed."""
    import pyarrow as pa

    with place.open() as handle:
        ends = (codec for end, codec in COMPRESSED.items() if place.name.lower().endswith(end))
        packed = next(ends, None)
        plain = pa.PythonFile(handle, mode="r")
        yield pa.CompressedInputStream(plain, packed) if packed else plain


def _ends_quoted(place: Place) -> bool:
    """Return whether the last cell of a file is closed by a quote."""
    tail = b""
    with _stream(place) as stream:
        while more := stream.read(CSV_BYTES):
            tail = (tail + more)[-TAIL_BYTES:]
    return tail.replace(b"\0", b"").rstrip().endswith(b'"')  # in UTF-16 and UTF-32 too


def _sniffed(place: Place, options: CsvOptions) -> Dialect:
    """Look at the first bytes, and at more of them until two rows have ended."""
    with _stream(place) as stream:
        head, size = b"", HEAD_BYTES
        while True:
            more = stream.read(size - len(head))
            head += more
            complete = len(head) < size
            encoding = encoding_of(head, str(place), options)
            text = decoded(head, encoding, str(place))
            dialect = sniff(text, (encoding, complete), place.name, options)
            if complete or dialect.records > 1:
                return dialect
            if size >= MOST_HEAD:
                raise SourceFileError(
                    f"{place} has no second row within {MOST_HEAD:,} bytes; is it a CSV file?"
                )
            size *= 4


def _names(dialect: Dialect, where: str) -> tuple[str, ...]:
    """Return the columns' names; blanks and line breaks in them become single blanks."""
    if not dialect.header:
        return tuple(f"c{k}" for k in range(len(dialect.first)))
    names = [" ".join(name.split()) for name in dialect.first]
    if not names or all(is_number(name, dialect.decimal) for name in names):
        raise SourceFileError(
            f"{where}: the first line must hold the columns' names",
            Hint("where it holds data, say header=False", "where it holds data, say --no-header"),
        )
    for k, name in enumerate(names):  # as pandas calls them
        if not name:
            names[k] = f"Unnamed: {k}.1" if f"Unnamed: {k}" in names else f"Unnamed: {k}"
    return tuple(names)


def _arrow_name(encoding: str) -> str:
    return "utf8" if encoding in ("utf-8", "utf-8-sig") else encoding
