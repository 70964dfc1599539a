"""Labelled data of a caller as arrays: checked as far as nothing has to be computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dask_arrays import is_dask_array
from ..errors import InvalidDataError
from .containers import NAME_KINDS, group_codes, plain
from .frame_rows import FrameRows
from .frames import take
from .reader import coded_classes


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
        return is_dask_array(self.X) or is_dask_array(self.y)

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.X.shape[0]), int(self.X.shape[1])


def check_arrays(X: Any, y: Any, split: Any = None) -> LabelledArrays:
    """Check what can be checked without computing anything (but lengths of Dask frames).

    X may also be what `create_store` takes, with the names of labels and groups. Without labels
    all of them are zero.

    Raises
    ------
    InvalidDataError
        For shapes that do not fit, unknown chunk sizes, dtypes that are not numbers, values that
        are masked or missing.
    """
    taken = take(X, y, split)
    X, y = taken.X, taken.y
    if isinstance(X, FrameRows):
        X = X[:]  # many small columns are slow to gather for every tile
    rows, classes = X.shape[0], None
    if y is None:
        y = np.zeros(rows, np.int8)
    elif y.dtype.kind in NAME_KINDS:
        y, classes = _class_codes(y)
    codes = np.zeros(rows, np.int16)
    groups: tuple[str, ...] = ("all",)
    if taken.split is not None:
        if is_dask_array(taken.split):
            raise InvalidDataError(
                "split is a Dask array, but group names have to be known before the graph is "
                "built; give it as NumPy array, or use create_store"
            )
        codes, groups = group_codes(plain(taken.split[:], "split"))
    return LabelledArrays(X, y, codes, groups, classes, taken.ids)


def _class_codes(y: Any) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return text labels as codes, shape (n,), and their names."""
    if is_dask_array(y):
        raise InvalidDataError(
            "text labels in a Dask array have to be known before the graph is built; give "
            "them as NumPy array or integers, or use create_store"
        )
    known, codes = np.unique(plain(y[:], "y"), return_inverse=True)
    classes, positions = coded_classes([str(name) for name in known], "y")
    return np.array(list(positions.values()), np.int64)[codes], classes
