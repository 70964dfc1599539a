"""Labelled data of a caller as arrays: checked as far as nothing has to be computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InvalidDataError
from ..store import LazyRows, check_names, is_zarr, layout_of
from .frames import FrameRows, take


@dataclass(frozen=True)
class LabelledArrays:
    """Arrays of features and labels, checked, with classes and groups as codes.

    Attributes
    ----------
    X, y : arrays
    split : ndarray (n,) int16
    groups : tuple of str
    classes : tuple of str, optional
        Names of the codes in `y`, where labels were text.
    ids : array (n,), optional
        What a frame's index calls the rows; a Dask array for Dask frames.
    """

    X: Any
    y: Any
    split: NDArray[np.int16]
    groups: tuple[str, ...]
    classes: tuple[str, ...] | None = None
    ids: Any = None

    @property
    def named(self) -> bool:
        """Whether labels were text, which makes them classes."""
        return self.classes is not None

    @property
    def lazy(self) -> bool:
        """Whether rows only exist after Dask computed them."""
        return isinstance(self.X, da.Array) or isinstance(self.y, da.Array)

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.X.shape[0]), int(self.X.shape[1])


def check_arrays(X: Any, y: Any, split: ArrayLike | None) -> LabelledArrays:
    """Check what can be checked without computing anything (but lengths of Dask frames).

    X may also be what `create_store` takes, with the names of labels and groups.

    Raises
    ------
    InvalidDataError
        For shapes that do not fit, unknown chunk sizes, dtypes that are not numbers.
    """
    taken = take(X, y, split)
    X, y, split = _as_array(taken.X, "X"), _as_array(taken.y, "y"), taken.split
    if len(X.shape) != 2 or X.shape[1] == 0:
        raise InvalidDataError(f"X must have the shape (samples, columns), not {tuple(X.shape)}")
    if any(np.isnan(k) for k in (*X.shape, *y.shape)):
        raise InvalidDataError("X or y has unknown chunk sizes; call compute_chunk_sizes() first")
    if X.shape[0] == 0:
        raise InvalidDataError("X has no rows; robustness needs two samples at least")
    if len(y.shape) not in (1, 2) or y.shape[0] != X.shape[0]:
        raise InvalidDataError(
            f"X has {X.shape[0]} rows and y has shape {tuple(y.shape)}; they must be equally long"
        )
    classes = None
    if y.dtype.kind in "UTS":
        if isinstance(y, da.Array):
            raise InvalidDataError(
                "text labels in a Dask array have to be known before the graph is built; give "
                "them as NumPy array or integers, or use create_store"
            )
        known, codes = np.unique(np.asarray(y[:]), return_inverse=True)
        y, classes = codes.astype(np.int64), tuple(str(name) for name in known)
    layout_of(X, y)
    if split is None:
        one = np.zeros(X.shape[0], np.int16)
        return LabelledArrays(X, y, one, ("all",), classes, taken.ids)
    if isinstance(split, da.Array):
        raise InvalidDataError(
            "split is a Dask array, but group names have to be known before the graph is built; "
            "give it as NumPy array, or use create_store"
        )
    check_names(np.asarray(split))
    names, codes = np.unique(np.asarray(split), return_inverse=True)
    if codes.shape != (X.shape[0],):
        raise InvalidDataError(f"split has shape {codes.shape}, not ({X.shape[0]},)")
    groups = tuple(str(name) for name in names)
    return LabelledArrays(X, y, codes.astype(np.int16), groups, classes, taken.ids)


def _as_array(value: Any, name: str) -> Any:
    if isinstance(value, FrameRows):
        return value[:]  # many small columns are slow to gather for every tile
    if isinstance(value, (da.Array, LazyRows)) or is_zarr(value):
        return value
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    try:
        value = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise InvalidDataError(f"{name} is no array: {error}") from error
    if value.dtype.kind == "O":
        if value.ndim == 1 and all(isinstance(v, str) for v in value):
            return value.astype(str)
        raise InvalidDataError(f"{name} has dtype object; convert it to numbers or text first")
    return value
