"""From what the user names to a reader, and from there into a store."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Unpack

from ..errors import InvalidOptionError
from ..paths import expand_path
from ..store import StorageOptions, Store, write_store
from .reader import FOLDER, READERS, Opener, Reader, ReaderKeywords, ReaderOptions

DEFAULT_OPTIONS = ReaderOptions()


@cache
def _readers() -> Mapping[str, Opener]:
    """Return what every module of this folder says it reads."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
    return dict(sorted(READERS.items()))


def _ends() -> list[str]:
    return [name for name in _readers() if name.startswith(".")]


def _beginnings() -> list[str]:
    return [name for name in _readers() if name.endswith(":")]


def _data_sets() -> list[str]:
    return [name for name in _readers() if name[0] not in f".{FOLDER}" and name[-1] != ":"]


def without_end(name: str) -> str:
    """Return a file's name without the end that says its format."""
    return next((name[: -len(end)] for end in _ends() if name.lower().endswith(end)), name)


def available() -> tuple[str, ...]:
    """Return what `open_reader` takes, in words."""
    files = (f"a {end} file" for end in _ends())
    named = (f"{beginning}NAME" for beginning in _beginnings())
    return (*_data_sets(), *named, *files, "a folder of images")


def open_reader(
    what: str, source: str | Path | None = None, options: ReaderOptions = DEFAULT_OPTIONS
) -> Reader:
    """Return the reader of a data set by name, or of a file.

    Parameters
    ----------
    what : str
        ``mnist``, ``cifar10`` or ``online-news``; ``digits``, ``iris``, ``wine``,
        ``breast-cancer`` or ``diabetes``; ``openml:NAME``; the path of an .npz, .npy, .csv,
        .csv.gz, .parquet, .h5 or .hdf5 file; or that of a folder of images (see `image_files`).
    source : path, optional
        The folder of the official files, or one above it. MNIST and CIFAR-10 are fetched from
        OpenML without it.
    options : ReaderOptions

    Raises
    ------
    InvalidOptionError
        Where `what` is unknown; the message lists what there is.
    SourceFileError
        For a file that is missing, truncated or of another format.
    """
    folder = None if source is None else expand_path(source)
    readers = _readers()
    if what in _data_sets():
        return readers[what](folder, options)
    for beginning in _beginnings():
        if what.startswith(beginning):
            if folder is not None:
                raise InvalidOptionError(f"{what} comes from the network: leave the source away")
            return readers[beginning](what.removeprefix(beginning), options)
    path = expand_path(what) if folder is None else folder / expand_path(what)
    for end in _ends():
        if what.lower().endswith(end):
            return readers[end](path, options)
    if what and path.is_dir():
        return readers[FOLDER](path, options)
    raise InvalidOptionError(f"data set {what!r} is unknown; choose {', '.join(available())}")


def ingest(
    what: str,
    out: str | Path,
    source: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
    storage_options: StorageOptions = None,
    **options: Unpack[ReaderKeywords],
) -> Store:
    """Read a data set or file block by block into a new store.

    Parameters
    ----------
    what : str
        ``mnist``, ``cifar10`` or ``online-news``; ``digits``, ``iris``, ``wine``,
        ``breast-cancer`` or ``diabetes``; ``openml:NAME``; the path of an .npz, .npy, .csv,
        .csv.gz, .parquet, .h5 or .hdf5 file; or that of a folder of images.
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
        Options for fsspec.
    **options : str, float or int
        Of the reader; one that the format would ignore is refused.

        - ``x``, ``y``: names of the feature and label arrays in an ``.npz`` or HDF5 file (X and y);
          for an ``.npy`` file, which holds the features, ``y`` is the file of the labels
        - ``split``: array, file (``.npy``) or column (tables) with the group of every row
        - ``target``: label column of a table; needed unless a column is called y, label, target or
          class
        - ``labels``: "categorical", "real" or "vector", where the labels' dtype tells it wrong
        - ``scale``: features are multiplied by this before any distance
        - ``seed``: of random train/test splits
        - ``name``: what the data set is called in titles

    Raises
    ------
    InvalidOptionError
        Where `what` is unknown, and the message lists what there is; or for an option that means
        nothing to the source.
    SourceFileError
        For a file that is missing, truncated or of another format.
    StoreError
        Where a store is already there.
    """
    reader = open_reader(what, source, ReaderOptions(**options))
    return write_store(
        str(out),
        reader.spec,
        reader.blocks(),
        overwrite=overwrite,
        storage_options=storage_options,
        progress=progress,
    )
