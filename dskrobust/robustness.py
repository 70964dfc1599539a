"""The public computation: Q, reach and witness per reference group, and R made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .cluster.workers import found_resources, shares_process
from .engine.graph import build, start_graph
from .engine.plan import Plan, Resources, Workload, make_plan
from .engine.prefixes import foresee
from .engine.scratch import GivenArrays, check_arrays, scratch_graph, scratch_spec
from .engine.sources import StackedSource
from .engine.spec import PairSpec, TileSpec, check_summary, store_context
from .engine.tasks import sample_plan
from .errors import InvalidOptionError
from .kernels import Depths, kernel_dtype, row_bytes
from .labels import LabelMap, resolve_labels
from .metrics import Mahalanobis, Metric, resolve_metric
from .scores import Scores, lazy_scores, read_scores, run_memo
from .store import Store, matching, open_store


@dataclass(frozen=True)
class RunOptions:
    """How `sample_robustness` runs; none of these changes a result.

    Attributes
    ----------
    resources : Resources, optional
        Workers, threads and memory per worker. Found out where not given: from the connected
        cluster, else this machine's cores and half its free memory.
    block_rows, panel_rows : int, optional
        Fixed sizes instead of planned ones.
    scratch : str, optional
        Folder that all workers share, for arrays that have to be written down first.
    """

    resources: Resources | None = None
    block_rows: int | None = None
    panel_rows: int | None = None
    scratch: str | None = None


def sample_robustness(
    X: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    labels: str | LabelMap | None = None,
    scale: float = 1.0,
    options: RunOptions | None = None,
) -> Scores:
    """Score every sample of a labelled data set; nothing is computed yet.

    Parameters
    ----------
    X : Store, str or array_like of shape (n, d)
        An opened store or its address; or features as NumPy, Dask or Zarr array, as a frame or as
        another collection that `create_store` takes.
    y : array_like, shape (n,) or (n, m), or str
        Labels, or the name of their column; not with a store.
    split : array_like, shape (n,), or str, optional
        Reference group of every row, as NumPy array, or the name of its column; not with a store.
        Every sample is scored in its own group, and against every other.
    metric : str, Metric or callable
        "euclidean", "cityblock", "chebyshev", "minkowski(p)", "angular", "hamming",
        ``Mahalanobis(VI)``, or f(x, x′) → float. "mahalanobis" takes the covariance from a store.
    labels : {"categorical", "real", "vector", "vector-l1", ...} or LabelMap, optional
        How labels map into a normed space; what the store says or the dtype suggests by default.
    scale : float
        Features are multiplied by it; only with arrays (a store knows its own).
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    Scores
        Dask arrays. Results that the store holds for the same data and parameters are read.

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    options = options or RunOptions()
    if isinstance(X, (Store, str, Path)):
        if y is not None or split is not None:
            raise InvalidOptionError("a store has its own labels and split; give the store alone")
        _refuse_same(labels)
        return score_store(open_store(X), metric, labels, options)
    if y is None:
        raise InvalidOptionError("arrays need labels: sample_robustness(X, y)")
    if not (isinstance(scale, (int, float, np.number)) and np.isfinite(scale) and scale > 0):
        raise InvalidOptionError(f"scale must be a positive number, not {scale!r}")
    given = check_arrays(X, y, split)
    _refuse_same(labels)
    return score_arrays(given, metric, labels, scale, options)


def _refuse_same(labels: str | LabelMap | None) -> None:
    if labels == "same" or (isinstance(labels, LabelMap) and labels.kind == "same"):
        raise InvalidOptionError(
            "robustness is of pairs with different labels; for the nearest samples of the same "
            "label use label_quality"
        )


def score_arrays(
    given: GivenArrays,
    metric: str | Metric | Callable[..., float],
    labels: str | LabelMap | None,
    scale: float,
    options: RunOptions,
) -> Scores:
    """Score arrays; see `sample_robustness`."""
    label_map = resolve_labels(labels, given.y.dtype, len(given.y.shape))
    if given.named and not label_map.is_categorical:
        raise InvalidOptionError(f"{label_map.kind} labels need numbers, but y is text")
    spec = PairSpec(
        resolve_metric(metric),
        label_map,
        given.groups,
        given.shape[1],
        scale,
        tuple(range(len(given.groups))),
        np.dtype(given.X.dtype),
    )
    spec.form  # noqa: B018  a metric that does not fit the columns is refused here
    written = given.lazy or not shares_process()
    work = make_workload(spec, (given.shape[0],), np.dtype(given.X.dtype))
    plan = _plan(replace(work, stored=written), options)
    kind = "categorical" if label_map.is_categorical else label_map.kind
    if written:
        made, key, needed, url = scratch_graph(
            given, scratch_spec(given.groups, scale, kind), options.scratch
        )
        start = start_graph(key, spec, plan.blocks, graph=made, source_is_key=True)
        start.dependencies = needed
    else:
        url = None
        start = start_graph(given.source(), spec, plan.blocks)
    graph = build(start, TileSpec(spec, plan.panel_rows, budget=plan.panel_bytes), plan)
    scores = replace(lazy_scores(graph, spec, plan), split=given.split)
    return replace(scores, given=given, scratch=url if options.scratch is None else None)


def pair_spec(
    store: Store,
    metric: str | Metric | Callable[..., float] = "euclidean",
    labels: str | LabelMap | None = None,
) -> PairSpec:
    """Return what a computation on a store is made of.

    Raises
    ------
    InvalidOptionError
        For an unknown metric or label map, or one that does not fit the store.
    """
    row, dtype = store.row_shape("labels")
    label_map = resolve_labels(labels, dtype, 1 + len(row), store.spec.label_map)
    if store.spec.classes is not None and not label_map.is_categorical:
        raise InvalidOptionError(
            f"{label_map.kind} labels need numbers, but the labels of {store.url} are named classes"
        )
    if metric == "mahalanobis":
        metric = Mahalanobis.fit(store.features, store.spec.scale)
    spec = PairSpec(
        resolve_metric(metric),
        label_map,
        store.groups,
        store.columns,
        store.spec.scale,
        tuple(sorted(store.summary.groups)),
        store.row_shape("features")[1],
    )
    spec.form  # noqa: B018  a metric that does not fit the columns is refused here
    return spec


def plan_store(
    store: Store,
    spec: PairSpec,
    options: RunOptions | None = None,
    *,
    done_segments: int = 0,
) -> Plan:
    """Plan a computation on a store.

    Raises
    ------
    MemoryPlanError
        Where it cannot fit.
    """
    dtype = store.row_shape("features")[1]
    segments = tuple(rows for rows, _ in store.segments)
    work = make_workload(spec, segments, dtype, store.unit_rows, done_segments)
    return _plan(replace(work, stored=True), options or RunOptions())


def plan_depths(store: Store, spec: PairSpec, plan: Plan) -> Depths | None:
    """Return how deep the prefixes of a run would be, from a trial on a sample of the store.

    None where pairs are bounded by whole rows.
    """
    if not spec.prefixed:
        return None
    job = store_context(store.address, spec).job(spec)
    trial = sample_plan(spec, job, store.rows, plan.panel_bytes)
    return foresee(store, job, spec.labels, trial)


def score_store(
    store: Store,
    metric: str | Metric | Callable[..., float],
    labels: str | LabelMap | None,
    options: RunOptions,
) -> Scores:
    """Score a store; see `sample_robustness`."""
    spec = pair_spec(store, metric, labels)
    check_summary(store.summary, spec)
    known = matching(store, spec.parameters())
    for result in reversed(known):
        if result.covers(store) and result.groups == spec.groups:
            return read_scores(store, result, spec)
    prefixes = [r for r in known if r.is_prefix_of(store)]
    base = max(prefixes, key=lambda r: r.rows, default=None)
    plan = plan_store(
        store, spec, options, done_segments=len(base.segments) if base is not None else 0
    )
    start = start_graph(store.address, spec, plan.blocks)
    tiles = TileSpec(spec, plan.panel_rows, run_memo(store, spec), plan.panel_bytes)
    graph = build(start, tiles, plan, memo_names=_memo_names(store, plan), base=base)
    return replace(lazy_scores(graph, spec, plan), store=store, base=base)


def _memo_names(store: Store, plan: Plan) -> dict[tuple[int, int], str]:
    """Name tiles by their rows and the digests of the segments they lie in."""
    starts = np.cumsum([0, *(rows for rows, _ in store.segments)])

    def mark(block: int) -> str:
        lo, hi = plan.blocks[block]
        segment = int(np.searchsorted(starts, lo, side="right")) - 1
        return f"{lo}-{hi}-{store.segments[segment][1][:12]}"

    return {(i, j): f"{mark(i)}.{mark(j)}" for i, j in plan.tiles}


def _plan(work: Workload, options: RunOptions) -> Plan:
    resources = options.resources or found_resources()
    return make_plan(work, resources, block_rows=options.block_rows, panel_rows=options.panel_rows)


def make_workload(
    spec: PairSpec,
    segments: tuple[int, ...],
    dtype: np.dtype[Any],
    unit_rows: int = 1,
    done_segments: int = 0,
) -> Workload:
    """Return what the plan of a computation needs to know."""
    form = spec.form
    kernel = kernel_dtype(dtype)
    widened = form.widened
    return Workload(
        segments,
        spec.columns,
        dtype.itemsize,
        8 if widened else kernel.itemsize,
        form.screened,
        len(spec.groups),
        2 if spec.quotients else 1,
        unit_rows,
        done_segments,
        copied=widened or kernel != dtype,
        matrix=form.matrix is not None,
        prefixed=spec.prefixed,
        coarse_bytes=row_bytes(spec.columns, form, kernel),
        leaves=form.boxed(spec.columns) and spec.labels.kind != "same",
    )


def score_against(
    fitted: GivenArrays, new: GivenArrays, spec: PairSpec, options: RunOptions | None = None
) -> NDArray[np.float64]:
    """Return Q of new samples in a fitted set, shape (k,); pairs of new samples do not count.

    Parameters
    ----------
    fitted, new : GivenArrays
    spec : PairSpec
        Of the fitted set.
    """
    options = options or RunOptions()
    both = replace(spec, groups=("fitted", "new"), require_labels=(0,))
    new = replace(new, split=np.ones(new.shape[0], np.int16))
    rows = fitted.shape[0]
    dtype = np.result_type(fitted.X.dtype, new.X.dtype)
    plan = _plan(make_workload(both, (rows, new.shape[0]), dtype), options)
    crossing = tuple(
        (i, j) for i, j in plan.tiles if plan.blocks[i][1] <= rows <= plan.blocks[j][0]
    )
    plan = replace(plan, tiles=crossing)
    source = StackedSource([fitted.source(), new.source()])
    tiles = TileSpec(both, plan.panel_rows, budget=plan.panel_bytes)
    graph = build(start_graph(source, both, plan.blocks), tiles, plan)
    lipschitz = lazy_scores(graph, both, plan).lipschitz_by_group[rows:, 0]
    return np.asarray(lipschitz.compute(scheduler="threads"))
