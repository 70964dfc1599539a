"""What every reader has: a spec, a row count and a stream of blocks; and what readers share.

A new reader is one file in this folder: a function of a place and `ReaderOptions` that returns a
`Reader` (a `StreamReader` will do), with the decorator `reads` above it.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from ..declared_types import check_types
from ..display import size
from ..errors import InvalidDataError, InvalidOptionError, SourceFileError
from ..labels import one_spelling
from ..store import Block, StoreSpec
from .dialect import SNIFFED, CsvOptions
from .places import Place
from .splits import NOTHING_DRAWN, RowKeys, SplitOptions

BLOCK_BYTES = 16 * 2**20  # most bytes of features in a block
BLOCK_ROWS = 8_192  # and most rows
READ_BYTES = 2**20  # most asked of a file at once: gzip and zip hold twice as much
MOST_ROW = 256 * 2**20  # bytes of a row of features or labels
MOST_COLUMNS = 2**24
HASH_BYTES = 256 * 2**20  # larger source files get no SHA-256 in the provenance
SEARCH_DEPTH = 2  # levels below the source folder in which official files are looked for
MOST_CLASSES = 65_536  # names of text labels that are kept
MOST_GROUPS = 32_767  # split codes are int16
COLUMN_OPTIONS = ("x", "y", "split", "target", "id", "drop", "impute", "encode")
OWN_OPTIONS = (*COLUMN_OPTIONS, "resize", "gray")  # that only some sources have


class Reader(Protocol):
    """A source of blocks.

    Attributes
    ----------
    spec : StoreSpec
    rows : int or None
        Rows in all blocks together, where that is known before they are read.
    remarks : sequence of str
        What whoever reads should know: files that are left out, decisions on how others are read.
    """

    @property
    def spec(self) -> StoreSpec: ...

    @property
    def rows(self) -> int | None: ...

    @property
    def remarks(self) -> Sequence[str]: ...

    def blocks(self) -> Iterator[Block]:
        """Yield the rows in order, from the first one on at every call."""
        ...


class ReaderKeywords(TypedDict, total=False):
    """The fields of `ReaderOptions` and its `CsvOptions`, as `append` takes them."""

    x: str
    y: str
    split: str | None
    target: str | None
    labels: str | None
    scale: float | str | None
    seed: int
    name: str | None
    id: str | None
    drop: Sequence[str]
    impute: str | None
    encode: str | None
    prepare: str
    preparation: Any
    resize: str | tuple[int, int] | None
    gray: bool | None
    source_options: Mapping[str, Any] | None
    delimiter: str | None
    decimal: str | None
    thousands: str | None
    encoding: str | None
    header: bool
    comment: str | None


class IngestKeywords(ReaderKeywords, total=False):
    """What `ingest` takes: also the fields of `SplitOptions`."""

    test_size: float | int | None
    stratify: bool
    group: str | None
    folds: int | None


SPLIT_NAMES = tuple(option.name for option in fields(SplitOptions))
CSV_NAMES = tuple(option.name for option in fields(CsvOptions))


@dataclass(frozen=True)
class ReaderOptions:
    """How a source is read.

    Attributes
    ----------
    x, y : str
        Names of the feature and label arrays in an ``.npz`` file. For an ``.npy`` file, which
        holds the features, `y` is the file of the labels.
    split : str, optional
        Array (``.npz``), file (``.npy``) or column (tables) with the group of every row.
    target : str, optional
        Label column of a table; needed unless a column is called y, label, target or class.
    labels : {"categorical", "real", "vector"}, optional
        What labels mean, where their dtype tells it wrong.
    scale : float or {"standard", "minmax", "robust", "none"}, optional
        Features are multiplied by this before any distance; or how the columns of a table are
        scaled (see `PreparationOptions`).
    seed : int
        Of random train/test splits.
    name : str, optional
        What the data set is called in titles.
    id : str, optional
        Column of a table that names the rows; it is no feature.
    drop, impute, encode, prepare
        What becomes of the columns of a table, as `PreparationOptions` says.
    preparation : Preparation, optional
        Of the rows that those of a table follow; fitted to them where it is not given.
    resize : str or (int, int), optional
        Width and height that all images of a folder are brought to: "64x48" or (64, 48).
    gray : bool, optional
        Whether images of a folder are read as grey ones; where all files are grey by default.
    source_options : mapping, optional
        Options for fsspec where the source is a URL.
    csv : CsvOptions
        How a CSV file is written, where its first lines tell it wrong.
    drawn : SplitOptions
        How a split is drawn, of a source that has none; `ingest` alone takes them.
    """

    x: str = "X"
    y: str = "y"
    split: str | None = None
    target: str | None = None
    labels: str | None = None
    scale: float | str | None = None
    seed: int = 0
    name: str | None = None
    id: str | None = None
    drop: Sequence[str] = ()
    impute: str | None = None
    encode: str | None = None
    prepare: str = "auto"
    preparation: Any = None
    resize: str | tuple[int, int] | None = None
    gray: bool | None = None
    source_options: Mapping[str, Any] | None = field(default=None, hash=False)
    csv: CsvOptions = SNIFFED
    drawn: SplitOptions = NOTHING_DRAWN

    @classmethod
    def of(cls, options: ReaderOptions | None, keywords: ReaderKeywords) -> ReaderOptions:
        """Return options, or those that keywords make: one of both.

        Raises
        ------
        InvalidOptionError
            Where both are given.
        TypeError
            For a keyword that is none.
        """
        if options is not None and keywords:
            raise InvalidOptionError(
                f"{', '.join(keywords)} and options are both given; put {next(iter(keywords))} "
                "into the ReaderOptions, or give keywords alone"
            )
        if options is not None:
            return options
        own: dict[str, Any] = dict(keywords)
        written = {name: own.pop(name) for name in CSV_NAMES if name in own}
        drawn = {name: own.pop(name) for name in SPLIT_NAMES if name in own}
        return cls(**own, csv=CsvOptions(**written), drawn=SplitOptions(**drawn))

    def __post_init__(self) -> None:
        object.__setattr__(self, "drop", _names(self.drop))
        check_types(self)
        if self.seed < 0:
            raise InvalidOptionError(f"seed must not be negative, but is {self.seed}")
        if self.split is not None and self.drawn.asked:
            raise InvalidOptionError(
                f"split={self.split!r} names the groups that there are, so none are drawn; leave "
                f"it or {'test_size' if self.drawn.folds is None else 'folds'} away"
            )

    def allow(self, what: str, *names: str) -> None:
        """Refuse options of some sources, of arrays, columns, images or CSV files, it ignores."""
        defaults = {field.name: field.default for field in fields(self)}
        for name in OWN_OPTIONS:
            if name not in names and getattr(self, name) != defaults[name]:
                known = [n for n in names if n != "csv"]
                takes = f"takes only {', '.join(known)}" if known else "takes none of these"
                raise InvalidOptionError(
                    f"option {name}={getattr(self, name)!r} means nothing to {what}, which {takes}"
                )
        if self.drawn.group is not None and "group" not in names:
            raise InvalidOptionError(
                f"option group={self.drawn.group!r} means nothing to {what}: there is no column "
                "beside the features and labels"
            )
        for option in fields(self.csv) if "csv" not in names else ():
            given = getattr(self.csv, option.name)
            if given != option.default:
                raise InvalidOptionError(
                    f"option {option.name}={given!r} means nothing to {what}, but to CSV files"
                )

    def factor(self, what: str) -> float:
        """Return the scale as a number, for what has no columns to fit one to."""
        if isinstance(self.scale, str):
            raise InvalidOptionError(
                f"scale={self.scale!r} is for the columns of a table; {what} takes a factor"
            )
        return 1.0 if self.scale is None else self.scale

    def apply(self, spec: StoreSpec) -> StoreSpec:
        """Return the spec with name, scale and label kind replaced where they were given."""
        if self.labels == "vector" and spec.label_kind != "vector":
            raise InvalidOptionError(
                f"labels of {spec.name} are single values; choose categorical or real, or give "
                "labels of shape (samples, m) in an .npz or .npy file"
            )
        return replace(
            spec,
            name=self.name or spec.name,
            scale=spec.scale if self.scale is None else self.factor(spec.name),
            label_kind=self.labels or spec.label_kind,
        )


def _names(value: Any) -> Any:
    """Return one name, or several, as a tuple; what is neither stays as it is."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, Iterable) else value


Opener = Callable[[Any, ReaderOptions], Reader]
READERS: dict[str, Opener] = {}
FOLDER = "/"
PARTS = "/parts"
SAVED = "/saved"


def reads(*what: str) -> Callable[[Any], Any]:
    """Make the function below it the reader of what a user names.

    Parameters
    ----------
    *what : str
        Data sets ("mnist"): it is called with the folder of their files, None where none is given.
        Ends of files' names (".csv"): with the path of the file. Beginnings ("openml:"): with the
        rest of the name. FOLDER: with the path of any folder. PARTS: with the `Place` of a folder
        that holds the parts of a table. SAVED: with that of a Hugging Face dataset.
    """

    def register(opener: Any) -> Any:
        READERS.update(dict.fromkeys(what, opener))
        return opener

    return register


@dataclass(frozen=True)
class StreamReader:
    """A reader whose blocks come from a function without arguments.

    Attributes
    ----------
    spec, rows
        As those of every `Reader`.
    stream : callable
    remarks : tuple of str
        What nobody said but the source showed, a line each.
    keys : callable, optional
        Yields what a split is drawn by, of all rows, for less than reading them.
    part : callable, optional
        Takes lo and hi, and returns what yields the rows lo:hi, here or in another process; None
        where rows are only found behind those before them.
    grain : int
        Rows that are read as a whole wherever one of them is: parts had better be longer.
    """

    spec: StoreSpec
    rows: int | None
    stream: Callable[[], Iterator[Block]]
    remarks: tuple[str, ...] = ()
    keys: Callable[[], Iterator[RowKeys]] | None = None
    part: Callable[[int, int], Callable[[], Iterator[Block]]] | None = None
    grain: int = 1

    def blocks(self) -> Iterator[Block]:
        """Yield the rows in order, from the first one on at every call."""
        return self.stream()


def block_rows(row_bytes: int) -> int:
    """Return how many rows of features make a block."""
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(row_bytes, 1)))


def constant_split(rows: int, code: int) -> NDArray[np.int16]:
    """Return the split codes, shape (rows,), of rows that are all in one group."""
    return np.full(rows, code, np.int16)


def array_blocks(
    features: NDArray[Any],
    labels: NDArray[Any],
    split: NDArray[np.int16],
    ids: NDArray[Any] | None = None,
) -> Iterator[Block]:
    """Cut arrays in memory, of shapes (n, d), (n,), (n,) and (n,), into blocks."""
    step = block_rows(features[:1].nbytes)
    for a in range(0, len(features), step):
        rows = slice(a, a + step)
        yield Block(features[rows], labels[rows], split[rows], None if ids is None else ids[rows])


# -- files -------------------------------------------------------------------------------------


@contextmanager
def source_errors(path: Path | str, form: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into an error that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceFileError(f"there is no file {path}") from error
    except EOFError as error:
        raise SourceFileError(
            f"{path} ends too early: it is truncated; download or copy it again"
        ) from error
    except (MemoryError, RecursionError) as error:
        what = "nested deeper" if isinstance(error, RecursionError) else "larger"
        raise SourceFileError(
            f"{path} is {what} than this machine can hold; is it what it seems to be?"
        ) from error
    except (OSError, zlib.error) as error:
        raise SourceFileError(f"{path} cannot be read as {form}: {error}") from error


def check_row(where: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse rows that no block could hold; a header may promise anything.

    Raises
    ------
    InvalidDataError
    """
    columns = math.prod(shape[1:])
    if columns > MOST_COLUMNS or columns * itemsize > MOST_ROW:
        raise InvalidDataError(
            f"{where} has the shape {shape}: a row of {columns:,} values takes "
            f"{size(columns * itemsize)}, more than {MOST_COLUMNS:,} values or {size(MOST_ROW)}; "
            "save it with samples along the first axis, or with fewer columns"
        )


def fill(handle: IO[bytes], out: NDArray[Any]) -> None:
    """Read a contiguous array's bytes from a handle, without a copy.

    Raises
    ------
    EOFError
        Where the handle ends before the array is full.
    """
    if not out.nbytes:
        return
    view = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    at = 0
    while at < len(view):
        count = handle.readinto(view[at : at + READ_BYTES])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        at += count


def expect_end(handle: IO[bytes], path: Path, rows: int) -> None:
    """Refuse bytes after the last row (and let gzip and zip compare their checksums)."""
    if handle.read(1):
        raise SourceFileError(
            f"{path} goes on after its {rows:,} rows: its header or its length is wrong; "
            "download or copy it again"
        )


def folders(source: Path) -> Iterator[Path]:
    """Yield a folder and those below it, `SEARCH_DEPTH` levels down, the nearest first."""
    if not source.is_dir():
        what = "is a file" if source.exists() else "does not exist"
        raise SourceFileError(f"{source} {what}; give the folder of the files")
    level = [source]
    for depth in range(SEARCH_DEPTH + 1):
        yield from level
        if depth < SEARCH_DEPTH:
            level = sorted(path for folder in level for path in _subfolders(folder))


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir()]
    except PermissionError:
        return []


def provenance(reader: str, paths: Sequence[Path | Place] = (), **more: Any) -> dict[str, Any]:
    """Tell which reader read which files: names, bytes; SHA-256 of local ones up to 256 MiB."""
    files = []
    for path in paths:
        place = Place.of(path)
        with source_errors(place.address, "a file"):
            entry: dict[str, Any] = {"name": place.name, "bytes": place.size}
            if place.local and entry["bytes"] <= HASH_BYTES:
                with Path(place.address).open("rb") as handle:
                    entry["sha256"] = hashlib.file_digest(handle, "sha256").hexdigest()
        files.append(entry)
    return {"reader": reader, **({"files": files} if files else {}), **more}


# -- names to codes ----------------------------------------------------------------------------


def distinct(parts: Iterator[NDArray[Any]], most: int, what: str) -> tuple[Any, ...]:
    """Return the distinct values of a streamed array in the order of their first appearance."""
    seen: dict[Any, None] = {}
    for part in parts:
        values, first = np.unique(part, return_index=True)
        seen.update(dict.fromkeys(values[np.argsort(first)].tolist()))
        if len(seen) > most:
            raise InvalidDataError(f"{what} has more than {most:,} different values; is it right?")
    return tuple(seen)


def coded_classes(
    texts: Sequence[str], where: str, *, in_order: bool = False
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the classes of text labels, and the position of that of every text.

    in_order: whether the classes are in the order of the texts; they are sorted otherwise.

    Raises
    ------
    InvalidDataError
        As `one_spelling`.
    """
    called = one_spelling(texts, where)
    names = dict.fromkeys(called.values())
    classes = tuple(names if in_order else sorted(names))
    positions = {name: code for code, name in enumerate(classes)}
    return classes, {text: positions[name] for text, name in called.items()}


def encode(values: NDArray[Any], codes: Mapping[Any, int], dtype: Any) -> NDArray[Any]:
    """Replace values, shape (b,), by their codes."""
    known, inverse = np.unique(values, return_inverse=True)
    return np.array([codes[value] for value in known.tolist()], dtype)[inverse]
