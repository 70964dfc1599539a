"""Dask arrays over the finished states of every block, which share one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import DTypeLike, NDArray

from ..definitions import robustness_of
from ..kernels import NOBODY, BothLabelsState, QuotientState, part_of
from ..store import SourceAddress
from .graph import Key, PairGraph
from .sources import Source, open_source
from .spec import Context, PairSpec, ReferenceSets
from .tasks import by_set

if TYPE_CHECKING:
    import dask.array as da

OWN = {  # scores in the own group, and their dtype
    "robustness": np.float64,
    "lipschitz": np.float64,
    "reach": np.float64,
    "witness": np.int64,
    "nearest": np.int64,
}
BY_GROUP = {  # against every reference set
    "lipschitz_by_group": np.float64,
    "reach_by_group": np.float64,
    "witness_by_group": np.int64,
    "nearest_by_group": np.int64,
}


class LazyArrays:
    """Makes arrays of one graph.

    Parameters
    ----------
    graph : PairGraph
    """

    def __init__(self, graph: PairGraph) -> None:
        self._graph, self._pairs = graph, f"pairs-{graph.token}"
        self._layers: dict[str, Any] = {self._pairs: graph.graph}
        self._needs: dict[str, set[str]] = {self._pairs: set()}
        for collection in graph.dependencies:
            self._layers.update(collection.dask.layers)
            self._needs.update(collection.dask.dependencies)
            self._needs[self._pairs].add(collection.__dask_layers__()[0])

    def by_block(
        self,
        name: str,
        task: Callable[[Key, tuple[int, int]], tuple[Any, ...]],
        rows: tuple[int, ...],
        row: tuple[int, ...],
        dtype: DTypeLike,
        most: int | None = None,
    ) -> da.Array:
        """An array with a chunk for every block that was reduced, or with several.

        Parameters
        ----------
        name : str
        task : callable
            From a state's key and the block's rows [lo, hi) to the task that makes the chunk.
        rows : tuple of int
            Rows of every block that are in the array.
        row : tuple of int
            Shape of a row.
        dtype : numpy.dtype
        most : int, optional
            Rows of a chunk: blocks of whole rows are cut where so many are stored together, so that
            of a block only its state waits until that is written, and not every table of it.
        """
        layer, zeros = f"{name.replace('_', '-')}-{self._graph.token}", (0,) * len(row)
        tasks: dict[Key, Any] = {}
        sizes, start = list[int](), 0
        blocks = zip(self._graph.states, self._graph.blocks, rows, strict=False)
        for state, (lo, hi), count in blocks:
            whole = count == hi - lo
            for a, b in _pieces(start, count, most if whole else None):
                part: Any = state if b - a == count else (part_of, state, a, b)
                rows_of = (lo + a, lo + b) if whole else (lo, hi)
                tasks[(layer, len(sizes), *zeros)] = task(part, rows_of)
                sizes.append(b - a)
            start += count
        return self._array(layer, tasks, (tuple(sizes), *((size,) for size in row)), dtype)

    def single(self, name: str, task: tuple[Any, ...]) -> da.Array:
        """A number as an array without dimensions."""
        layer = f"{name}-{self._graph.token}"
        return self._array(layer, {(layer,): task}, (), np.float64)

    def _array(self, layer: str, tasks: Any, chunks: Any, dtype: DTypeLike) -> da.Array:
        import dask.array as da  # tasks of this module run on workers, which need none

        layers, needs = {**self._layers, layer: tasks}, {**self._needs, layer: {self._pairs}}
        return da.Array(HighLevelGraph(layers, needs), layer, chunks, dtype=dtype)


def _pieces(start: int, count: int, most: int | None) -> Iterator[tuple[int, int]]:
    """Cut rows, of which the first is number `start`, at multiples of `most`."""
    cuts = () if most is None else range(most - start % most, count, most)
    return pairwise([0, *cuts, count])


def lazy_scores(graph: PairGraph, spec: PairSpec, most: int) -> dict[str, da.Array]:
    """Return the arrays of `Scores` by their names.

    graph: of a pass by the rule of `spec`, or by both; most: rows of a chunk.
    """
    arrays, rows = LazyArrays(graph), tuple(hi - lo for lo, hi in graph.blocks)
    which = "" if spec.rule == "different" else f"{spec.rule}-"

    def array(name: str, row: tuple[int, ...], dtype: DTypeLike) -> da.Array:
        def task(state: Key, block: tuple[int, int]) -> tuple[Any, ...]:
            return (
                take_score,
                state,
                graph.context,
                graph.source,
                block,
                (name, spec.sets, spec.rule),
            )

        return arrays.by_block(f"{which}{name}", task, rows, row, dtype, most)

    found = {name: array(name, (), dtype) for name, dtype in OWN.items()}
    width = (len(spec.set_names),)
    found |= {name: array(name, width, dtype) for name, dtype in BY_GROUP.items()}
    found["split"] = array("split", (), np.int16)
    found["label_norm"] = arrays.single(f"{which}label-norm", (label_norm, graph.context))
    return found


def take_score(
    state: QuotientState | BothLabelsState,
    context: Context,
    source: Source | SourceAddress,
    rows: tuple[int, int],
    which: tuple[str, ReferenceSets | None, str],
) -> NDArray[Any]:
    """Return one of the scores of a block of rows."""
    name, sets, rule = which
    if isinstance(state, BothLabelsState):
        state = state.same if rule == "same" else state.different
    values = _by_group(by_set(state, sets), name)
    if name in BY_GROUP:
        return values.copy()  # a view would keep the state of a whole block
    split = open_source(source).read("split", *rows)
    if name == "split":
        return split
    own = values[np.arange(len(split)), split]
    return robustness_of(own, context.label_norm) if name == "robustness" else own


def _by_group(state: QuotientState, name: str) -> NDArray[Any]:
    """Return a table (rows, sets): distances and quotients, or row numbers with -1 for none."""
    if name.startswith("reach"):
        return state.reach
    if name.startswith("nearest") or (name.startswith("witness") and not state.quotient.size):
        return np.where(state.nearest == NOBODY, -1, state.nearest)
    if name.startswith("witness"):
        return np.where(state.witness == NOBODY, -1, state.witness)
    return state.lipschitz


def label_norm(context: Context) -> NDArray[np.float64]:
    """‖y‖∞ as an array."""
    return np.asarray(context.label_norm)
