"""Labelled data in memory: frames, Dask, xarray and HDF5 collections as arrays that stores take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

from ..errors import InvalidDataError, InvalidOptionError
from ..ids import counted_from, id_dtype, index_ids, plain_ids
from ..store import (
    Arrays,
    LazyRows,
    StorageOptions,
    Store,
    StoreSpec,
    default_spec,
    link_arrays,
    write_arrays,
)
from .arrays import image_shape_of
from .arrow import FlatTable, MemoryTable, without_index
from .columns import counted, matrix, texts
from .hdf5 import Hdf5Rows
from .reader import ReaderOptions
from .tables import feature_dtype, find_labels, known_column


@dataclass(frozen=True)
class NamedArrays:
    """Features, labels and groups as arrays, with the names that came with them.

    Attributes
    ----------
    X : array (n, d)
        NumPy, Dask or Zarr, or `LazyRows`.
    y, split : array, optional
    feature_names : tuple of str, optional
    image_shape : tuple of int, optional
    ids : array (n,), optional
    """

    X: Any
    y: Any
    split: Any
    feature_names: tuple[str, ...] | None = None
    image_shape: tuple[int, ...] | None = None
    ids: Any = None


def create_store(
    url: str | Path,
    X: Any,
    y: Any,
    split: Any = None,
    *,
    ids: Any = None,
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
    ids : array_like, shape (n,), or str, optional
        What every row is called, text or whole numbers, or its name as for `y`; tables of results
        give it back. Without it the index of a pandas or Dask frame, where it does more than count
        the rows; the levels of a MultiIndex are joined as in ``a/b``. They need not be distinct.
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
    arrays, spec = _prepare(str(url), take(X, y, split, ids), spec)
    return write_arrays(
        str(url), arrays, spec, overwrite=overwrite, storage_options=storage_options
    )


def link_store(
    url: str | Path,
    X: Any,
    y: Any,
    split: Any = None,
    *,
    ids: Any = None,
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
    ids : array_like, shape (n,), optional
        As for `create_store`; a Zarr array is linked, others are written into the store.
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
    arrays, spec = _prepare(str(url), take(X, y, split, ids), spec)
    return link_arrays(str(url), arrays, spec, overwrite=overwrite, storage_options=storage_options)


def _prepare(url: str, data: NamedArrays, spec: StoreSpec | None) -> tuple[Arrays, StoreSpec]:
    """Return what a new store is made of."""
    arrays = Arrays.of(data.X, data.y, data.split, data.ids)
    spec = spec or default_spec(url, arrays.y)
    return arrays, replace(
        arrays.name(spec),
        feature_names=spec.feature_names or data.feature_names,
        image_shape=spec.image_shape or data.image_shape,
    )


def take(X: Any, y: Any = None, split: Any = None, ids: Any = None) -> NamedArrays:
    """Return features, labels, groups and ids as arrays; arrays are returned as they are.

    Parameters
    ----------
    X, y, split, ids
        As for `create_store`.

    Raises
    ------
    InvalidDataError, InvalidOptionError
        As `create_store`.
    """
    package = type(X).__module__.partition(".")[0]
    y, split, ids = _plain(y), _plain(split), _plain(ids)
    if package == "xarray":
        return _from_xarray(X, y, split, ids)
    if hasattr(X, "npartitions") and hasattr(X, "dtypes"):
        return _from_dask(X, y, split, ids)
    if package == "polars" and hasattr(X, "collect"):
        raise InvalidOptionError("X is a Polars LazyFrame; collect() it, or write it to Parquet")
    if hasattr(X, "__arrow_c_stream__") and hasattr(X, "columns"):
        return _from_frame(X, y, split, ids)
    for name, value in (("y", y), ("split", split), ("ids", ids)):
        if isinstance(value, str):
            raise InvalidOptionError(
                f"{name}={value!r} names a column, but X is of the type {type(X).__name__}, whose "
                "columns have no names; give the values as an array"
            )
    return NamedArrays(_plain(X, whole=False), y, split, ids=ids)


def _plain(value: Any, whole: bool = True) -> Any:
    """Return an HDF5 data set as an array, or as one that is read by rows."""
    if type(value).__module__.partition(".")[0] != "h5py":
        return value
    rows = Hdf5Rows.of(value)
    return rows[:] if whole else rows


# -- frames in memory --------------------------------------------------------------------------


@dataclass(frozen=True)
class FrameRows(LazyRows):
    """Columns of an Arrow table as an array (n, d)."""

    table: MemoryTable | FlatTable
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi."""
        part = self.table.part(lo, hi)
        parts = [
            matrix(batch, self.names, self.dtype, part.where, lo + first)
            for first, batch in counted(part, dict.fromkeys(self.names))
        ]
        return np.concatenate(parts) if parts else np.empty((0, len(self.names)), self.dtype)


def _from_frame(frame: Any, y: Any, split: Any, ids: Any) -> NamedArrays:
    used = [name for name in (y, split, ids) if isinstance(name, str)]
    held = _arrow(frame)
    index = [name for name in without_index(held.schema)[1] if name not in used]
    table = MemoryTable("the frame", held.drop_columns(index))
    flat: Any = FlatTable.of(table, used)
    names = _features(flat, y, split, ids)
    dtype = feature_dtype(flat, names)
    rows = FrameRows(flat, tuple(names), (table.rows, len(names)), dtype)
    return NamedArrays(
        rows,
        column(table, y) if isinstance(y, str) else y,
        column(table, split, as_text=True) if isinstance(split, str) else split,
        rows.names,
        ids=_frame_ids(frame, ids),
    )


def _frame_ids(frame: Any, ids: Any) -> Any:
    """Return ids as given, of a column, or of the index of a pandas frame."""
    if isinstance(ids, str):
        return plain_ids(frame[ids])
    return index_ids(frame) if ids is None and hasattr(frame, "index") else ids


def _features(table: MemoryTable | FlatTable, y: Any, split: Any, ids: Any) -> list[str]:
    """Return the names of all columns that are neither labels, groups nor ids."""
    named = {"y": y, "split": split, "ids": ids}
    used = [known_column(table, v, k) for k, v in named.items() if isinstance(v, str)]
    return [name for name in table.names if name not in used]


def _arrow(frame: Any) -> Any:
    """Return a frame as Arrow table, numbers without a copy; index and encodings are dropped."""
    import pyarrow as pa

    if type(frame).__module__.partition(".")[0] == "pandas":
        if not frame.columns.is_unique:
            twice = frame.columns[frame.columns.duplicated()][0]
            raise InvalidDataError(f"two columns of the frame are called '{twice}'; rename one")
        try:
            table = pa.Table.from_pandas(frame, preserve_index=False)
        except pa.ArrowException as error:
            raise InvalidDataError(f"the frame has a column of mixed types: {error}") from error
    else:
        table = frame.to_arrow() if hasattr(frame, "to_arrow") else pa.table(frame)
    for k, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):  # categories are classes by their names
            values = table.column(k).cast(field.type.value_type)
            table = table.set_column(k, field.name, values)
        elif pa.types.is_string_view(field.type):
            table = table.set_column(k, field.name, table.column(k).cast(pa.large_string()))
    return table


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


def _from_dask(frame: Any, y: Any, split: Any, ids: Any) -> NamedArrays:
    """Turn partitions into blocks of an array; their lengths, labels and groups are computed."""
    import pandas as pd

    where = "the Dask frame"
    empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in frame.dtypes.items()})
    table = MemoryTable(where, _arrow(empty))
    names = _features(table, y, split, ids)
    dtype = feature_dtype(table, names)
    picked = list(dict.fromkeys(v for v in (y, split) if isinstance(v, str)))
    parts = frame[names].to_delayed()
    known = (frame.map_partitions(of, meta=(None, np.int64)) for of in (len, _counted_from))
    lengths, first_rows, small = compute(*known, frame[picked])
    starts = np.cumsum([0, *lengths])
    blocks = [
        da.from_delayed(
            delayed(_partition)(part, tuple(names), dtype, where, int(first)),
            (rows, len(names)),
            dtype,
        )
        for part, rows, first in zip(parts, lengths, starts, strict=False)
        if rows
    ]
    if not blocks:
        raise InvalidDataError(f"{where} has no rows")
    held = MemoryTable(where, _arrow(small))
    return NamedArrays(
        da.concatenate(blocks),
        column(held, y) if isinstance(y, str) else y,
        column(held, split, as_text=True) if isinstance(split, str) else split,
        tuple(names),
        ids=_dask_ids(frame, [*lengths], [*first_rows], ids),
    )


def _dask_ids(frame: Any, lengths: Sequence[int], first_rows: Sequence[int], ids: Any) -> Any:
    """Return ids as given, of a column, or of an index that does more than count the rows."""
    if ids is not None and not isinstance(ids, str):
        return ids
    name: str | None = ids
    if name is None:
        first, starts = np.array(first_rows), np.cumsum([0, *lengths])[:-1]
        held = np.array(lengths) > 0
        if any((first[held] == counted).all() for counted in (0, starts[held])):
            return None  # files that were read one by one count from 0 each
    columns = frame[[name] if name is not None else list(frame.columns)[:1]]
    dtype = id_dtype((frame.index if name is None else frame[name]).dtype)
    parts = zip(columns.to_delayed(), lengths, np.cumsum([0, *lengths]), strict=False)
    made = ((delayed(_part_ids)(part, name, int(at)), rows) for part, rows, at in parts if rows)
    return da.concatenate([da.from_delayed(part, (rows,), dtype) for part, rows in made])


def _counted_from(part: Any) -> int:
    start = counted_from(part.index)
    return -1 if start is None else start


def _part_ids(part: Any, name: str | None, first: int) -> NDArray[Any]:
    return plain_ids(part.index if name is None else part[name], first)


def _partition(
    part: Any, names: tuple[str, ...], dtype: np.dtype[Any], where: str, first: int
) -> NDArray[Any]:
    """Return the rows of a partition, whose first one has number `first`."""
    batches = counted(MemoryTable(where, _arrow(part)), dict.fromkeys(names))
    return _joined(matrix(batch, names, dtype, where, first + a) for a, batch in batches)


# -- xarray ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class XarrayRows(LazyRows):
    """Variables of xarray side by side, samples first, as an array (n, d)."""

    variables: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels_last: bool = False

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi."""
        parts = [np.asarray(v[lo:hi].to_numpy(), self.dtype) for v in self.variables]
        if self.channels_last:
            parts = [np.moveaxis(part, -1, 1) for part in parts]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _from_xarray(data: Any, y: Any, split: Any, ids: Any) -> NamedArrays:
    whole = hasattr(data, "data_vars")
    if whole and not data.data_vars:
        raise InvalidDataError("the Dataset has no variables")
    for option, name in (("y", y), ("split", split), ("ids", ids)):
        if isinstance(name, str) and name not in (data.variables if whole else data.coords):
            known = ", ".join(str(v) for v in (data.variables if whole else data.coords)) or "none"
            what = "variable" if whole else "coordinate"
            raise InvalidOptionError(
                f"the {type(data).__name__} has no {what} '{name}' (option {option}) but {known}"
            )
    dim = _sample_dimension(data, y, split)
    used = [name for name in (y, split, ids) if isinstance(name, str)]
    if whole:
        features = {str(k): v for k, v in data.data_vars.items() if k not in used and dim in v.dims}
    else:
        features = {str(data.name or "features"): data}
    if not features:
        raise InvalidDataError(f"the Dataset has no features along '{dim}' besides {used}")
    parts = [v.transpose(dim, ...) for v in features.values()]
    for name, part in zip(features, parts, strict=True):
        if part.dtype.kind not in "biuf":
            raise InvalidDataError(
                f"variable '{name}' has dtype {part.dtype}, not numbers; drop it or encode it first"
            )
    shape, channels_last = image_shape_of(parts[0].shape[1:]) if len(parts) == 1 else (None, False)
    return NamedArrays(
        _joined_variables(parts, channels_last),
        data[y].to_numpy() if isinstance(y, str) else y,
        data[split].to_numpy() if isinstance(split, str) else split,
        tuple(features) if all(part.ndim == 1 for part in parts) else None,
        shape,
        data[ids].to_numpy() if isinstance(ids, str) else ids,
    )


def _sample_dimension(data: Any, y: Any, split: Any) -> Any:
    """Return the dimension of labels or groups, else the first one."""
    for name in (y, split):
        if isinstance(name, str) and data[name].ndim:
            return data[name].dims[0]
    first = next(iter(data.data_vars.values())) if hasattr(data, "data_vars") else data
    if not first.ndim:
        raise InvalidDataError("the features are a single number; they have (samples, columns)")
    return first.dims[0]


def _joined_variables(parts: Sequence[Any], channels_last: bool) -> Any:
    """Return variables as one array (n, d): a Dask array where one of them is."""
    dtype = np.result_type(*(np.uint8 if p.dtype.kind == "b" else p.dtype for p in parts))
    if not any(part.chunks for part in parts):
        columns = sum(math.prod(part.shape[1:]) for part in parts)
        return XarrayRows(tuple(parts), (parts[0].shape[0], columns), dtype, channels_last)
    arrays = [da.asarray(part.data).astype(dtype) for part in parts]
    if channels_last:
        arrays = [da.moveaxis(array, -1, 1) for array in arrays]
    whole = [array.rechunk(dict.fromkeys(range(1, array.ndim), -1)) for array in arrays]
    wide = [array.reshape(len(array), -1) for array in whole]
    return da.concatenate(wide, axis=1).rechunk({1: -1})
