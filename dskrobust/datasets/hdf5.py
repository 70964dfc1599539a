"""HDF5 files: data sets of features, labels and groups, read by rows."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError, InvalidOptionError, SourceFileError
from ..store import LazyRows, StoreSpec
from .arrays import array_names, rows_reader
from .hdf5_sources import check_sources
from .reader import ReaderOptions, StreamReader, check_row, provenance, reads, source_errors

MOST_NAMES = 12  # that a message lists


@reads(".h5", ".hdf5")
def open_hdf5(path: Path, options: ReaderOptions) -> StreamReader:
    """Return the reader of an HDF5 file; shapes are those of `open_npz`.

    Names of data sets may be paths, such as ``train/images``. No data set is held as a whole.

    Raises
    ------
    SourceFileError
        For a file that is no HDF5 file, a missing data set, or one whose values lie out of the
        file's folder.
    InvalidDataError
        For data sets that are neither numbers nor text, or of different lengths.
    """
    options.allow("an HDF5 file", "x", "y", "split", "group")
    names = array_names(options)
    features, *others = (Hdf5Rows.open(path, name) for name in names)
    arrays = [features, *(rows.by_name() for rows in others)]
    spec = StoreSpec(path.stem, "categorical", provenance=provenance("hdf5", [path], arrays=names))
    return rows_reader(arrays, spec, options)


@dataclass(frozen=True)
class Hdf5Rows(LazyRows):
    """A data set of an HDF5 file, which is opened while rows are read."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    enum: tuple[tuple[int, str], ...] = ()  # names of values, where the type is an enumeration
    parted = True  # any run of rows is read by itself

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"data set '{self.name}' of {self.path}"

    @classmethod
    def open(cls, path: Path, name: str) -> Hdf5Rows:
        """Look up a data set in a file."""
        with opened(path) as file:
            data_set = file.get(name)
            if data_set is None or not hasattr(data_set, "dtype"):
                raise SourceFileError(
                    f"{path} has no data set '{name}' but {_listed(file)}; name the data sets with "
                    "the options x, y and split"
                )
            check_sources(path, data_set)
            return cls.of(data_set)

    @classmethod
    def of(cls, data_set: Any) -> Hdf5Rows:
        """Describe a data set of an opened file."""
        import h5py

        if not isinstance(data_set, h5py.Dataset):
            raise InvalidOptionError(
                f"{data_set!r} is no data set; give one of those in it, such as file['X']"
            )
        rows = cls(
            Path(data_set.file.filename).absolute(),  # workers may be in another folder
            str(data_set.name),
            data_set.shape,
            _dtype(data_set),
            _enum(data_set),
        )
        if not rows.shape or not rows.shape[0]:
            raise InvalidDataError(
                f"{rows.where} has the shape {rows.shape}; there are no rows in it"
            )
        check_row(rows.where, rows.shape, rows.dtype.itemsize)
        if data_set.chunks:  # read as a whole for any of their rows
            check_row(f"a chunk of {rows.where}", (1, *data_set.chunks), data_set.dtype.itemsize)
        return rows

    def by_name(self) -> Hdf5Rows:
        """Return the names of values, where the type is an enumeration; else the same."""
        if not self.enum:
            return self
        return replace(self, dtype=np.array([name for _, name in self.enum]).dtype)

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi."""
        with opened(self.path) as file:
            data_set = file[self.name]
            if self.enum and self.dtype.kind == "U":
                return self._named(np.asarray(data_set[lo:hi]), lo)
            if self.dtype.kind != "U":
                return np.asarray(data_set[lo:hi])
            try:
                return np.asarray(data_set.asstr()[lo:hi]).astype(str)
            except UnicodeDecodeError as error:
                raise InvalidDataError(
                    f"{self.where} holds bytes that are no UTF-8 text"
                ) from error

    def _named(self, values: NDArray[Any], first: int) -> NDArray[np.str_]:
        """Return the names of values, whose first row has number `first`."""
        numbers = np.array([value for value, _ in self.enum])
        known = np.isin(values, numbers)
        if not known.all():
            row = tuple(int(k) for k in np.argwhere(~known)[0])
            raise InvalidDataError(
                f"{self.where}: row {first + row[0]} is {values[row]}, which its enumeration does "
                "not name"
            )
        names = np.array([name for _, name in self.enum])
        return np.asarray(names[np.searchsorted(numbers, values)])

    def slices(self, step: int, lo: int = 0, hi: int | None = None) -> Generator[NDArray[Any]]:
        """Yield runs of `step` of the rows lo:hi, shape (step, ...); the last one is shorter."""
        last = self.shape[0] if hi is None else hi
        for a in range(lo, last, step):
            yield self.read(a, min(a + step, last))


def _enum(data_set: Any) -> tuple[tuple[int, str], ...]:
    """Return the values and names of an enumeration, rising; none of other types."""
    import h5py

    named = h5py.check_enum_dtype(data_set.dtype) or {}
    return tuple(sorted((int(value), str(name)) for name, value in named.items()))


def _dtype(data_set: Any) -> np.dtype[Any]:
    """Return the dtype that rows are read in; text of any kind becomes str."""
    import h5py

    if h5py.check_string_dtype(data_set.dtype) is not None:
        return np.dtype("U1")
    dtype = np.dtype(data_set.dtype)
    if dtype.kind not in "biuf":
        raise InvalidDataError(
            f"data set '{data_set.name}' of {data_set.file.filename} has dtype {dtype}; save it as "
            "numbers or text"
        )
    return dtype


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file for reading."""
    try:
        import h5py
    except ImportError as error:
        raise SourceFileError(f"{path} needs h5py: pip install 'dskrobust[formats]'") from error
    with source_errors(path, "an HDF5 file"), h5py.File(path, "r") as file:
        yield file


def _listed(file: Any) -> str:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if hasattr(item, "dtype") else None)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) or "none") + more
