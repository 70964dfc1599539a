"""From what the user names to a reader, and from there into a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import Hint, InvalidOptionError, SourceFileError
from ..store import Store, write_store
from .arrays import open_npy, open_npz
from .bundled import LOADERS, open_bundled
from .cifar import open_cifar10
from .hdf5 import open_hdf5
from .idx import open_mnist
from .images import open_images
from .online_news import open_online_news
from .openml import open_openml, open_openml_images
from .reader import Reader, ReaderOptions
from .tables import open_csv, open_parquet

OFFICIAL: Mapping[str, Callable[[Path, ReaderOptions], Reader]] = {
    "mnist": open_mnist,
    "cifar10": open_cifar10,
    "online-news": open_online_news,
}
FILES: Mapping[str, Callable[[Path, ReaderOptions], Reader]] = {
    ".npz": open_npz,
    ".npy": open_npy,
    ".csv": open_csv,
    ".csv.gz": open_csv,
    ".parquet": open_parquet,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
}
OPENML = "openml:"
DEFAULT_OPTIONS = ReaderOptions()


def without_end(name: str) -> str:
    """Return a file's name without the end that says its format."""
    return next((name[: -len(end)] for end in FILES if name.lower().endswith(end)), name)


def available() -> tuple[str, ...]:
    """Return what `open_reader` takes, as it is told to users."""
    files = (f"a {end} file" for end in FILES)
    return (*OFFICIAL, *LOADERS, f"{OPENML}NAME", *files, "a folder of images")


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
    folder = None if source is None else Path(source).expanduser()
    if what in OFFICIAL:
        if folder is not None:
            return OFFICIAL[what](folder, options)
        if what == "online-news":
            raise SourceFileError(
                "online-news needs its CSV file: download OnlineNewsPopularity.zip from the UCI "
                "repository (data set 332) and unpack it",
                Hint("give the folder, source=DIR", "give the folder with --source DIR"),
            )
        return open_openml_images(what, options)
    if what in LOADERS:
        return open_bundled(what, folder, options)
    if what.startswith(OPENML):
        if folder is not None:
            raise InvalidOptionError(f"{what} comes from the network: leave the source away")
        return open_openml(what.removeprefix(OPENML), options)
    for end, open_file in FILES.items():
        if what.lower().endswith(end):
            path = Path(what).expanduser()
            return open_file(path if folder is None else folder / path, options)
    path = Path(what).expanduser() if folder is None else folder / what
    if what and path.is_dir():
        return open_images(path, options)
    raise InvalidOptionError(f"data set {what!r} is unknown; choose {', '.join(available())}")


def ingest(
    what: str,
    out: str | Path,
    source: str | Path | None = None,
    options: ReaderOptions = DEFAULT_OPTIONS,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
    storage: Mapping[str, Any] | None = None,
) -> Store:
    """Read a data set block by block into a new store.

    Parameters
    ----------
    what, source, options
        As for `open_reader`.
    out : str
        Path or fsspec URL of the store.
    overwrite : bool
        Replace a store that is already there.
    progress : callable, optional
        Called with the number of rows after each write.
    storage : mapping, optional
        Storage options for fsspec.
    """
    reader = open_reader(what, source, options)
    return write_store(
        str(out),
        reader.spec,
        reader.blocks(),
        overwrite=overwrite,
        options=storage,
        progress=progress,
    )
