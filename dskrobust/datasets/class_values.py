"""What a model says of classes: their names, or values in the order of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..dask_arrays import is_dask_array
from ..errors import InvalidDataError
from .containers import as_array

if TYPE_CHECKING:
    import dask.array as da

MOST_NAMED = 5  # columns or classes that a message lists


def class_values(values: Any, names: Sequence[str], what: str) -> NDArray[Any] | da.Array:
    """Return predictions or probabilities as an array of numbers or text.

    Parameters
    ----------
    values : array_like (n,) or (n, c), or a frame
        Several columns of a frame are called as the classes are, in any order, or just counted.
    names : sequence of str
        Of the classes in their order; none where labels are no classes.
    what : str
        What messages call the values.

    Returns
    -------
    array (n,) or (n, c)
        A Dask array where values are one, whose blocks are checked; a memmap stays one.

    Raises
    ------
    InvalidDataError
        For masked and missing values, sparse matrices, and columns of other names.
    """
    array: Any = as_array(_in_order(values, names, what), what)
    return array if isinstance(array, np.ndarray) or is_dask_array(array) else array[:]


def _in_order(values: Any, names: Sequence[str], what: str) -> Any:
    """Return a frame of several columns in the order of the classes; anything else as it is."""
    named = getattr(values, "column_names", getattr(values, "columns", ()))
    columns = list(named) if np.iterable(named) else []  # a store has a number of columns
    if not names or len(columns) < 2 or not hasattr(values, "__getitem__"):
        return values
    called = [str(column) for column in columns]
    if sorted(called) == sorted(names):
        picked = [columns[called.index(name)] for name in names]
        return values.select(picked) if hasattr(values, "select") else values[picked]
    if columns == list(range(len(columns))):
        return values
    few, known = (", ".join(some[:MOST_NAMED]) for some in (called, list(names)))
    raise InvalidDataError(
        f"the columns of {what} are called {few}; call them as the classes, {known}, or give "
        "one column, of classes"
    )
