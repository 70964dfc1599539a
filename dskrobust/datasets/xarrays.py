"""Datasets and DataArrays of xarray as arrays: variables side by side, samples first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidDataError, InvalidOptionError
from ..store import LazyRows
from .arrays import image_shape_of
from .columns import refuse_inexact
from .containers import NamedArrays


@dataclass(frozen=True)
class XarrayRows(LazyRows):
    """Variables of xarray side by side, samples first, as an array (n, d)."""

    variables: tuple[Any, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels_last: bool = False

    def read(self, lo: int, hi: int) -> NDArray[Any]:
        """Return rows lo:hi."""
        parts = [_converted(v[lo:hi].to_numpy(), self.dtype, v.name) for v in self.variables]
        if self.channels_last:
            parts = [np.moveaxis(part, -1, 1) for part in parts]
        return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def from_xarray(data: Any, y: Any, split: Any, ids: Any) -> NamedArrays:
    """Return features, labels, groups and ids of a Dataset or DataArray, samples first.

    Raises
    ------
    InvalidDataError, InvalidOptionError
        For names that are not there, and variables that are no numbers.
    """
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
    import dask.array as da

    arrays = [
        da.map_blocks(partial(_converted, to=dtype, of=part.name), part.data, dtype=dtype)
        for part in map(_in_blocks, parts)
    ]
    if channels_last:
        arrays = [da.moveaxis(array, -1, 1) for array in arrays]
    whole = [array.rechunk(dict.fromkeys(range(1, array.ndim), -1)) for array in arrays]
    wide = [array.reshape(len(array), -1) for array in whole]
    return da.concatenate(wide, axis=1).rechunk({1: -1})


def _in_blocks(part: Any) -> Any:
    return part if part.chunks else part.chunk()


def _converted(values: NDArray[Any], to: np.dtype[Any], of: Any) -> NDArray[Any]:
    """Return values of a variable in the dtype of all variables, which holds them exactly."""
    if to.kind == "f":
        refuse_inexact(values, f"variable '{of}'")
    return np.asarray(values, to)
