"""Labelled data in memory: frames and collections as arrays; stores that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dask_arrays import is_dask_array
from ..declared_types import checked_arguments
from ..errors import InvalidDataError, InvalidOptionError
from ..ids import index_ids, plain_ids
from ..renaming import renamed_keywords
from ..store import (
    Arrays,
    StorageOptions,
    Store,
    StoreSpec,
    default_spec,
    layout_of,
    link_arrays,
    open_store,
    write_arrays,
)
from .arrow import FlatTable, MemoryTable, without_index
from .arrow_frames import as_table
from .containers import (
    NamedArrays,
    as_array,
    check_groups,
    checked,
    pandas_or_none,
    plain,
    ravelled,
)
from .dask_frames import from_dask, rows_of_partitions
from .frame_rows import Features, Named, column, features_of, named_arrays, rows_of
from .hdf5 import Hdf5Rows
from .mapped import mapped
from .preparation import Preparation, PreparationOptions
from .xarrays import from_xarray

NO_LABELS = "mMV"  # kinds of dtypes: times, records; scikit-learn has its own word for complex


@renamed_keywords(options="storage_options")
@checked_arguments()
def create_store(
    url: str | Path,
    X: Any,
    y: Any,
    split: Any = None,
    *,
    ids: Any = None,
    spec: StoreSpec | None = None,
    preparation: PreparationOptions | None = None,
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
    preparation : PreparationOptions, optional
        What becomes of a frame's columns, as for `ingest`: gaps filled, text encoded, numbers
        scaled, where the columns need it or the options say so. The store keeps what was fitted,
        and its ``notes`` say what was decided. Without it columns stay as they are.
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
        For a column that does not exist; for a preparation of what has no columns.
    StoreError
        Where a store is already there.
    """
    arrays, spec = _prepare(str(url), take(X, y, split, ids, preparation), spec)
    return write_arrays(
        str(url), arrays, spec, overwrite=overwrite, storage_options=storage_options
    )


@checked_arguments()
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
    if tuple(getattr(y, "shape", ()))[1:] == (1,):
        raise InvalidDataError(
            f"y has the shape {tuple(y.shape)}, and a link cannot drop the column; write labels "
            "as an array (n,), or copy them (create_store)"
        )
    arrays, spec = _prepare(str(url), take(X, y, split, ids), spec)
    return link_arrays(str(url), arrays, spec, overwrite=overwrite, storage_options=storage_options)


@checked_arguments()
def prepare(store: Store | StoreSpec | str | Path, frame: Any) -> Any:
    """Return own rows as a store has its own: filled, encoded and scaled as they were.

    Parameters
    ----------
    store : Store, StoreSpec or str
        A store, its address, or what it says of its data.
    frame : pandas, Polars, Arrow or Dask frame
        With the columns that the store's rows came from; others are left out.

    Returns
    -------
    ndarray (n, d) float64
        For `SampleRobustness.score_samples` and the like; of a Dask frame a Dask array.

    Raises
    ------
    InvalidDataError
        For a column that is not there or holds something else, a gap that nothing stands for, and
        a category that the store's rows do not have; row and column are named.
    InvalidOptionError
        Where the store's columns have no names.
    """
    spec = store if isinstance(store, StoreSpec) else open_store(store).spec
    if spec.feature_names is None:
        raise InvalidOptionError(f"the columns of {spec.name} have no names; give rows as an array")
    known = None if spec.preparation is None else Preparation.from_json(spec.preparation)
    known = known and replace(known, id=None)  # own rows need not be called anything
    features = Features(spec.feature_names, known)
    if hasattr(frame, "npartitions"):
        return rows_of_partitions(frame, features)
    table: Any = FlatTable.of(_table_of(frame, "the frame"))
    return rows_of(table, features)[:]


def _prepare(url: str, data: NamedArrays, spec: StoreSpec | None) -> tuple[Arrays, StoreSpec]:
    """Return what a new store is made of."""
    if data.y is None:
        raise InvalidOptionError("a store needs labels: create_store(path, X, y)")
    lazy = any(is_dask_array(a) for a in (data.X, data.y, data.split, data.ids))
    arrays = Arrays.of(mapped(data.X) if lazy else data.X, data.y, data.split, data.ids)
    check_groups(arrays.groups or ())
    spec = spec or default_spec(url, arrays.y)
    return arrays, replace(
        arrays.name(spec),
        feature_names=spec.feature_names or data.feature_names,
        image_shape=spec.image_shape or data.image_shape,
        preparation=None if data.preparation is None else data.preparation.to_json(),
        decisions=data.decisions,
    )


def take(
    X: Any,
    y: Any = None,
    split: Any = None,
    ids: Any = None,
    preparation: PreparationOptions | None = None,
) -> NamedArrays:
    """Return features, labels, groups and ids as checked arrays; all input comes this way.

    Parameters
    ----------
    X, y, split, ids, preparation
        As for `create_store`; y may be None.

    Raises
    ------
    InvalidDataError, InvalidOptionError
        As `create_store`.
    """
    named = (values_of(y, "y"), values_of(split, "split"), _data_set(ids))
    return checked(_named(X, named, preparation))


def _named(X: Any, named: Named, preparation: PreparationOptions | None) -> NamedArrays:
    """Return arrays of a collection, whose columns labels, groups and ids may name."""
    package, (y, split, ids) = package_of(X), named
    if preparation is not None and (package == "xarray" or not is_frame(X)):
        raise InvalidOptionError(
            f"preparation is for the columns of a frame, and X is of the type {type(X).__name__}; "
            "leave it away"
        )
    if package == "xarray":
        return from_xarray(X, y, split, ids)
    if package == "polars" and hasattr(X, "collect"):
        raise InvalidOptionError("X is a Polars LazyFrame; collect() it, or write it to Parquet")
    if is_frame(X):
        return (from_dask if hasattr(X, "npartitions") else _from_frame)(X, named, preparation)
    for name, value in (("y", y), ("split", split), ("ids", ids)):
        if isinstance(value, str):
            raise InvalidOptionError(
                f"{name}={value!r} names a column, but X is of the type {type(X).__name__}, whose "
                "columns have no names; give the values as an array"
            )
    return NamedArrays(_data_set(X, whole=False), y, split, ids=ids)


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
    if package_of(value) == "xarray" and hasattr(value, "data"):
        return value.data if getattr(value, "chunks", None) else value.to_numpy()
    if hasattr(value, "npartitions") and not is_dask_array(value):
        value = value.compute()
    pandas = pandas_or_none()
    if getattr(value, "nlevels", 1) > 1 and not hasattr(value, "columns"):
        raise InvalidDataError(
            f"{name} is an index of {value.nlevels} levels; give one, {name}.get_level_values(0)"
        )
    if pandas is not None and isinstance(
        value, (pandas.Index, pandas.api.extensions.ExtensionArray)
    ):
        value = pandas.Series(value)
    if package_of(value) == "polars" and hasattr(value, "collect"):
        raise InvalidOptionError(f"{name} is a Polars LazyFrame; collect() it")
    if package_of(value) not in ("pandas", "polars", "pyarrow"):
        return _data_set(value)
    table = _table_of(_one_frame(value, name), name)
    if len(table.names) == 1:
        return _column_values(table, table.names[0], name)
    return rows_of(table, Features(table.names))[:]


def take_labels(y: Any) -> Any:
    """Return labels in memory as `take` has them, without features beside them.

    Raises
    ------
    InvalidDataError
    """
    if y is None:
        return None
    labels = ravelled(as_array(values_of(y, "y"), "y"))
    lazy = is_dask_array(labels)
    held = labels.compute() if lazy else plain(np.asarray(labels), "y")  # Zarr has bytes
    if held.dtype.kind in NO_LABELS:
        layout_of(np.empty((0, 1)), held)
    return held


def is_frame(value: Any) -> bool:
    """Whether a value has named columns that `take` knows; a single column has none."""
    arrow = hasattr(value, "__arrow_c_stream__") or hasattr(value, "npartitions")
    return arrow and hasattr(value, "columns") and getattr(value, "ndim", 2) == 2


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
    if package_of(value) == "pyarrow" and hasattr(value, "type") and hasattr(value, "to_pylist"):
        import pyarrow as pa

        return pa.table({name: value})
    raise InvalidDataError(f"{name} is of the type {type(value).__name__}; give it as an array")


def package_of(value: Any) -> str:
    """Return the name of the library that a value's type comes from."""
    return type(value).__module__.partition(".")[0]


def _data_set(value: Any, whole: bool = True) -> Any:
    """Return an HDF5 data set as an array, or as one that is read by rows."""
    if package_of(value) != "h5py":
        return value
    rows = Hdf5Rows.of(value)
    return rows.by_name()[:] if whole else rows


# -- frames in memory --------------------------------------------------------------------------


def _table_of(frame: Any, where: str, used: Sequence[str] = ()) -> MemoryTable:
    """Return a frame as a table; of columns that hold pandas' row index only those in `used`."""
    held = as_table(frame, where)
    index = [name for name in without_index(held.schema)[1] if name not in used]
    return MemoryTable(where, held.drop_columns(index))


def _from_frame(frame: Any, named: Named, options: PreparationOptions | None) -> NamedArrays:
    used = [name for name in named if isinstance(name, str)]
    table = _table_of(frame, "the frame", used)
    flat: Any = FlatTable.of(table, used)
    names = features_of(flat, named)
    row_ids = _frame_ids(frame, named[2])
    features = Features.of(flat, names, options, row_ids is not None)
    kept = features.preparation
    if kept is not None and kept.id is not None:
        row_ids = frame[kept.id]
    return named_arrays(rows_of(flat, features), table, named, features, row_ids)


def _frame_ids(frame: Any, ids: Any) -> Any:
    """Return ids as given, of a column, or of the index of a pandas frame."""
    if isinstance(ids, str):
        return plain_ids(frame[ids])
    return index_ids(frame) if ids is None and hasattr(frame, "index") else ids
