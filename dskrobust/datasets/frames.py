"""Labelled data in memory: frames and collections as arrays; stores that are made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ..errors import InvalidDataError, InvalidOptionError
from ..store import (
    Arrays,
    LazyRows,
    StorageOptions,
    Store,
    StoreSpec,
    default_spec,
    link_arrays,
    lossless,
    write_arrays,
)
from .arrow import MemoryTable
from .arrow_frames import as_table, numbers
from .containers import (
    NamedArrays,
    as_array,
    check_groups,
    checked,
    pandas_or_none,
    ravelled,
)
from .hdf5 import Hdf5Rows
from .mapped import mapped
from .reader import ReaderOptions
from .tables import counted, feature_types, find_labels, known_column, matrix, texts
from .xarrays import from_xarray


def create_store(
    url: str | Path,
    X: Any,
    y: Any,
    split: Any = None,
    *,
    spec: StoreSpec | None = None,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
) -> Store:
    """Create a store from arrays, or from a table or collection that holds features and labels.

    Parameters
    ----------
    url : str
        A path or fsspec URL for the new store.
    X : array_like, shape (n, d), or a collection
        Features of any real dtype: a NumPy, Dask or Zarr array, or an HDF5 data set; a pandas,
        Polars, Arrow or Dask frame; an xarray Dataset or DataArray, whose first dimension are the
        samples and whose others become columns. Read and written block by block; Dask arrays and
        frames by their workers.
    y : array_like, shape (n,) or (n, m), or str
        Labels, numbers or text (classes); or the name of a frame's column, a Dataset's variable
        or a DataArray's coordinate. All columns and variables but `y` and `split` are features.
    split : array_like, shape (n,), or str, optional
        Group of every row (text or numbers), or its name as for `y`. One group, "all", without it.
    spec : StoreSpec, optional
        Name, scale, image shape, label kind and so on; inferred where not given. Its groups and
        classes are replaced by those found in `split` and in text labels.
    overwrite : bool
        Replace a store that is already there.
    storage_options : mapping, optional
        Options for fsspec.

    Raises
    ------
    InvalidDataError
        For lengths that differ, columns that are not numeric, NaN or infinite values (row and
        column named), object dtypes.
    InvalidOptionError
        For a column that does not exist.
    StoreError
        Where a store is already there.
    """
    arrays, spec = _prepare(str(url), X, y, split, spec)
    return write_arrays(
        str(url), arrays, spec, overwrite=overwrite, storage_options=storage_options
    )


def link_store(
    url: str | Path,
    X: Any,
    y: Any,
    split: Any = None,
    *,
    spec: StoreSpec | None = None,
    overwrite: bool = False,
    storage_options: StorageOptions = None,
) -> Store:
    """Create a store that refers to Zarr arrays where they lie.

    Only checksums, results and metadata are written; the arrays are read once, to be checked.

    Parameters
    ----------
    url : str
        A path or fsspec URL for the new store.
    X : zarr.Array, shape (n, d)
        Features of any real dtype.
    y : zarr.Array, shape (n,) or (n, m)
        Labels, numbers or text (classes).
    split : zarr.Array, shape (n,), optional
        Group of every row. One group, "all", without it.
    spec : StoreSpec, optional
        As for `create_store`.
    overwrite : bool
        Replace a store that is already there; the arrays stay.
    storage_options : mapping, optional
        Options for fsspec.

    Raises
    ------
    InvalidDataError
        For lengths, columns, values and dtypes that `create_store` refuses.
    StoreError
        Where a store is already there, or the arrays are not in Zarr.
    """
    if tuple(getattr(y, "shape", ()))[1:] == (1,):
        raise InvalidDataError(
            f"y has the shape {tuple(y.shape)}, and a link cannot drop the column; write labels "
            "as an array (n,), or copy them (create_store)"
        )
    arrays, spec = _prepare(str(url), X, y, split, spec)
    return link_arrays(str(url), arrays, spec, overwrite=overwrite, storage_options=storage_options)


def _prepare(
    url: str, X: Any, y: Any, split: Any, spec: StoreSpec | None
) -> tuple[Arrays, StoreSpec]:
    """Return what a new store is made of."""
    data = take(X, y, split)
    if data.y is None:
        raise InvalidOptionError("a store needs labels: create_store(path, X, y)")
    lazy = any(isinstance(a, da.Array) for a in (data.X, data.y, data.split))
    arrays = Arrays.of(mapped(data.X) if lazy else data.X, data.y, data.split)
    check_groups(arrays.groups or ())
    spec = spec or default_spec(url, arrays.y)
    return arrays, replace(
        arrays.name(spec),
        feature_names=spec.feature_names or data.feature_names,
        image_shape=spec.image_shape or data.image_shape,
    )


def take(X: Any, y: Any = None, split: Any = None) -> NamedArrays:
    """Return features, labels and groups as arrays that were checked; all input comes this way.

    Parameters
    ----------
    X, y, split
        As for `create_store`; y may be None.

    Raises
    ------
    InvalidDataError, InvalidOptionError
        As `create_store`.
    """
    return checked(_named(X, values_of(y, "y"), values_of(split, "split")))


def _named(X: Any, y: Any, split: Any) -> NamedArrays:
    """Return arrays of a collection, whose columns y and split may name."""
    package = _package(X)
    if package == "xarray":
        return from_xarray(X, y, split)
    if package == "polars" and hasattr(X, "collect"):
        raise InvalidOptionError("X is a Polars LazyFrame; collect() it, or write it to Parquet")
    if is_frame(X):
        return (_from_dask if hasattr(X, "npartitions") else _from_frame)(X, y, split)
    for name, value in (("y", y), ("split", split)):
        if isinstance(value, str):
            raise InvalidOptionError(
                f"{name}={value!r} names a column, but X is of the type {type(X).__name__}, whose "
                "columns have no names; give the values as an array"
            )
    return NamedArrays(_data_set(X, whole=False), y, split)


def values_of(value: Any, name: str) -> Any:
    """Return labels or groups, which may be a column or a frame of their own, as an array.

    Parameters
    ----------
    value : array_like or str
        A name, and an array, are returned as they are.
    name : {"y", "split"}

    Raises
    ------
    InvalidDataError
        As for a column of a frame.
    """
    if _package(value) == "xarray" and hasattr(value, "data"):
        return value.data if getattr(value, "chunks", None) else value.to_numpy()
    if hasattr(value, "npartitions") and not isinstance(value, da.Array):
        value = value.compute()
    pandas = pandas_or_none()
    if pandas is not None and isinstance(
        value, (pandas.Index, pandas.api.extensions.ExtensionArray)
    ):
        value = pandas.Series(value)
    if _package(value) == "polars" and hasattr(value, "collect"):
        raise InvalidOptionError(f"{name} is a Polars LazyFrame; collect() it")
    if _package(value) not in ("pandas", "polars", "pyarrow"):
        return _data_set(value)
    table = MemoryTable(name, as_table(_one_frame(value, name), name))
    if len(table.names) == 1:
        return _column_values(table, table.names[0], name)
    types, dtype = feature_types(table, table.names)
    return _rows_of(table, types, dtype)[:]


def take_labels(y: Any) -> Any:
    """Return labels in memory as `take` has them, without features beside them.

    Raises
    ------
    InvalidDataError
    """
    if y is None:
        return None
    labels = ravelled(as_array(values_of(y, "y"), "y"))
    return labels.compute() if isinstance(labels, da.Array) else np.asarray(labels)


def is_frame(value: Any) -> bool:
    """Whether a value has named columns that `take` knows."""
    arrow = hasattr(value, "__arrow_c_stream__") or hasattr(value, "npartitions")
    return arrow and hasattr(value, "columns")


def has_sparse_columns(frame: Any) -> bool:
    """Whether a pandas frame has columns that are kept sparse."""
    pandas = pandas_or_none()
    dtypes = frame.dtypes if pandas is not None and isinstance(frame, pandas.DataFrame) else ()
    return any(isinstance(dtype, pandas.SparseDtype) for dtype in dtypes)


def _column_values(table: MemoryTable, column_name: str, name: str) -> NDArray[Any]:
    """Return a column's labels, or its groups: numbers as such, everything else as text."""
    from pyarrow import types

    kind = table.types[column_name]
    number = types.is_integer(kind) or types.is_floating(kind)
    return column(table, column_name, as_text=name == "split" and not number)


def _one_frame(value: Any, name: str) -> Any:
    """Return a column of whatever library as a frame."""
    if hasattr(value, "columns"):
        return value
    if hasattr(value, "reset_index"):
        return value.reset_index(drop=True).to_frame(name)
    if hasattr(value, "to_frame"):
        return value.to_frame(name)
    if _package(value) == "pyarrow" and hasattr(value, "type") and hasattr(value, "to_pylist"):
        import pyarrow as pa

        return pa.table({name: value})
    raise InvalidDataError(f"{name} is of the type {type(value).__name__}; give it as an array")


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _data_set(value: Any, whole: bool = True) -> Any:
    """Return an HDF5 data set as an array, or as one that is read by rows."""
    if _package(value) != "h5py":
        return value
    rows = Hdf5Rows.of(value)
    return rows[:] if whole else rows


# -- frames in memory --------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameRows(LazyRows):
    """Columns of an Arrow table as an array (n, d)."""

    table: MemoryTable
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi."""
        part = MemoryTable(self.table.where, self.table.table.slice(lo, hi - lo))
        parts = [
            matrix(batch, self.names, self.dtype, part.where, lo + first)
            for first, batch in counted(part, dict.fromkeys(self.names))
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.names)), self.dtype)


def _from_frame(frame: Any, y: Any, split: Any) -> NamedArrays:
    where = "the frame"
    table = MemoryTable(where, as_table(frame, where))
    types, dtype = feature_types(table, _features(table, y, split))
    rows = _rows_of(table, types, dtype)
    return NamedArrays(
        rows,
        column(table, y) if isinstance(y, str) else y,
        column(table, split, as_text=True) if isinstance(split, str) else split,
        rows.names,
    )


def _rows_of(table: MemoryTable, types: Mapping[str, Any], dtype: np.dtype[Any]) -> FrameRows:
    """Return the rows of some columns of numbers."""
    names = tuple(types)
    picked = MemoryTable(table.where, numbers(table.table.select(list(names))))
    return FrameRows(picked, names, (table.table.num_rows, len(names)), dtype)


def _features(table: MemoryTable, y: Any, split: Any) -> list[str]:
    """Return the names of all columns that are neither labels nor groups."""
    named = {"y": y, "split": split}
    used = [known_column(table, v, k) for k, v in named.items() if isinstance(v, str)]
    return [name for name in table.names if name not in used]


def column(table: MemoryTable, name: str, as_text: bool = False) -> NDArray[Any]:
    """Return a column's values, shape (n,): text, int64 or float64.

    Raises
    ------
    InvalidDataError
        Where one is missing (the message names the row), or they are neither text nor numbers.
    """
    labels = find_labels(table, ReaderOptions(target=name))
    parts = counted(table, {name: labels.type})
    if as_text:
        return _joined(texts(batch, name, table.where, first) for first, batch in parts)
    values = _joined(labels.read(batch, table.where, first) for first, batch in parts)
    return values if labels.classes is None else np.array(labels.classes)[values]


def _joined(parts: Iterator[NDArray[Any]]) -> NDArray[Any]:
    arrays = list(parts)
    if not arrays:
        raise InvalidDataError("the frame has no rows")
    return np.concatenate(arrays)


# -- Dask frames -------------------------------------------------------------------------------


def _from_dask(frame: Any, y: Any, split: Any) -> NamedArrays:
    """Turn partitions into blocks of an array; their lengths, labels and groups are computed."""
    where = "the Dask frame"
    table = MemoryTable(where, as_table(frame._meta, where))
    types, dtype = feature_types(table, _features(table, y, split))
    picked = list(dict.fromkeys(v for v in (y, split) if isinstance(v, str)))
    parts = frame[list(types)].to_delayed()
    try:
        lengths, small = compute(frame.map_partitions(len, meta=(None, np.int64)), frame[picked])
    except (ValueError, KeyError) as error:  # Dask compares the columns' names itself
        said = " ".join(str(error).split())
        raise InvalidDataError(f"{where} is not what its meta declares: {said}") from error
    starts = np.cumsum([0, *lengths])
    blocks = [
        da.from_delayed(
            delayed(_partition)(part, tuple(types), dtype, where, int(first)),
            (rows, len(types)),
            dtype,
        )
        for part, rows, first in zip(parts, lengths, starts, strict=False)
        if rows
    ]
    if not blocks:
        raise InvalidDataError(f"{where} has no rows")
    held = MemoryTable(where, as_table(small, where))
    return NamedArrays(
        da.concatenate(blocks),
        column(held, y) if isinstance(y, str) else y,
        column(held, split, as_text=True) if isinstance(split, str) else split,
        tuple(types),
    )


def _partition(
    part: Any, names: tuple[str, ...], dtype: np.dtype[Any], where: str, first: int
) -> NDArray[Any]:
    """Return the rows of a partition, whose first one has number `first`."""
    table = MemoryTable(where, as_table(part, where))
    missing = [name for name in names if name not in table.names]
    if missing:
        raise InvalidDataError(
            f"{where}: the partition from row {first:,} lacks column '{missing[0]}', which its "
            "meta declares"
        )
    types, found = feature_types(table, names)
    batches = counted(MemoryTable(where, numbers(table.table)), dict.fromkeys(types))
    # gaps among whole numbers are NaN: those are named later
    own = found if dtype.kind != "f" else np.result_type(found, dtype)
    values = _joined(matrix(batch, names, own, where, first + a) for a, batch in batches)
    cast = lossless(values, dtype)
    if cast is None:
        raise InvalidDataError(
            f"{where}: the partition from row {first:,} is {found}, but its meta declares {dtype}, "
            "in which its values would change; tell map_partitions the right meta"
        )
    return cast
