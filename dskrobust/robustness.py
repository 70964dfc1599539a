"""The public computation: Q, reach and witness per reference group, and R made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from .declared_types import checked_arguments
from .engine.graph import Choices, build
from .engine.spec import PairSpec, TileSpec, check_summary
from .engine.waves import Waves
from .labels import LabelMap
from .metrics import Metric
from .references import reference_sets
from .runs import (
    PairData,
    RunOptions,
    block_names,
    data_spec,
    memo_names,
    open_data,
    plan_work,
)
from .scores import Scores, lazy_scores, read_scores, run_memo
from .store import ResultTables, matching


@checked_arguments()
def sample_robustness(
    X: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    labels: str | LabelMap | None = None,
    scale: float = 1.0,
    references: Mapping[str, Any] | None = None,
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
    references : mapping of str to str, Subset or array_like of int, optional
        Further sets of rows, which may overlap, that every sample is scored against in the same
        pass: name → a group, a subset, or row numbers. `Scores.lipschitz_against` reads them.
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
    data = open_data(X, y, split, scale)
    return score(data, metric, labels, options or RunOptions(), references=references)


def score(
    data: PairData,
    metric: str | Metric | Callable[..., float],
    labels: str | LabelMap | None,
    options: RunOptions,
    *,
    rule: str = "different",
    references: Mapping[str, Any] | None = None,
) -> Scores:
    """Score some data, or search for the nearest samples by another pair rule."""
    spec, codes, rows = data_spec(data, metric, labels, rule), None, None
    if references:
        sets, found = reference_sets(data, references)
        spec, codes = replace(spec, sets=sets), (found, found)
        rows = dict(zip(sets.names, found.sets, strict=True))
    base = None
    if data.store is not None:
        check_summary(data.store.summary, spec)
        whole, base = _stored(data, spec)
        if whole is not None:
            return replace(read_scores(data.store, whole, spec), reference_rows=rows)
    (scores,) = _one_pass(data, spec, options, (spec,), Choices(base=base, codes=codes))
    return replace(scores, reference_rows=rows)


def score_both(
    data: PairData, metric: str | Metric | Callable[..., float], options: RunOptions
) -> tuple[Scores, Scores]:
    """Search for the nearest samples of another and of the same label, in one pass over the pairs.

    Where a store holds one of these of its rows, or of the first ones, only the rest is searched.
    """
    asked = [data_spec(data, metric, "categorical", rule) for rule in ("different", "same")]
    known = [] if data.store is None else [matching(data.store, s.parameters()) for s in asked]
    if any(known):
        first, second = (
            score(data, metric, "categorical", options, rule=spec.rule) for spec in asked
        )
        return first, second
    both = data_spec(data, metric, "categorical", "both")
    if data.store is not None:
        check_summary(data.store.summary, both)
    first, second = _one_pass(data, both, options, asked, Choices())
    return first, second


def _one_pass(
    data: PairData,
    spec: PairSpec,
    options: RunOptions,
    asked: Sequence[PairSpec],
    choices: Choices,
) -> list[Scores]:
    """Set up a pass over the pairs, lazily, and return what is asked of it."""
    base = choices.base
    work = data.workload(spec, 0 if base is None else len(base.segments))
    plan, spec = plan_work(work, options), replace(spec, plain=work.plain)
    asked = [replace(one, plain=work.plain) for one in asked]
    start, scratch = data.start(spec, plan, options)
    memo, known = None, dict[str, Any](arrays=data.arrays, scratch=scratch)
    if data.store is not None:
        memo, names = run_memo(data.store, spec), memo_names(data, plan)
        choices = replace(choices, memo_names=names, block_names=block_names(data, plan))
        more = spec if len(asked) > 1 else None
        known = {"store": data.store, "base": base, "searched": more}
    tiles = TileSpec(spec, plan.panel_rows, memo, plan.panel_bytes)
    graph = build(start, tiles, plan, choices)
    if data.store is None:
        known["split"] = data.split
    else:
        known["waves"] = Waves.of(graph, tiles, plan, choices)
    return [replace(lazy_scores(graph, one, plan), **known) for one in asked]


def _stored(data: PairData, spec: PairSpec) -> tuple[ResultTables | None, ResultTables | None]:
    """Results in the store: of all its rows, and else of the first ones."""
    assert data.store is not None
    known = matching(data.store, spec.parameters())
    for result in reversed(known):
        if result.covers(data.store) and result.groups == spec.groups:
            return result, None
    if spec.sets is not None:
        return None, None
    earlier = [result for result in known if result.is_prefix_of(data.store)]
    return None, max(earlier, key=lambda result: result.rows, default=None)
