"""How a computation over pairs is set up: what it runs on, what it is made of, its plan."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .clients import current_client, shares_process
from .cluster.workers import found_resources
from .covariance import rows_read
from .datasets.labelled import LabelledArrays, check_arrays
from .declared_types import check_types, is_number
from .engine.graph import PairGraph, start_graph
from .engine.plan import Plan, Resources, make_plan
from .engine.prefixes import projected_depths
from .engine.scratch import scratch_graph, scratch_spec
from .engine.sources import array_source
from .engine.spec import PairSpec, store_context
from .engine.tasks import sample_plan
from .engine.workload import Workload
from .errors import InvalidOptionError
from .kernels import (
    BothLabels,
    Depths,
    LargestQuotient,
    check_norm,
    kernel_dtype,
    row_bytes,
    sample_pieces,
)
from .labelled_rows import LabelledRows
from .labels import LabelMap, resolve_labels
from .metrics import Mahalanobis, Metric, resolve_metric
from .paths import absolute
from .store import SourceAddress, Store, open_store
from .stored_rows import chunk_sizes, store_rows
from .whole_numbers import check_whole


@dataclass(frozen=True)
class RunOptions:
    """How a computation over pairs runs; none of these changes a result.

    Attributes
    ----------
    resources : Resources, optional
        Workers, threads and memory per worker. Found out where not given: from the connected
        cluster, else this machine's cores and half its free memory.
    block_rows, panel_rows : int, optional
        Fixed sizes instead of planned ones.
    scratch : str or Path, optional
        Folder that all workers share, for arrays that have to be written down first; the one for
        temporary files by default, which workers on other machines do not share.
    """

    resources: Resources | None = None
    block_rows: int | None = None
    panel_rows: int | None = None
    scratch: str | Path | None = None

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("block_rows", "panel_rows"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), of="rows")


@dataclass(frozen=True)
class PairData(LabelledRows):
    """What a computation runs on: a store, or arrays.

    Attributes
    ----------
    store : Store, optional
    arrays : LabelledArrays, optional
    scale : float
        Features are multiplied by it.
    """

    store: Store | None = None
    arrays: LabelledArrays | None = None
    scale: float = 1.0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.segments)

    @property
    def segments(self) -> tuple[int, ...]:
        """Rows that were written at once."""
        if self.store is not None:
            return tuple(rows for rows, _ in self.store.segments)
        assert self.arrays is not None
        return (self.arrays.shape[0],)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the reference groups."""
        data = self.store or self.arrays
        assert data is not None
        return data.groups

    @property
    def split(self) -> Any:
        """Group of every row, (n,) int16."""
        if self.store is not None:
            return self.store.read("split", 0, self.store.rows)
        assert self.arrays is not None
        return self.arrays.split

    @property
    def written(self) -> bool:
        """Whether tiles read rows from a store, a scratch store too."""
        return self.arrays is None or self.arrays.lazy or not shares_process()

    @property
    def memoised(self) -> bool:
        """Whether finished tiles are kept, so that a run that was stopped goes on."""
        return self.store is not None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the features."""
        if self.store is not None:
            return self.store.row_shape("features")[1]
        assert self.arrays is not None
        return np.dtype(self.arrays.X.dtype).newbyteorder("=")

    def workload(self, spec: PairSpec, done_segments: int = 0) -> Workload:
        """Return what the plan of a computation needs to know."""
        unit = 1 if self.store is None else self.store.unit_rows
        work = make_workload(spec, self.segments, self.dtype, unit, done_segments)
        return replace(work, stored=self.written, resumable=self.memoised)

    def start(
        self, spec: PairSpec, plan: Plan, options: RunOptions, salt: Any = None
    ) -> tuple[PairGraph, str | None]:
        """Start a graph; return it and the address of a scratch store that is ours to remove."""
        if self.store is not None:
            return start_graph(self.store.address, spec, plan.blocks, salt=salt), None
        assert self.arrays is not None
        if not self.written:
            return start_graph(array_source(self.arrays), spec, plan.blocks, salt=salt), None
        folder = None if options.scratch is None else absolute(options.scratch)
        check_shared(folder)
        kind = "categorical" if spec.labels.is_categorical else spec.labels.kind
        described = scratch_spec(self.groups, self.scale, kind)
        made, key, needed, url = scratch_graph(self.arrays, described, folder)
        start = start_graph(
            key, spec, plan.blocks, graph=made, source_is_key=True, salt=salt
        )  # fmt: skip
        start.dependencies = needed
        return start, url if options.scratch is None else None


def check_shared(folder: str | None) -> None:
    """Check that the workers of a cluster share a scratch folder; others are on this machine."""
    client = None if shares_process() else current_client()
    if client is not None:
        from .cluster.checks import check_scratch

        check_scratch(client, folder)


def open_data(
    X: Any, y: Any, split: Any = None, scale: float = 1.0, *, labelled: bool = True
) -> PairData:
    """Return what a caller means by a store, its address, or arrays and frames.

    labelled: whether labels are looked at, so that arrays need some.

    Raises
    ------
    InvalidOptionError, InvalidDataError
        For a store with labels beside it, arrays without, or shapes that do not fit.
    """
    if isinstance(X, (Store, str, Path)):
        if y is not None or split is not None:
            raise InvalidOptionError("a store has its own labels and split; give the store alone")
        store = open_store(X)
        return PairData(store, scale=store.spec.scale)
    if y is None and labelled:
        raise InvalidOptionError("arrays need labels: sample_robustness(X, y)")
    scale = scale.item() if isinstance(scale, np.generic) else scale  # float32 knows no such limit
    if not (is_number(scale) and 0 < scale <= sys.float_info.max):
        raise InvalidOptionError(f"scale must be a positive number, not {scale!r}")
    return PairData(arrays=check_arrays(X, y, split), scale=float(scale))


def data_spec(
    data: PairData,
    metric: str | Metric | Callable[..., float] = "euclidean",
    labels: str | LabelMap | None = None,
    rule: str = "different",
) -> PairSpec:
    """Return what a computation on some data is made of.

    Raises
    ------
    InvalidOptionError
        For an unknown metric or label map, or one that does not fit the data.
    """
    if data.store is not None:
        return pair_spec(data.store, metric, labels, rule)
    arrays = data.arrays
    assert arrays is not None
    label_map = resolve_labels(labels, arrays.y.dtype, len(arrays.y.shape))
    if arrays.named and not label_map.is_categorical:
        raise InvalidOptionError(f"{label_map.kind} labels need numbers, but y is text")
    if rule != "any":
        label_map.check_shape(tuple(arrays.y.shape))
    _check_norm(label_map, arrays.y.shape[1:])
    groups = tuple(range(len(arrays.groups)))
    return _by_rule(PairSpec(
        resolve_metric(metric), label_map, data.groups, arrays.shape[1], data.scale, groups,
        data.dtype, rule,
    ))  # fmt: skip


def pair_spec(
    store: Store,
    metric: str | Metric | Callable[..., float] = "euclidean",
    labels: str | LabelMap | None = None,
    rule: str = "different",
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
    if rule != "any":
        label_map.check_shape((store.rows, *row))
    _check_norm(label_map, row)
    if metric == "mahalanobis":
        metric = fitted_mahalanobis(store.address)
    return _by_rule(PairSpec(
        resolve_metric(metric), label_map, store.groups, store.columns, store.spec.scale,
        tuple(sorted(store.summary.groups)), store.row_shape("features")[1], rule,
    ))  # fmt: skip


@lru_cache(maxsize=1)
def fitted_mahalanobis(address: SourceAddress) -> Mahalanobis:
    """Return Mahalanobis' metric of a store's features, summed by tasks that read them.

    Raises
    ------
    InvalidOptionError
        Where the covariance is singular.
    """
    store = address.open()
    features = store_rows(store, "features", chunk_sizes(store.rows, rows_read(store.columns)))
    return Mahalanobis.fit(features, store.spec.scale)


def _check_norm(labels: LabelMap, row: tuple[int, ...]) -> None:
    """Check a norm of the user's with labels of this shape."""
    if labels.own_norm is not None:
        check_norm(labels.own_norm, math.prod(row))


def _by_rule(spec: PairSpec) -> PairSpec:
    """Return a run with the reduction and the required labels that its pair rule and labels mean.

    Raises
    ------
    InvalidOptionError
        For a metric that does not fit the columns.
    """
    enemies = spec.rule in ("different", "both")
    largest = LargestQuotient(spec.rule == "different" and not spec.labels.is_categorical)
    spec = replace(
        spec,
        require_labels=spec.require_labels if enemies else (),
        reduction=BothLabels() if spec.rule == "both" else largest,
    )
    spec.form  # noqa: B018  a metric that does not fit the columns is refused here
    return spec


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
        spec.parts * spec.reduction.cell_bytes,
        unit_rows,
        done_segments,
        copied=widened or kernel != dtype,
        matrix=form.matrix is not None,
        prefixed=spec.prefixed and bool(sample_pieces(sum(segments), spec.columns)),
        coarse_bytes=row_bytes(spec.columns, form, kernel),
        leaves=form.boxed(spec.columns) and spec.reduction.boxed and spec.labels.own_norm is None,
        own_code=form.function is not None or spec.labels.own_norm is not None,
    )


def plan_work(work: Workload, options: RunOptions) -> Plan:
    """Plan a workload for the resources that are named, or those that are found."""
    resources = options.resources or found_resources()
    return make_plan(work, resources, block_rows=options.block_rows, panel_rows=options.panel_rows)


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
    return plan_work(PairData(store).workload(spec, done_segments), options or RunOptions())


def plan_depths(store: Store, spec: PairSpec, plan: Plan) -> Depths | None:
    """Return how deep the prefixes of a run would be, from a trial on a sample of the store.

    None where pairs are bounded by whole rows.
    """
    if not spec.prefixed:
        return None
    job = store_context(store.address, spec).job(spec)
    trial = sample_plan(spec, job, store.rows, plan.panel_bytes)
    return projected_depths(store, job, spec.labels, trial)


def memo_names(data: PairData, plan: Plan) -> dict[tuple[int, int], str]:
    """Name tiles by their rows and the digests of the segments they lie in."""
    if plan.in_rounds:
        return {}
    marks = _marks(data, plan)
    return {(i, j): f"{marks[i]}.{marks[j]}" for i, j in plan.tiles}


def block_names(data: PairData, plan: Plan) -> list[str]:
    """Name what tiles in rounds leave of blocks; it depends on all blocks, and so does its name."""
    if not plan.in_rounds:
        return []
    marks = _marks(data, plan)
    first = min(plan.tiles, default=None)
    digest = hashlib.sha256(repr((marks, first, len(plan.tiles))).encode()).hexdigest()
    return [f"{digest[:16]}-{mark}" for mark in marks]


def _marks(data: PairData, plan: Plan) -> list[str]:
    """Rows of every block, and the digest of its segment."""
    assert data.store is not None
    segments = data.store.segments
    starts = np.cumsum([0, *(rows for rows, _ in segments)])

    def mark(lo: int, hi: int) -> str:
        segment = int(np.searchsorted(starts, lo, side="right")) - 1
        return f"{lo}-{hi}-{segments[segment][1][:12]}"

    return [mark(*block) for block in plan.blocks]
