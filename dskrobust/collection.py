"""Dataclasses with lazy arrays as Dask collections: for dask.compute, dask.persist and clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import dask.array as da
import numpy as np
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer


class ArraysMixin:
    """Makes a frozen dataclass a Dask collection as long as one of its fields is a Dask array."""

    @property
    def lazy_arrays(self) -> dict[str, da.Array]:
        """Those of the fields that are Dask arrays, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in values.items() if isinstance(value, da.Array)}

    def __dask_graph__(self) -> HighLevelGraph | None:
        arrays = self.lazy_arrays.values()
        if not arrays:
            return None
        merged = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
        # Dask fuses blockwise layers that another array is made of, and misses their keys then
        kept = {array.name: MaterializedLayer(dict(merged.layers[array.name])) for array in arrays}
        return HighLevelGraph({**merged.layers, **kept}, merged.dependencies)

    def __dask_keys__(self) -> list[Any]:
        return [array.__dask_keys__() for array in self.lazy_arrays.values()]

    def __dask_layers__(self) -> tuple[str, ...]:
        return tuple(
            name for array in self.lazy_arrays.values() for name in array.__dask_layers__()
        )

    def __dask_tokenize__(self) -> Any:
        plain = (da.Array, np.ndarray, str, int, float, tuple)
        named = [(f.name, getattr(self, f.name)) for f in fields(self)]  # type: ignore[arg-type]
        return type(self).__name__, [pair for pair in named if isinstance(pair[1], plain)]

    __dask_optimize__ = staticmethod(da.Array.__dask_optimize__)
    __dask_scheduler__ = staticmethod(da.Array.__dask_scheduler__)

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        finish = [(name, *array.__dask_postcompute__()) for name, array in self.lazy_arrays.items()]
        return _computed, (self._emptied(), finish)

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        rebuild = [(name, list(flatten(array.__dask_keys__())), *array.__dask_postpersist__())
                   for name, array in self.lazy_arrays.items()]  # fmt: skip
        return _persisted, (self._emptied(), rebuild)

    def _finished(self) -> Any:
        """Return the same once all arrays are computed; here nothing else is of the computation."""
        return self

    def _emptied(self) -> Any:
        """Return the same without its lazy arrays, whose graphs would travel else."""
        return replace(self, **dict.fromkeys(self.lazy_arrays))  # type: ignore[type-var]


def _computed(results: Sequence[Any], emptied: Any, finish: Sequence[Any]) -> Any:
    arrays = {
        name: join(blocks, *extra)
        for blocks, (name, join, extra) in zip(results, finish, strict=True)
    }
    return replace(emptied, **arrays)._finished()


def _persisted(
    graph: Mapping[Any, Any],
    emptied: Any,
    rebuild: Sequence[Any],
    *,
    rename: Mapping[str, str] | None = None,
) -> Any:
    arrays = {
        name: make({key: graph[key] for key in keys if key in graph}, *extra, rename=rename)
        for name, keys, make, extra in rebuild
    }
    return replace(emptied, **arrays)
