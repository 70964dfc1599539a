"""From what the user names to a reader, and from there into a store."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from ..clients import shares_process
from ..declared_types import checked_arguments
from ..display import meant
from ..errors import Hint, InvalidOptionError
from ..paths import check_regular, expand_path, is_remote
from ..renaming import renamed_keywords
from ..store import (
    Block,
    Layout,
    PartedRows,
    StorageOptions,
    Store,
    write_parts,
    write_store,
)
from .columnar import PART_ENDS, part_files
from .hugging_face import is_saved
from .places import Place
from .reader import (
    FOLDER,
    PARTS,
    READERS,
    SAVED,
    IngestKeywords,
    Opener,
    Reader,
    ReaderOptions,
    StreamReader,
)
from .room import with_room
from .splits import Drawing, RowKeys, gathered
from .tables import TABLE_ENDS

DEFAULT_OPTIONS = ReaderOptions()


def _readers() -> Mapping[str, Opener]:
    """Return what every module of this folder, and whoever registered more, says it reads."""
    _import_readers()
    return dict(sorted(READERS.items()))


@cache
def _import_readers() -> None:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")


def _ends() -> list[str]:
    return [name for name in _readers() if name.startswith(".")]


def _beginnings() -> list[str]:
    return [name for name in _readers() if name.endswith(":")]


def _data_sets() -> list[str]:
    return [name for name in _readers() if name[0] not in f".{FOLDER}" and name[-1] != ":"]


def is_table(what: str, source: str | Path | None = None) -> bool:
    """Return whether a source is a file of a table, or a folder of such files."""
    place = Place.of(what) if is_remote(what) else Place.of(_path(what, source))
    if place.name.lower().endswith(TABLE_ENDS):
        return True
    return place.local and place.is_folder() and _folder_kind(place) != FOLDER


def _folder_kind(place: Place) -> str:
    """Return what a folder is: a saved dataset, parts of a table, or images."""
    if is_saved(place):
        return SAVED
    return PARTS if part_files(place) else FOLDER


def _path(what: str, source: str | Path | None) -> Path:
    path = expand_path(what)
    return path if source is None else expand_path(source) / path


def source_name(what: str | os.PathLike[str]) -> str:
    """Return what is read by its name, or as the path that it is.

    Raises
    ------
    InvalidOptionError
        Where it is neither.
    """
    if isinstance(what, str):
        return what
    if not isinstance(what, os.PathLike):
        raise InvalidOptionError(
            f"a data set's name or the path of a file is needed, not a {type(what).__name__}; "
            "arrays and frames go into a store by create_store(url, X, y)"
        )
    path = os.fsdecode(what)
    known = path in _data_sets() or any(path.startswith(name) for name in _beginnings())
    return os.path.join(os.curdir, path) if known else path


def without_end(name: str) -> str:
    """Return a file's name without the end that says its format."""
    longest = sorted(_ends(), key=len, reverse=True)
    return next((name[: -len(end)] for end in longest if name.lower().endswith(end)), name)


def available() -> tuple[str, ...]:
    """Return what `open_reader` takes, in words."""
    files = (f"a {end} file" for end in _ends())
    named = (f"{beginning}NAME" for beginning in _beginnings())
    folders = ("a folder of Parquet files", "a Hugging Face dataset", "a folder of images")
    return (*_data_sets(), *named, *files, *folders)


def open_reader(
    what: str | os.PathLike[str],
    source: str | Path | None = None,
    options: ReaderOptions = DEFAULT_OPTIONS,
) -> Reader:
    """Return the reader of a data set by name, or of a file.

    Parameters
    ----------
    what : str or path
        ``mnist``, ``cifar10`` or ``online-news``; ``digits``, ``iris``, ``wine``, ``breast-
        cancer``, ``diabetes`` or ``plane``; ``openml:NAME``; the path of an .npz, .npy, .h5, .hdf5
        or .h5ad file; the path or fsspec URL of a table: .csv or .tsv (packed as .gz, .bz2 or .zst
        or not), .parquet, .feather or .arrow, a folder of such Parquet or Arrow files, or a Hugging
        Face dataset as ``save_to_disk`` writes it; or the path of a folder of images.
    source : path, optional
        The folder of the official files, or one above it. MNIST and CIFAR-10 are fetched from
        OpenML without it.
    options : ReaderOptions

    Raises
    ------
    InvalidOptionError
        Where `what` is unknown; the message lists what there is.
        Also where a split is to be drawn and the source has one.
    SourceFileError
        For a file that is missing, truncated or of another format.
    InvalidDataError
        Where a split cannot be drawn.
    """
    name = source_name(what)
    return with_drawn_split(_open(name, source, options), name, options)


def _open(what: str, source: str | Path | None, options: ReaderOptions) -> Reader:
    folder = None if source is None else expand_path(source)
    readers = _readers()
    if what in _data_sets():
        return readers[what](folder, options)
    for beginning in _beginnings():
        if what.startswith(beginning):
            if folder is not None:
                raise InvalidOptionError(f"{what} comes from the network: leave the source away")
            return readers[beginning](what.removeprefix(beginning), options)
    if is_remote(what):
        return _open_url(what, options)
    path = _path(what, source)
    for end in _ends():
        if what.lower().endswith(end):
            folder_of_parts = end in PART_ENDS and path.is_dir()
            if os.path.lexists(path) and not folder_of_parts:  # else options are looked at first
                check_regular(path)
            return readers[end](path, options)
    if what and path.is_dir():
        kind = _folder_kind(Place.of(path))
        return readers[kind](path if kind == FOLDER else Place.of(path), options)
    if path.exists():
        check_regular(path)
        raise InvalidOptionError(
            f"{path} is a file of an unknown kind; of tables of text the name ends in .csv or "
            f".tsv, of others in {', '.join(_ends())}"
        )
    names = available()
    raise InvalidOptionError(
        f"data set {what!r} is unknown{meant(what, names)}; choose {', '.join(names)}"
    )


def _open_url(what: str, options: ReaderOptions) -> Reader:
    """Open a table that fsspec reads."""
    place = Place.of(what, options.source_options)
    end = next((end for end in TABLE_ENDS if place.name.lower().endswith(end)), None)
    if end is not None:
        return _readers()[end](place, options)
    if place.is_folder() and (kind := _folder_kind(place)) != FOLDER:
        return _readers()[kind](place, options)
    raise InvalidOptionError(
        f"{what} is no table: of what lies at a URL, files {', '.join(TABLE_ENDS)} and folders of "
        "Parquet files are read; download the others first"
    )


def with_drawn_split(reader: Reader, what: str, options: ReaderOptions) -> Reader:
    """Return the reader of the same rows in the groups that the options draw."""
    drawn, seed, spec = options.drawn, options.seed, reader.spec
    if not drawn.asked:
        return reader
    asked = "test_size" if drawn.folds is None else "folds"
    if spec.groups != ("all",):
        raise InvalidOptionError(
            f"{what} has groups already, {', '.join(spec.groups)}",
            Hint(f"leave {asked} away", f"leave --{asked.replace('_', '-')} away"),
        )
    if drawn.stratify and spec.label_kind != "categorical":
        raise InvalidOptionError(
            f"{what} has {spec.label_kind} labels, and only classes are split alike",
            Hint("leave stratify away", "leave --stratify away"),
        )
    keys, rows = RowKeys(np.empty(0)), reader.rows
    if drawn.stratify or drawn.group is not None or rows is None:
        keys = gathered(_keys(reader))
        rows = len(keys.labels)
    drawing = Drawing(what, rows, keys, spec.classes)
    split = drawing.split(drawn, seed)
    spec = replace(
        spec,
        groups=drawn.names,
        decisions=(*spec.decisions, drawing.told(drawn, split, seed)),
        provenance={**spec.provenance, "split": drawn.to_json(seed)},
    )

    stream = partial(_in_groups, reader.blocks, split)
    if not isinstance(reader, StreamReader) or (own := reader.part) is None:
        return StreamReader(spec, rows, stream, tuple(reader.remarks))

    def part(lo: int, hi: int) -> Callable[[], Iterator[Block]]:
        return partial(_in_groups, own(lo, hi), split[lo:hi])

    return replace(reader, spec=spec, rows=rows, stream=stream, keys=None, part=part)


def _in_groups(blocks: Callable[[], Iterator[Block]], split: NDArray[np.int16]) -> Iterator[Block]:
    """Yield blocks whose rows are in the groups of a split."""
    first = 0
    for block in blocks():
        last = first + len(block.split)
        yield block._replace(split=split[first:last])
        first = last


def _keys(reader: Reader) -> Iterator[RowKeys]:
    """Yield what a split is drawn by; from all that is read where the reader has no shorter way."""
    if isinstance(reader, StreamReader) and reader.keys is not None:
        return reader.keys()
    return (RowKeys(block.labels) for block in reader.blocks())


@renamed_keywords(storage="storage_options")
@checked_arguments("what")
def ingest(
    what: str | os.PathLike[str],
    out: str | Path,
    source: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
    storage_options: StorageOptions = None,
    options: ReaderOptions | None = None,
    **keywords: Unpack[IngestKeywords],
) -> Store:
    """Read a data set or file block by block into a new store.

    Where there is a client of Dask, its workers read images, Parquet and Arrow files, .npy and
    HDF5 files, each another run of rows; they must see the source. CSV files, archives and official
    files are streams, which this process reads.

    Parameters
    ----------
    what : str or path
        ``mnist``, ``cifar10`` or ``online-news``; ``digits``, ``iris``, ``wine``, ``breast-
        cancer``, ``diabetes`` or ``plane``; ``openml:NAME``; the path of an .npz, .npy, .h5, .hdf5
        or .h5ad file; the path or fsspec URL of a table: .csv or .tsv (packed as .gz, .bz2 or .zst
        or not), .parquet, .feather or .arrow, a folder of such Parquet or Arrow files, or a Hugging
        Face dataset as ``save_to_disk`` writes it; or the path of a folder of images.
    out : str
        Path or fsspec URL of the store.
    source : path, optional
        The folder of the official files, or one above it. MNIST and CIFAR-10 are fetched from
        OpenML without it.
    overwrite : bool
        Replace a store that is already there.
    progress : callable, optional
        Called with the number of rows after each write.
    storage_options : mapping, optional
        Options for fsspec, of the store.
    options : ReaderOptions, optional
        Of the reader, instead of the keywords below.
    **keywords : str, float, int, bool or mapping
        Options of the reader by name; one that the format would ignore is refused.

        - ``x``, ``y``: names of the feature and label arrays in an ``.npz`` or HDF5 file (X and y);
          for an ``.npy`` file, which holds the features, ``y`` is the file of the labels; in an
          ``.h5ad`` file ``x`` is X, ``raw/X``, ``layers/NAME`` or ``obsm/NAME``
        - ``split``: array, file (``.npy``) or column (tables, obs of ``.h5ad``) with the group of
          every row; the splits of a Hugging Face ``DatasetDict`` are groups without it
        - ``target``: label column of a table or of obs; needed unless a column is called y, label,
          target or class
        - ``labels``: "categorical", "real" or "vector", where the labels' dtype tells it wrong
        - ``scale``: features are multiplied by this before any distance; or how the columns of a
          table are scaled: "standard", "minmax", "robust" or "none"
        - ``id``: column of a table that names the rows; ``drop``: columns that are left out
        - ``impute``, ``encode``, ``prepare``: what becomes of the columns of a table (see
          `ReaderOptions`); the store's ``notes`` say what was decided
        - ``test_size``: share (0.2) or number of the rows that are drawn as the group test, where
          the source has no split; the others are train. ``folds``: how many groups fold-1, fold-2,
          … are drawn instead. ``stratify``: every class is split alike, to one row. ``group``:
          column (array, file) whose equal values, such as those of one patient, stay together;
          ``test_size`` is then a share of these values
        - ``seed``: of random train/test splits
        - ``name``: what the data set is called in titles
        - ``source_options``: options for fsspec where the source is a URL
        - ``delimiter``, ``decimal``, ``thousands``, ``encoding``, ``header``, ``comment``: how a
          CSV file is written (see `CsvOptions`); what is not given is told from its first lines,
          and the store's ``notes`` say how
        - ``resize``: width and height, (64, 48) or "64x48", that images of a folder are brought to
        - ``gray``: whether images of a folder are read as grey ones

    Raises
    ------
    InvalidOptionError
        Where `what` is unknown, and the message lists what there is; for an option that means
        nothing to the source; for keywords beside `options`; or where a split is to be drawn and
        the source has one.
    InvalidDataError
        Where a split cannot be drawn, as by class where one has a single row.
    SourceFileError
        For a file that is missing, truncated or of another format.
    StoreError
        Where a store is already there.
    OutputError
        Where the disk has no room for the rows.
    """
    reader = open_reader(what, source, ReaderOptions.of(options, keywords))
    return write_reader(
        str(out), reader, overwrite=overwrite, storage_options=storage_options, progress=progress
    )


def write_reader(
    out: str,
    reader: Reader,
    *,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
    progress: Callable[[int], None] | None = None,
) -> Store:
    """Write what a reader reads into a new store; see `ingest`."""
    how: Any = {
        "overwrite": overwrite, "storage_options": storage_options, "progress": progress
    }  # fmt: skip
    blocks = with_room(reader.blocks(), reader.rows, out)
    parted = has_parts(reader) and not shares_process()
    first = next(blocks, None) if parted else None
    if first is None:
        return write_store(out, reader.spec, blocks, **how)
    assert isinstance(reader, StreamReader)
    assert reader.part is not None
    assert reader.rows is not None
    layout = Layout.of(first.features, first.labels, first.ids)
    return write_parts(
        out, reader.spec, PartedRows(reader.rows, layout, reader.part, reader.grain), **how
    )


def has_parts(reader: Reader) -> bool:
    """Return whether any run of a reader's rows can be read by itself, by whatever process."""
    return isinstance(reader, StreamReader) and None not in (reader.part, reader.rows)
