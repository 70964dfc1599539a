"""How far a model is from the labels it should extend: ‖F − y‖∞, L(F − y), and A.4's lower bound.

On x ∪ t, with d the metric and Γ(z) the samples of another label than z (paper, 3.5 and A.4):

    ε_z      = y(z) − F(z)                              `deviation` is ‖ε_z‖
    L(F − y) = max over all pairs of ‖ε_z − ε_z̃‖ / d(z, z̃)          `quotient` at z, L its maximum
    Q_y(z)   = max over z̃ in Γ(z) of ‖y(z) − y(z̃)‖ / d(z, z̃)        `label_quotient`
    Q_F(z)   = max over z̃ in Γ(z) of ‖F(z) − F(z̃)‖ / d(z, z̃)        `model_quotient`
    γ_z      = Q_y(z) − Q_y(z) against x alone           `gamma`
    L(F − y) ≥ max over z of |Q_y(z) − Q_F(z)|           `bound` at z

All quotients are exact, each from one pass over the pairs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import ArrayLike, NDArray

from .collection import ArraysMixin
from .datasets import label_ends
from .declared_types import checked_arguments
from .definitions import norms_of
from .engine.lazy import LazyArrays
from .engine.spec import PairSpec, ReferenceSets
from .engine.tasks import by_set
from .error_summary import ErrorSummary, block_summary
from .errors import Hint, InvalidDataError, InvalidOptionError
from .kernels import NOBODY, LargestQuotient, QuotientState
from .labels import LabelMap
from .memory import check_memory, searching_memory
from .metrics import Metric
from .model_rows import LabelSpace, ModelData, ModelRows, as_rows
from .predicting import is_estimator, predicted
from .records import BLOCK_ROWS, value_counts
from .references import row_set
from .robustness import sample_robustness
from .row_sets import Parts, cut_sets
from .runs import PairData, RunOptions, data_spec, open_data
from .scores import Scores
from .searches import Search, symmetric_search
from .subsets import select_subset

UNION, OF_X = 0, 1  # columns of states by set
ARRAYS = 9  # of a `ModelError`, its first fields
ROW_BYTES = 8 * ARRAYS
MOST_CLASSES = 4096
NO_NUMBERS = "cmMV"  # kinds of dtypes: complex, times, records


@dataclass(frozen=True)
class ModelError(ArraysMixin):
    """The error F − y of a model on x ∪ t, lazy: Dask arrays until `compute` is called.

    Attributes
    ----------
    rows : array (m,) int64
        Row numbers of the samples of x ∪ t, rising.
    deviation : array (m,) float64
        ‖ε_z‖ = ‖y(z) − F(z)‖; its maximum is ‖F − y‖∞.
    quotient : array (m,) float64
        The largest ‖ε_z − ε_z̃‖ / d(z, z̃) over all others; its maximum is L(F − y).
    partner : array (m,) int64
        The row that attains it; -1 where the error is the same everywhere.
    label_quotient, model_quotient : array (m,) float64
        Q_y and Q_F over the samples of another label in x ∪ t.
    label_partner, model_partner : array (m,) int64
        The rows that attain them.
    gamma : array (m,) float64
        Q_y(z) in x ∪ t less that in x: 0 where x alone says all.
    x, t : str
        What both sets are called.
    searches : tuple of Search
        That the arrays come from.
    """

    rows: Any
    deviation: Any
    quotient: Any
    partner: Any
    label_quotient: Any
    label_partner: Any
    model_quotient: Any
    model_partner: Any
    gamma: Any
    x: str = "x"
    t: str = "t"
    searches: tuple[Search, ...] = field(default=(), repr=False, compare=False)

    @property
    def bound(self) -> Any:
        """``|Q_y − Q_F|`` of every sample, (m,): none exceeds L(F − y) (A.4).

        0 where both are infinite, of which no difference can be told.
        """
        arrays = self.label_quotient, self.model_quotient
        if isinstance(arrays[0], da.Array):
            return da.map_blocks(bound_of, *arrays, dtype=np.float64)
        return bound_of(*arrays)

    def compute(self, **kwargs: Any) -> ModelError:
        """Compute everything in one go; the same with NumPy arrays.

        Raises
        ------
        MemoryPlanError
            Where they do not fit into this process.
        """
        instead = Hint("take summary(), which holds a few rows", "take the command's summary")
        check_memory("a NumPy copy of a model's error", len(self.rows), ROW_BYTES, instead)
        arrays = self.lazy_arrays
        values = self._run(list(arrays.values()), **kwargs)
        return replace(self, **dict(zip(arrays, values, strict=True)))._finished()

    def summary(self, **kwargs: Any) -> ErrorSummary:
        """Return the norms, the bound and where they are attained; no process holds all rows."""
        named = {f.name: getattr(self, f.name) for f in fields(self)[:ARRAYS]}
        columns = {
            name: da.asarray(values).rechunk(BLOCK_ROWS).to_delayed()  # fixed: sums are of blocks
            for name, values in {**named, "bound": self.bound}.items()
        }
        one = delayed(block_summary)
        blocks = range(len(columns["rows"]))
        parts = [one({name: column[k] for name, column in columns.items()}) for k in blocks]
        return ErrorSummary.of(self.x, self.t, self._run(parts, **kwargs))

    @property
    def memory(self) -> int:
        """How many bytes its searches take at most in this process."""
        return searching_memory(search.plan for search in self.searches)

    def _run(self, wanted: list[Any], **kwargs: Any) -> tuple[Any, ...]:
        for search in self.searches:
            search.spec.warm_up()
            if search.waves is not None:
                search.waves.run(**kwargs)
        try:
            return tuple(compute(*wanted, **kwargs))
        finally:
            for search in self.searches:
                if search.scratch is not None:
                    shutil.rmtree(search.scratch, ignore_errors=True)

    def _finished(self) -> ModelError:
        return replace(self, searches=())

    def __repr__(self) -> str:
        state = "lazy" if self.lazy_arrays else "computed"
        return f"<ModelError on {len(self.rows):,} samples of {self.x} and {self.t}, {state}>"


def bound_of(
    label_quotient: NDArray[np.float64], model_quotient: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return |Q_y − Q_F|, 0 where both are infinite."""
    return _difference(np.maximum(label_quotient, model_quotient),
                       np.minimum(label_quotient, model_quotient))  # fmt: skip


def _difference(larger: NDArray[np.float64], smaller: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return larger − smaller, 0 where both are the same infinity."""
    return np.subtract(larger, smaller, out=np.zeros(len(larger)), where=larger != smaller)


@checked_arguments()
def lipschitz_error(
    data: Any,
    predictions: Any,
    x: Any = "train",
    t: Any = "test",
    *,
    y: Any = None,
    split: ArrayLike | None = None,
    metric: str | Metric | Callable[..., float] = "euclidean",
    labels: str | LabelMap | None = None,
    scale: float = 1.0,
    options: RunOptions | None = None,
) -> ModelError:
    """Compare a model F with the labels y that it should extend (paper, 3.5 and A.4).

    Nothing over pairs is computed yet.

    Parameters
    ----------
    data : Store, str or array_like of shape (n, d)
        What `sample_robustness` takes.
    predictions : array_like (n,) or (n, c), Dask array, or estimator
        F of every row of the data, in its order: classes or real values (n,), or probabilities
        (n, c) in the order of the classes (rising; a frame's columns are called as the classes
        are), or vectors (n, m). Or a scikit-learn
        estimator, which predicts block by block from the features times the scale; one that is not
        fitted is fitted on x first, in this process. Of labels that a store has scaled, arrays are
        in the labels' own units, as a threshold is, and what estimators predict in the store's;
        F − y is in the store's.
    x, t : str, Subset or array_like of int
        Training and test set: a group, a selection in words (such as ``train:L500``, by stored
        scores), or row numbers. Pairs of x ∪ t count.
    y, split : array_like (n,), optional
        Labels and groups of arrays.
    metric : str, Metric or callable
    labels : str or LabelMap, optional
    scale : float
    options : RunOptions, optional
        All four as for `sample_robustness`.

    Returns
    -------
    ModelError
        `summary` and `compute` run it.

    Raises
    ------
    InvalidDataError
        For predictions whose shape does not fit, or, once they are read, that are no finite number
        or no class.
    InvalidOptionError, MemoryPlanError, StoreError
    """
    options, opened = options or RunOptions(), open_data(data, y, split, scale)
    spec = data_spec(opened, metric, labels)
    space = label_space(opened, spec)
    sets = {name: _rows_of(opened, rows, name, metric) for name, rows in (("x", x), ("t", t))}
    cut = cut_sets(opened.rows, [row_set(opened, rows, name) for name, rows in sets.items()])
    if is_estimator(predictions):
        predictions = predicted(predictions, opened, sets["x"], space)
    else:
        space = replace(space, ends=_own_units(opened, space))
        predictions = space.given(predictions)
    _check_shape(predictions, opened.rows, space)
    runs = _Runs(opened, (x, t), cut.references, as_rows(predictions, options), space, options)
    made: dict[str, Any] = runs.arrays(spec)
    names = {name: rows if isinstance(rows, str) else name for name, rows in (("x", x), ("t", t))}
    return ModelError(**made, **names, searches=tuple(runs.searches))


def label_space(data: PairData, spec: PairSpec) -> LabelSpace:
    """Return the space that labels lie in; classes are looked up in the labels alone.

    Raises
    ------
    InvalidDataError
        For more than 4,096 classes, each of which is a component of F.
    InvalidOptionError
        For labels with a norm of the user's.
    """
    if not isinstance(spec.labels.norm, str):
        raise InvalidOptionError("errors of models are measured in ‖·‖₁, ‖·‖₂ or ‖·‖∞ of labels")
    arrays, store = data.arrays, data.store
    names = data.classes
    shape = store.row_shape("labels")[0] if store else np.shape(arrays.y)[1:]  # type: ignore[union-attr]
    if not spec.labels.is_categorical:
        return LabelSpace((), int(np.prod(shape)), spec.labels.norm)
    known: Any = range(len(names or ()))
    if names is None:
        known = value_counts(data.label_blocks()).compute()["value"]
    if len(known) > MOST_CLASSES:
        raise InvalidDataError(
            f"the labels have {len(known):,} classes; the error of a model is compared for up to "
            f"{MOST_CLASSES:,}. Give labels='real' where they are numbers"
        )
    return LabelSpace(tuple(map(float, known)), len(known), "linf", tuple(names or ()))


def _own_units(data: PairData, space: LabelSpace) -> tuple[tuple[float, ...], ...]:
    """Return what 0 and 1 in every column of a store's scaled labels are in their own units."""
    ends = None if data.store is None or space.classes else label_ends(data.store.spec)
    return () if ends is None else tuple(tuple(np.atleast_1d(end).tolist()) for end in ends)


def _rows_of(data: PairData, rows: Any, name: str, metric: Any) -> Any:
    """Return a group's name, what a selection in words means, or rows as they are given."""
    if not isinstance(rows, str) or rows in data.groups or data.store is None:
        return rows
    scores: Scores = sample_robustness(data.store, metric=metric)
    subset = select_subset(scores, rows)
    if scores.result is None:
        raise InvalidOptionError(
            f"{name}={rows!r} selects by scores that the store does not hold yet",
            Hint("write them: dr.sample_robustness(store).write()",
                 f"run dskrobust compute {data.store.url}"),
        )  # fmt: skip
    return subset


def _check_shape(predictions: Any, rows: int, space: LabelSpace) -> None:
    dtype = getattr(predictions, "dtype", np.dtype(float))
    if dtype.kind in NO_NUMBERS:
        raise InvalidDataError(f"predictions are {dtype}; give real numbers or classes")
    shape = np.shape(predictions)
    wanted = {(rows, space.columns)} | ({(rows,)} if space.classes or space.columns == 1 else set())
    if shape not in wanted:
        raise InvalidDataError(
            f"predictions have the shape {shape}, but the data needs "
            + " or ".join(map(str, sorted(wanted)))
            + ": one for every row of all groups, in the order of the rows"
        )


@dataclass
class _Runs:
    """The searches of one comparison: of F − y, of (y, F), and of y where it is not known yet."""

    data: PairData
    names: tuple[Any, Any]
    parts: Parts
    predictions: Any
    space: LabelSpace
    options: RunOptions
    searches: list[Search] = field(default_factory=list)

    def arrays(self, spec: PairSpec) -> dict[str, da.Array]:
        """Return the arrays of `ModelError`, by name."""
        error = self._search(spec, self.space.errors, self.space)
        pairs = self._search(spec, self.space.paired, self.space, paired=True)
        union, partner, of_x = self._of_labels(spec)
        made = {
            **self._of_rows(error),
            "quotient": _taken(error, "quotient", UNION),
            "partner": _taken(error, "partner", UNION),
            "label_quotient": union,
            "label_partner": partner,
            "model_quotient": _taken(pairs, "quotient", UNION),
            "model_partner": _taken(pairs, "partner", UNION),
            "gamma": da.map_blocks(_difference, union, of_x, dtype=np.float64),
        }
        chunks = made["rows"].chunks  # plans of the searches, or what is stored, may differ
        return {name: values.rechunk(chunks) for name, values in made.items()}

    def _of_labels(self, spec: PairSpec) -> tuple[da.Array, da.Array, da.Array]:
        """Q of the labels in x ∪ t, who attains it, and Q in x: of the stored scores, or a search.

        Stored scores know those of groups that are all of the data.
        """
        store, sets = self.data.store, self.names
        named = all(isinstance(name, str) for name in sets)
        if (
            named
            and store is not None
            and set(sets) == set(store.groups)
            and self.parts.total == store.rows
        ):
            scores = sample_robustness(store, metric=spec.metric, labels=spec.labels)
            if scores.result is not None:
                columns = [scores.group_code(name) for name in sets]
                both = (scores.lipschitz_by_group, scores.witness_by_group)
                quotients, rows = (table[:, columns] for table in both)
                partner = da.map_blocks(_attained, quotients, rows, dtype=np.int64, drop_axis=1)
                return quotients.max(axis=1), partner, quotients[:, 0]
        own = self._search(spec, spec.labels)
        which = (("quotient", UNION), ("partner", UNION), ("quotient", OF_X))
        union, partner, of_x = (_taken(own, *one) for one in which)
        return union, partner, of_x

    def _search(
        self,
        spec: PairSpec,
        labels: LabelMap,
        space: LabelSpace | None = None,
        paired: bool = False,
    ) -> Search:
        """Set a search up, of the labels that predictions make in a space, or of those of y."""
        members = self.parts.members
        count = len(self.parts.names)
        sets = ReferenceSets(("x ∪ t", "x"), (tuple(range(count)), tuple(members[0])), count, "")
        quotients = LargestQuotient(not labels.is_categorical)
        spec = replace(spec, labels=labels, reduction=quotients)
        spec = replace(spec, groups=(), require_labels=(), sets=sets)
        known = self.data.store, self.data.arrays, self.data.scale
        data = ModelData(*known, self.predictions, space, paired)
        self.searches.append(symmetric_search(data, spec, self.parts, self.options))
        return self.searches[-1]

    def _of_rows(self, search: Search) -> Mapping[str, da.Array]:
        """Row numbers and ‖ε_z‖, in the chunks of a search of F − y."""
        arrays, source, space = LazyArrays(search.graph), search.graph.source, self.space

        def task(_: Any, block: tuple[int, int]) -> tuple[Any, ...]:
            return (rows_in_parts, self.parts.task(*block), block[0])

        def deviation(_: Any, block: tuple[int, int]) -> tuple[Any, ...]:
            return (deviations, source, self.parts.task(*block), block, space)

        return {
            "rows": arrays.by_block("rows", task, search.rows, (), np.int64),
            "deviation": arrays.by_block("deviation", deviation, search.rows, (), np.float64),
        }


def _attained(quotients: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return who attains the largest quotient in two sets, the lower row of equals; -1: nobody."""
    one, other = quotients.T
    lower = np.where(rows < 0, NOBODY, rows)
    first = (one > other) | ((one == other) & (lower[:, 0] < lower[:, 1]))
    return np.where(first, rows[:, 0], rows[:, 1])


def _taken(search: Search, which: str, column: int) -> da.Array:
    """Return the largest quotients against a set, or the rows that attain them."""
    arrays, sets = LazyArrays(search.graph), search.spec.sets
    dtype = np.float64 if which == "quotient" else np.int64

    def task(state: Any, block: tuple[int, int]) -> tuple[Any, ...]:
        return (take_quotients, state, sets, which, column)

    return arrays.by_block(f"{which}-{column}", task, search.rows, (), dtype)


# -- what tasks do -----------------------------------------------------------------------------


def take_quotients(
    state: QuotientState, sets: ReferenceSets, which: str, column: int
) -> NDArray[Any]:
    """Return the largest quotients of some rows against a set, or who attains them (-1: nobody)."""
    best = by_set(state, sets)
    if which == "quotient":
        return best.lipschitz[:, column]
    index = (best.witness if best.quotient.size else best.nearest)[:, column]
    return np.where(index == NOBODY, -1, index)


def rows_in_parts(codes: NDArray[np.int16], first: int) -> NDArray[np.int64]:
    """Return the row numbers of those that lie in a part."""
    return first + np.flatnonzero(codes >= 0)


def deviations(
    source: ModelRows, codes: NDArray[np.int16], block: tuple[int, int], space: LabelSpace
) -> NDArray[np.float64]:
    """Return ‖F − y‖ of a block's rows that lie in a part."""
    errors = source.read("labels", *block)[codes >= 0]
    return norms_of(errors, space.norm)
