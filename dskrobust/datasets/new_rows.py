"""New labelled rows as a store has its own: prepared, with labels as its codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..dask_arrays import is_dask_array
from ..display import meant
from ..errors import InvalidDataError, InvalidOptionError
from ..labels import TRUTH, number_name, one_spelling
from ..store import Store, StoreSpec, is_zarr, lossless
from .containers import NAME_KINDS, as_array, ravelled
from .frames import is_frame, prepare, values_of
from .labelled import LabelledArrays, check_arrays
from .preparation import PreparedColumn

MOST_NAMED = 5  # classes that a message lists


def as_stored(store: Store, X: Any, y: Any) -> LabelledArrays:
    """Return new rows as a store has its own; lazy where they are.

    Parameters
    ----------
    store : Store
    X : array_like, shape (k, d), or a frame
        An array has the store's columns as it keeps them; a frame has those that the store was made
        of, in their own units.
    y : array_like, shape (k,) or (k, m), or str
        Classes by name or code; real labels in the units of X.

    Raises
    ------
    InvalidDataError
        For other columns, gaps that nothing stands for, and classes that the store does not have.
    InvalidOptionError
        For a frame where the store's columns have no names, or a column that is not there.
    """
    own_units = is_frame(X)
    if isinstance(y, str):
        y = _column(X, y)
    labels = ravelled(as_array(values_of(y, "y"), "y"))
    if not labels.ndim:
        raise InvalidDataError(
            "y is a single value; give a label for every row of X: [y] for one row, and X of shape "
            "(1, columns)"
        )
    features = prepare(store, X) if own_units else X
    rows = check_arrays(features, _coded(store.spec, labels, own_units))
    if rows.shape[1] != store.columns:
        raise InvalidDataError(
            f"new samples have {rows.shape[1]:,} columns, those of {store.spec.name} "
            f"{store.columns:,}; give rows as the store has them, or a frame with its columns"
        )
    dtype = store.row_shape("features")[1]
    narrow = lossless(rows.X, dtype) if isinstance(rows.X, np.ndarray) else None
    kept = rows.X if narrow is None else narrow  # rows of bytes stay such
    return LabelledArrays(kept, rows.y, rows.split, rows.groups, ids=rows.ids)


def _column(X: Any, name: str) -> Any:
    names: list[Any] = list(getattr(X, "column_names", getattr(X, "columns", ())))
    if name not in names:
        found = f"there are {', '.join(map(str, names[:MOST_NAMED]))}" if names else "X has none"
        raise InvalidOptionError(f"y={name!r} names a column, but {found}{meant(name, names)}")
    return X[name]


def _coded(spec: StoreSpec, labels: Any, own_units: bool) -> Any:
    """Return labels as the store has them: codes of its classes, or numbers in its units."""
    named = labels.dtype.kind in NAME_KINDS
    if spec.classes is not None:
        return _by_block(labels, partial(class_codes, classes=spec.classes), np.int64)
    if named:
        raise InvalidDataError(
            f"labels are text, those of {spec.name} are numbers; give what they stand for"
        )
    scaling = (spec.scaling or {}).get("labels") if own_units else None
    if scaling is None:
        return labels
    return _by_block(labels, partial(_scaled, low=scaling["min"], high=scaling["max"]), np.float64)


def _by_block(labels: Any, function: Callable[..., Any], dtype: Any) -> Any:
    if not is_dask_array(labels) and not is_zarr(labels):
        return function(np.asarray(labels[:]))
    import dask.array as da

    if is_zarr(labels):
        labels = da.from_array(labels, chunks=labels.chunks)
    return da.map_blocks(function, labels, dtype=dtype, meta=np.empty((0,) * labels.ndim, dtype))


def class_codes(labels: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    """Return codes of labels (k,): of names, and of numbers unless these are the names.

    Raises
    ------
    InvalidDataError
        For a class that is none of these; it and its first row are named.
    """
    known, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    names = {name: code for code, name in enumerate(classes)}
    if labels.dtype.kind not in NAME_KINDS and not all(map(is_number, classes)):
        names = {str(code): code for code in range(len(classes))}
    texts = [class_text(value) for value in known]
    if labels.dtype.kind in NAME_KINDS:
        texts = list(one_spelling(texts, "labels", classes).values())
    for text, row in zip(texts, first, strict=True):
        if text not in names:
            shown = ", ".join(classes[:MOST_NAMED]) + (", …" if classes[MOST_NAMED:] else "")
            raise InvalidDataError(
                f"label {text!r} of row {row} is none of the {len(classes)} classes ({shown})"
                f"{meant(text, classes)}; a class that the reference lacks has no meaning there"
            )
    return np.array([names[text] for text in texts], np.int64)[inverse].reshape(len(labels))


def number_texts(labels: NDArray[Any], classes: Sequence[str]) -> list[str]:
    """Return what classes are called by numbers (k,); 0 and 1 where all are truth values."""
    texts = [class_text(value) for value in labels]
    words = {name.strip().lower(): name for name in classes}
    if not set(texts) <= {"0", "1"} or not set(words) <= set(TRUTH) - {"0", "1"}:
        return texts
    truths = {str(int(TRUTH[word])): name for word, name in words.items()}
    return [truths.get(text, text) for text in texts]


def class_text(label: Any) -> str:
    """Return what a class is called by a label, text or a number."""
    if isinstance(label, (float, np.floating)):
        return number_name(label)
    return label.decode() if isinstance(label, bytes) else str(label)


def is_number(name: str) -> bool:
    """Whether the name of a class is a number."""
    try:
        float(name)
    except ValueError:
        return False
    return True


def _scaled(labels: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    column = PreparedColumn("y", "number", center=low, spread=high - low, scale="minmax")
    return column.scaled(np.asarray(labels, np.float64))
