"""What callers give as features, labels, groups and ids: read as it is meant, or refused by name.

Every public function that takes arrays goes through `checked` (by `frames.take`), so none takes
what another one refuses. Blocks of Dask arrays are checked where they are computed.
"""

from __future__ import annotations

import operator
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..dask_arrays import is_dask_array
from ..errors import InvalidDataError
from ..ids import plain_ids
from ..labels import decoded
from ..store import LazyRows, is_zarr, layout_of, lossless
from .mapped import mapped

if TYPE_CHECKING:
    import dask.array as da

    from .preparation import Preparation

MOST_NAMED = 3  # rows that a message lists
MOST_GROUPS = np.iinfo(np.int16).max
NAME_KINDS = "UTSO"
NUMBER_TYPES = (bool, int, float, np.bool_, np.integer, np.floating)
MISSING = "has no value"
EMPTY = {"y": "has no label", "split": "has no group name"}
FILL = "drop the rows or fill the values in first"


@dataclass(frozen=True)
class NamedArrays:
    """Features, labels, groups and ids as arrays, with the names that came with them.

    Attributes
    ----------
    X : array (n, d)
        NumPy, Dask or Zarr, or `LazyRows`.
    y, split : array, optional
    feature_names : tuple of str, optional
    image_shape : tuple of int, optional
    ids : array (n,), optional
    preparation : Preparation, optional
        What became of a frame's columns.
    decisions : tuple of str
        Those of the preparation, a line each.
    """

    X: Any
    y: Any
    split: Any
    feature_names: tuple[str, ...] | None = None
    image_shape: tuple[int, ...] | None = None
    ids: Any = None
    preparation: Preparation | None = None
    decisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class FirstColumn(LazyRows):
    """The only column of an array (n, 1) that is read by rows."""

    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi."""
        return np.asarray(self.array[lo:hi])[:, 0]


# -- all arrays together -----------------------------------------------------------------------


def checked(data: NamedArrays) -> NamedArrays:
    """Return the same as arrays of numbers or text whose rows agree; nothing is computed.

    Labels of one column have the shape (n,).

    Raises
    ------
    InvalidDataError
        For sparse matrices, values that are masked or missing, dtypes and shapes that do not fit.
    """
    X = as_array(data.X, "X")
    y, split = (
        None if value is None else as_array(value, name)
        for value, name in ((data.y, "y"), (data.split, "split"))
    )
    if len(X.shape) != 2 or X.shape[1] == 0:
        raise InvalidDataError(f"X must have the shape (samples, columns), not {tuple(X.shape)}")
    ids = _as_ids(data.ids)
    for value in (X, y, split, ids):
        if value is not None and any(np.isnan(k) for k in value.shape):
            raise InvalidDataError(
                "X, y, split or ids has unknown chunk sizes; call compute_chunk_sizes() first"
            )
    y, split = (value if value is None else ravelled(value) for value in (y, split))
    _check_rows(X, y, split, ids)
    named = y is None or (y.dtype.kind in NAME_KINDS and len(y.shape) == 1)
    layout_of(X, np.empty(0) if named else y)
    return replace(data, X=X, y=y, split=split, ids=ids)


def _check_rows(X: Any, y: Any, split: Any, ids: Any) -> None:
    """Refuse arrays that do not have the same rows, and group names that are none."""
    if X.shape[0] == 0:
        raise InvalidDataError("X has no rows; robustness needs two samples at least")
    if y is not None and (len(y.shape) not in (1, 2) or y.shape[0] != X.shape[0]):
        raise InvalidDataError(
            f"X has {X.shape[0]} rows and y has shape {tuple(y.shape)}; they must be equally long"
        )
    if y is not None and 0 in y.shape:
        raise InvalidDataError(f"y has shape {tuple(y.shape)}, which is no label a row")
    if split is not None and tuple(split.shape) != (X.shape[0],):
        raise InvalidDataError(f"split has shape {tuple(split.shape)}, not ({X.shape[0]},)")
    if split is not None and split.dtype.kind not in f"biuf{NAME_KINDS}":
        raise InvalidDataError(f"split has dtype {split.dtype}; name groups by text or numbers")
    if ids is not None and tuple(ids.shape) != (X.shape[0],):
        raise InvalidDataError(f"ids have shape {tuple(ids.shape)}, not ({X.shape[0]},)")


def group_codes(split: NDArray[Any]) -> tuple[NDArray[np.int16], tuple[str, ...]]:
    """Return the groups of rows as codes, shape (n,), and their names.

    Raises
    ------
    InvalidDataError
        Where there are more groups than codes.
    """
    names, codes = np.unique(split, return_inverse=True)
    check_groups(names)
    return codes.astype(np.int16), tuple(str(name) for name in names)


def check_groups(names: Any) -> None:
    """Refuse more groups than a split can hold.

    Raises
    ------
    InvalidDataError
    """
    if len(names) > MOST_GROUPS:
        raise InvalidDataError(
            f"split has {len(names):,} different values, more than {MOST_GROUPS:,}; is it right?"
        )


def ravelled(value: Any) -> Any:
    """Return an array (n, 1) as (n,): a column that came out of a table."""
    if len(value.shape) != 2 or value.shape[1] != 1:
        return value
    if isinstance(value, np.ndarray) or is_dask_array(value):
        return value[:, 0]
    return FirstColumn(value, (value.shape[0],), np.dtype(value.dtype))


# -- one array ---------------------------------------------------------------------------------


def as_array(value: Any, name: str) -> Any:
    """Return something with shape, dtype and row slicing, of numbers or text in native bytes.

    Parameters
    ----------
    value : array_like
        A Dask array comes back as one whose blocks are checked; a Zarr array and `LazyRows` as
        they are.
    name : {"X", "y", "split"}
        What messages call it.

    Raises
    ------
    InvalidDataError
        For a sparse matrix, masked or missing values, and objects that are no text.
    """
    if is_dask_array(value):
        return _checked_blocks(value, name)
    if is_zarr(value):
        _refuse_open_archive(value, name)
    if isinstance(value, LazyRows) or is_zarr(value):
        if name == "split" or (name == "y" and value.dtype.kind in NAME_KINDS):
            plain(value[:], name)
        return value
    return plain(value, name)


def _refuse_open_archive(array: Any, name: str) -> None:
    """Refuse an array of a zip archive that is being written: whoever opens it again empties it."""
    archive = array.store_path.store
    if hasattr(archive, "compression") and hasattr(archive, "path") and not archive.read_only:
        raise InvalidDataError(
            f"{name} lies in the archive {archive.path}, which is open for writing; close it, and "
            "open the array with mode='r'"
        )


def plain(value: Any, name: str, first: tuple[int, ...] = (0, 0)) -> NDArray[Any]:
    """Return values in memory as a plain array; `first` is the row and column of the first one.

    Raises
    ------
    InvalidDataError
        As `as_array`.
    """
    refuse_sparse(value, name)
    refuse_masked(value, name, first)
    if type(value) is np.memmap and (name == "X" or value.dtype.kind not in NAME_KINDS):
        # its type is kept: Dask names it by its file and need not read it
        return value if value.dtype.isnative else mapped(value)
    values = _asarray(value, name)
    if values.dtype.kind in "TO":
        values = _of_objects(values.astype(object), name, first)
    elif values.dtype.kind == "S" and name != "X":
        values = decoded(values, name)
    elif not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "U" and name != "X":
        _refuse_gaps(values == "", name, first)
        _refuse_broken(values, name, first)
    if values.dtype.kind == "f" and name == "split":
        _refuse_gaps(np.isnan(values), name, first)
    return values


def _as_ids(value: Any) -> Any:
    """Return ids in memory as text or whole numbers; those of Dask and Zarr as they are."""
    if value is None or is_dask_array(value) or is_zarr(value):
        return value
    return plain_ids(value)


def refuse_sparse(value: Any, name: str) -> None:
    """Refuse a sparse matrix, of SciPy or another library.

    Raises
    ------
    InvalidDataError
        Saying how to make a dense array of it.
    """
    if not is_sparse(value):
        return
    way = next((w for w in ("toarray", "todense", "to_dense") if hasattr(value, w)), "toarray")
    raise InvalidDataError(
        f"{name} is sparse ({type(value).__name__}); give {name}.{way}(), or its rows piece by "
        "piece as a Dask array of dense blocks"
    )


def is_sparse(value: Any) -> bool:
    """Whether a value is a sparse matrix, of whatever library."""
    if getattr(value, "is_sparse", False) is True:  # torch
        return True
    dense = hasattr(value, "toarray") or hasattr(value, "todense")
    return dense and hasattr(value, "nnz") and not is_dask_array(value)


def refuse_masked(value: Any, name: str, first: tuple[int, ...] = (0, 0)) -> None:
    """Refuse masked values, which are missing ones, also in a list of masked arrays.

    Raises
    ------
    InvalidDataError
        Naming the first row and column.
    """
    if isinstance(value, (list, tuple)) and any(isinstance(v, np.ma.MaskedArray) for v in value):
        value = np.ma.array(value)
    if isinstance(value, np.ma.MaskedArray):
        _refuse_gaps(np.ma.getmaskarray(value), name, first, "is masked")


def refuse_infinite(values: Any, name: str) -> None:
    """Refuse NaN and infinite values of an array in memory.

    Raises
    ------
    InvalidDataError
        Naming the first row and column.
    """
    values = np.asarray(values)
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    place = tuple(int(k) for k in np.argwhere(~np.isfinite(values))[0])
    shown = "NaN" if np.isnan(values[place]) else values[place]
    raise InvalidDataError(f"{_where(name, place, (0, 0))} is {shown}; {FILL}")


def _asarray(value: Any, name: str) -> NDArray[Any]:
    if not isinstance(value, np.ndarray) and hasattr(value, "to_numpy"):
        value = value.to_numpy()
    try:
        values = np.asarray(value)
        if values.dtype.kind in "US" and isinstance(value, (list, tuple)):
            values = np.asarray(value, dtype=object)  # NumPy makes text of None, NaN and numbers
    except Exception as error:  # rows of different lengths; whatever a library raises
        said = " ".join(str(error).split())
        raise InvalidDataError(f"{name} is no array: {said}; give it as a NumPy array") from error
    return values


def _of_objects(values: NDArray[np.object_], name: str, first: tuple[int, ...]) -> NDArray[Any]:
    """Return objects as text, or labels and groups as numbers; or name the first of another type.

    Features as objects are refused even where all are numbers: they take ten times the memory.
    """
    flat = values.ravel()
    _refuse_gaps(np.array([_is_gap(v) for v in flat], bool).reshape(values.shape), name, first)
    allowed: tuple[type, ...] = (str, bytes)
    if name == "X":
        allowed = ()
    elif len(flat) and all(isinstance(v, NUMBER_TYPES) for v in flat):
        numbers = np.array(flat.tolist())
        if numbers.dtype.kind in "biuf" and all(map(operator.eq, numbers.tolist(), flat)):
            return numbers.reshape(values.shape)
    for k, v in enumerate(flat):
        refuse_sparse(v, name)
        if not isinstance(v, allowed):
            raise _other_type(v, name, _where(name, _place(k, values.shape), first))
    if any(isinstance(v, bytes) for v in flat):
        as_bytes = [v.encode() if isinstance(v, str) else v for v in flat]
        return decoded(np.array(as_bytes), name).reshape(values.shape)
    ended = next((k for k, v in enumerate(flat) if v.endswith("\0")), None)
    if ended is not None:
        where = _where(name, _place(ended, values.shape), first)
        raise InvalidDataError(f"{where} ends in NUL, which NumPy's text loses; name it anew")
    return values.astype(str)


def _place(k: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.unravel_index(k, shape)) if shape else ()


def _other_type(value: Any, name: str, where: str) -> InvalidDataError:
    kind, shown = type(value).__name__, repr(value)
    said = kind if "\n" in shown or len(shown) > 40 else f"{shown} ({kind})"
    return InvalidDataError(
        f"{name} has dtype object, and {where} is {said}; make numbers of all of it, "
        f"{name}.astype(float){'' if name == 'X' else ', or text'}"
    )


def _is_gap(value: Any) -> bool:
    """Whether an object says that a value is missing."""
    if isinstance(value, (str, bytes)):
        return not value
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, (float, np.floating)) and value != value


def _refuse_gaps(mask: NDArray[Any], name: str, first: tuple[int, ...], what: str = "") -> None:
    """Refuse missing values: name the first ones, and say how many there are."""
    if not mask.any():
        return
    places = np.argwhere(mask)
    where = _where(name, tuple(int(k) for k in places[0]), first)
    rows = [first[0] + int(row) for row in np.unique(places[:, 0])] if mask.ndim else [0]
    more = f", {', '.join(map(str, rows[:MOST_NAMED]))}{', …' * (len(rows) > MOST_NAMED)}"
    raise InvalidDataError(
        f"{where} {what or EMPTY.get(name, MISSING)} ({len(places):,} of {mask.size:,} values, in "
        f"{len(rows):,} row{'s' * (len(rows) > 1)}{more if len(rows) > 1 else ''}); {FILL}"
    )


def _refuse_broken(values: NDArray[np.str_], name: str, first: tuple[int, ...]) -> None:
    """Refuse text that no file can hold: half a character."""
    for known in np.unique(values).tolist():
        try:
            known.encode()
        except UnicodeEncodeError:
            place = tuple(int(k) for k in np.argwhere(values == known)[0])
            where = _where(name, place, first)
            raise InvalidDataError(f"{where} is no UTF-8 text: {known!r}; name it anew") from None


def _where(name: str, place: tuple[int, ...], first: tuple[int, ...]) -> str:
    if not place:
        return name
    column = f", column {place[1] + first[1]}" if len(place) > 1 else ""
    return f"{name} row {place[0] + first[0]}{column}"


# -- Dask arrays -------------------------------------------------------------------------------


def _checked_blocks(array: da.Array, name: str) -> da.Array:
    """Return a Dask array whose blocks are compared with what it declares."""
    meta = array._meta
    if is_sparse(meta):
        raise InvalidDataError(
            f"{name} is a Dask array of sparse blocks ({type(meta).__name__}); make them dense: "
            f"{name}.map_blocks(lambda block: block.toarray())"
        )
    if array.ndim not in (1, 2):
        return array  # refused for its shape
    if array.dtype.kind == "O" and name == "X":
        raise InvalidDataError("X has dtype object; make numbers of it, X.astype(float)")
    dtype = array.dtype.newbyteorder("=")
    if array.dtype.kind == "S" and name != "X":
        dtype = np.dtype(f"U{max(1, array.dtype.itemsize)}")
    import dask.array as da

    empty = np.empty((0,) * array.ndim, dtype)
    return da.map_blocks(_checked_block, array, what=name, declared=dtype, dtype=dtype, meta=empty)


def _checked_block(
    values: Any, what: str, declared: np.dtype[Any], block_info: Any = None
) -> NDArray[Any]:
    """Return a block as its array declares it: its shape, and its dtype where no value changes."""
    info = block_info[None]
    location, shape = info["array-location"], tuple(info["chunk-shape"])
    where = f"{what}: the block of rows {location[0][0]:,} to {location[0][1]:,}"
    try:
        values = plain(values, what, (*(lo for lo, _ in location), 0))
    except InvalidDataError as error:
        if "sparse" not in str(error):
            raise
        raise InvalidDataError(
            f"{where} is sparse; make blocks dense: {what}.map_blocks(lambda b: b.toarray())"
        ) from error
    unknown = any(np.isnan(k) for k in shape)
    if values.ndim != len(shape) or (values.shape != shape and not unknown):
        raise InvalidDataError(
            f"{where} has the shape {values.shape}, but the Dask array declares {shape}; tell "
            "from_delayed or map_blocks the shape or chunks that blocks have"
        )
    if declared.kind in NAME_KINDS and values.dtype.kind == "U":
        return values
    cast = lossless(values, declared)
    if cast is None:
        raise InvalidDataError(
            f"{where} is {values.dtype}, but the Dask array declares {declared}, in which its "
            "values would change; tell from_delayed or map_blocks the dtype that blocks have"
        )
    return cast


def pandas_or_none() -> Any:
    """Return pandas where somebody has imported it; else nothing is of its types."""
    return sys.modules.get("pandas")
