"""How many rows lie near every row: within a radius, or nearer than the next other label."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.tokenize import tokenize
from numpy.typing import NDArray

from .datasets.containers import as_array, refuse_masked
from .declared_types import checked_arguments
from .engine.lazy import LazyArrays
from .engine.sources import Source, open_source
from .errors import InvalidOptionError
from .kernels import CountState, CountWithin
from .labels import LabelMap
from .metrics import Metric
from .neighbours import RULES
from .runs import PairData, RunOptions, data_spec, open_data
from .scores import Scores, checked_scores, known_spec
from .searches import Radii, symmetric_search
from .store import SourceAddress


@checked_arguments()
def count_within(
    data: Any,
    radius: Any,
    *,
    y: Any = None,
    labels: str = "any",
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    options: RunOptions | None = None,
) -> da.Array:
    """Count the rows that lie within every row's radius; nothing is computed yet.

    Pairs whose bounds decide are counted or dropped unproven; only the rest is computed.

    Parameters
    ----------
    data : Store, str or array_like of shape (n, d)
        What `sample_robustness` takes.
    radius : float or array (n,) of float
        NumPy or Dask; a row at exactly this distance counts. 0 counts equal rows.
    y : array_like (n,), optional
        Labels of arrays; only needed for the rules "same" and "different".
    labels : {"any", "same", "different"}
        Labels of the rows that count; no row counts itself.
    metric : str, Metric or callable
        As for `sample_robustness`.
    scale : float
        Features are multiplied by it; only with arrays.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    dask.array.Array (n,) int64

    Raises
    ------
    InvalidOptionError
        For a radius that is negative or no number, or an unknown rule.
    InvalidDataError, MemoryPlanError, StoreError
    """
    if labels not in RULES:
        raise InvalidOptionError(f"labels must be one of {', '.join(RULES)}, not {labels!r}")
    opened = open_data(data, y, None, scale, labelled=labels != "any")
    return _count(opened, _radii(radius, opened.rows), labels, metric, options)[0]


@checked_arguments("scores")
def local_set_size(scores: Scores, options: RunOptions | None = None) -> da.Array:
    """Count the samples of the own group that are nearer than the reach: the local set (LSC).

    Every sample nearer than the nearest differently labelled one has the same label, so this is
    the cardinality of the local set (Leyva, González and Pérez 2015); nothing is computed yet.

    Parameters
    ----------
    scores : Scores
        Of classes.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    dask.array.Array (n,) int64
        The sample itself not counted.

    Raises
    ------
    InvalidOptionError
        For scores of other labels, or that do not say what they were computed with.
    MemoryPlanError, StoreError
    """
    return _local_sets(scores, options, both=False)[0]


class LocalSets(NamedTuple):
    """Local sets counted from both ends, lazy.

    Attributes
    ----------
    cardinality : dask array (n,) int64
        Samples in every sample's local set (LSC), itself not counted.
    usefulness : dask array (n,) int64
        Local sets that the sample lies in, other samples' ones.
    """

    cardinality: da.Array
    usefulness: da.Array


def local_sets(scores: Scores, options: RunOptions | None = None) -> LocalSets:
    """Count local sets from both ends in one pass over the pairs; nothing is computed yet.

    Raises
    ------
    InvalidOptionError, MemoryPlanError, StoreError
        As `local_set_size` does.
    """
    return LocalSets(*_local_sets(scores, options, both=True))


def _local_sets(scores: Scores, options: RunOptions | None, *, both: bool) -> list[da.Array]:
    spec = known_spec(checked_scores(scores))
    if not spec.labels.is_categorical:
        raise InvalidOptionError(
            f"local sets are of classes, but {scores.name} has {spec.labels.kind} labels"
        )
    data = PairData(scores.store, scores.arrays, spec.scale)
    reach = da.asarray(scores.reach)
    inside = da.map_blocks(np.nextafter, reach, -np.inf, dtype=np.float64)
    wanted = ("count", "held") if both else ("count",)
    return _count(data, inside, "same", spec.metric, options, own=wanted)


def _radii(radius: Any, rows: int) -> Any:
    """Radii as an array (n,), checked; blocks of Dask where they are computed."""
    if isinstance(radius, da.Array):
        blocks = as_array(radius, "radius")
        values = da.map_blocks(_checked_radii, blocks, dtype=np.float64, meta=np.empty(0))
    else:
        values = _checked_radii(radius)
        values = np.full(rows, float(values)) if values.ndim == 0 else values
    if values.shape != (rows,):
        raise InvalidOptionError(f"radius has the shape {values.shape}; there are {rows:,} rows")
    return values


def _checked_radii(radius: Any) -> NDArray[np.float64]:
    """Return radii as float64; none is missing or negative."""
    refuse_masked(radius, "radius")
    values = None
    with contextlib.suppress(TypeError, ValueError):
        values = np.asarray(radius, np.float64)
    if values is None or not (values >= 0).all():  # NaN is not
        raise InvalidOptionError(f"radius must be 0 or more, a number or one a row, not {radius!r}")
    return values


def _count(
    data: PairData,
    radii: Any,
    labels: str,
    metric: Any,
    options: RunOptions | None,
    own: tuple[str, ...] = (),
) -> list[da.Array]:
    """Counts of all rows; own: which counts, of the rows of the own group, are wanted instead."""
    spec = data_spec(data, metric, LabelMap("categorical"), labels)
    spec = replace(spec, require_labels=(), reduction=CountWithin("held" in own))
    wanted = Radii(radii, tokenize(radii))
    search = symmetric_search(data, spec, None, options or RunOptions(), wanted)
    graph, arrays = search.graph, LazyArrays(search.graph)

    def array(which: str, name: str) -> da.Array:
        def task(state: Any, block: tuple[int, int]) -> tuple[Any, ...]:
            return (take_count, state, which, graph.source, block, bool(own))

        return arrays.by_block(name, task, search.rows, (), np.int64)

    if not own:
        return [array("count", "count")]
    return [array(which, f"{which}-in-group") for which in own]


def take_count(
    state: CountState,
    which: str,
    source: Source | SourceAddress,
    rows: tuple[int, int],
    own: bool,
) -> NDArray[np.int64]:
    """Counts of a block's rows."""
    counts = state._asdict()[which]
    if not own:
        return np.asarray(counts.sum(axis=1))
    split = open_source(source).read("split", *rows)
    found: NDArray[np.int64] = counts[np.arange(len(split)), split]
    return found
