"""Stored values in the units that they came in."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..store import StoreSpec
from .preparation import Preparation


def restore_features(spec: StoreSpec, values: ArrayLike) -> NDArray[np.float64]:
    """Return features, shape (..., d), in the units they had before they were prepared."""
    if spec.preparation is not None:
        return Preparation.from_json(spec.preparation).restore(np.asarray(values))
    return _restore(spec, "features", values)


def feature_texts(spec: StoreSpec, values: ArrayLike) -> list[str]:
    """Return the features of a row, shape (d,), as text in the units that they came in.

    Dates are written as such, and categories that are numbers as what they stand for.
    """
    own = restore_features(spec, values)
    texts = [f"{value:.6g}" for value in own.tolist()]
    if spec.preparation is not None:
        columns = Preparation.from_json(spec.preparation).columns
        wide = [column for column in columns for _ in column.names]
        for k, (column, value) in enumerate(zip(wide, own.tolist(), strict=True)):
            texts[k] = column.text(value) or texts[k]
    return texts


def restore_labels(spec: StoreSpec, values: ArrayLike) -> NDArray[np.float64]:
    """Return labels, shape (n,) or (n, m), in the units they had before they were scaled."""
    return _restore(spec, "labels", values)


def label_ends(spec: StoreSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return what the labels 0 and 1 are in the units they had before; None of unscaled ones."""
    return _ends(spec, "labels")


def _ends(spec: StoreSpec, part: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    bounds = (spec.scaling or {}).get(part)
    if bounds is None:
        return None
    return np.asarray(bounds["min"], np.float64), np.asarray(bounds["max"], np.float64)


def _restore(spec: StoreSpec, part: str, values: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    if (ends := _ends(spec, part)) is None:
        return values
    low, high = ends
    return low + values * (high - low)
