"""Folds: for each of them the others together are the training set, and it is the test set.

Scores against every fold are of one pass, and those against the union of all but one are a merge
of them: so a fold's scores are a view, with the groups train and test, of what was computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, pairwise
from operator import index
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import compute, tokenize
from numpy.typing import NDArray

from .datasets.splits import Drawing, RowKeys, SplitOptions
from .declared_types import checked_arguments
from .definitions import robustness_of
from .display import card, table
from .engine.lazy import BY_GROUP
from .errors import Hint, InvalidOptionError
from .members import ranked
from .memory import check_memory
from .metrics import Metric
from .references import row_set
from .robustness import sample_robustness
from .row_sets import GroupRows, RecordedRows, RowSet
from .runs import PairData, RunOptions
from .scores import Scores
from .store import (
    SPAN,
    EvaluationRecords,
    SourceAddress,
    Store,
    evaluation_records,
    find_drawings,
    open_store,
)
from .stored_rows import lazy_rows
from .whole_numbers import is_whole

if TYPE_CHECKING:
    import pandas as pd

TRAIN, TEST = "train", "test"
PREFIX = "fold-"
DRAWING_BYTES = 100  # a row: label, place and code, and what scikit-learn makes of them
NOBODY = np.iinfo(np.int64).max
QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "largest": 1.0}


@dataclass(frozen=True)
class Folds:
    """Folds of the rows of a store; see `make_folds`.

    Attributes
    ----------
    address : SourceAddress
        Of the store.
    names : tuple of str
        fold-1, fold-2, ….
    sets : tuple of RowSet
        The rows of every fold, by address.
    sizes : tuple of int
        How many those are.
    drawn : str
        How they were drawn; "" where they are groups of the store's split.
    seed : int
        Of the drawing.
    """

    address: SourceAddress
    names: tuple[str, ...]
    sets: tuple[RowSet, ...]
    sizes: tuple[int, ...]
    drawn: str = ""
    seed: int = 0

    @property
    def count(self) -> int:
        """How many folds there are."""
        return len(self.names)

    @property
    def store(self) -> Store:
        """The store."""
        return self.address.open()

    @property
    def references(self) -> dict[str, RowSet]:
        """Reference sets for `sample_robustness`; none where the folds are groups anyway."""
        return dict(zip(self.names, self.sets, strict=True)) if self.drawn else {}

    def robustness(
        self,
        *,
        metric: str | Metric | Callable[..., float] = "euclidean",
        labels: Any = None,
        options: RunOptions | None = None,
    ) -> Scores:
        """Score every sample against every fold in one pass; see `sample_robustness`."""
        asked = {"metric": metric, "labels": labels, "options": options}
        return sample_robustness(self.store, references=self.references or None, **asked)

    def train_size(self, number: int) -> int:
        """Return how many rows the training set of a fold has."""
        return sum(self.sizes) - self.sizes[self.place(number)]

    def place(self, number: int) -> int:
        """Return the position of a fold, which are counted from 1 on.

        Raises
        ------
        InvalidOptionError
            Where there is no such fold.
        """
        if not is_whole(number, 1, self.count):
            raise InvalidOptionError(f"there is no fold {number!r}; give one of 1 to {self.count}")
        return int(number) - 1

    def scores(self, scores: Scores, number: int) -> Scores:
        """Return the scores of a fold: groups train (the other folds together) and test (it).

        They equal those of a store with this split to the last bit. Rows in no fold are in neither
        group: their split is -1, and R is NaN.

        Parameters
        ----------
        scores : Scores
            Against all folds, see `robustness`.
        number : int
            Of the fold, from 1 on.

        Raises
        ------
        InvalidOptionError
            For a number that is no fold's, or scores that are not against the folds.
        """
        place = self.place(number)
        columns = [scores.group_code(name) for name in self.names]
        sides = tuple(c for k, c in enumerate(columns) if k != place), (columns[place],)
        codes = _blocks(partial(_as_sides, place=place), self._codes(scores), dtype=np.int16)
        merged = _merged_sides(scores, sides)
        own = {
            name.removesuffix("_by_group"): _blocks(_own_side, codes, values, dtype=values.dtype)
            for name, values in merged.items()
        }
        q, norm = own["lipschitz"], scores.label_norm
        return replace(
            scores,
            **merged,
            **own,
            robustness=_blocks(robustness_of, q, norm, dtype=np.float64),
            split=codes,
            groups=(TRAIN, TEST),
            references=(), reference_rows=None,
            sizes=(self.train_size(number), self.sizes[place]),
            plan=None, result=None, spec=None, base=None, run=None, waves=None,
        )  # fmt: skip

    def _codes(self, scores: Scores) -> Any:
        """Return the position of every row's fold, (n,) int16, -1 for none; lazy as R is."""
        if not self.drawn:
            at = np.full(len(scores.groups), -1, np.int16)
            at[[scores.group_code(name) for name in self.names]] = np.arange(self.count)
            return _blocks(partial(np.take, at), scores.split, dtype=np.int16)
        lazy = isinstance(scores.robustness, da.Array)
        chunks = scores.robustness.chunks[0] if lazy else (scores.rows,)
        name = f"folds-{tokenize(self.address, self.sets, chunks)}"
        codes = lazy_rows(name, partial(fold_codes, self.sets), chunks, (), np.int16)
        return codes if lazy else codes.compute()

    def summary(self, scores: Scores) -> pd.DataFrame:
        """Return R of the training and the test set of every fold: quantiles that are samples' R.

        Parameters
        ----------
        scores : Scores
            Against all folds, see `robustness`.

        Returns
        -------
        DataFrame
            Columns fold, group, samples, least, 5 %, median, 95 % and largest; a row a group.
        """
        import pandas as pd  # a second that the command line does not wait for

        rows, found = [], []
        for number in range(1, self.count + 1):
            view = self.scores(scores, number)
            for code, group in enumerate(view.groups):
                size = view.sizes[code]  # type: ignore[index]
                at = [round(share * (size - 1)) for share in QUANTILES.values()]
                rows.append((number, group, size))
                found.append(ranked(view, code)[at]["value"])
        values = np.stack(compute(*found))
        named = pd.DataFrame(rows, columns=["fold", "group", "samples"])
        return named.join(pd.DataFrame(values, columns=list(QUANTILES)))

    def _repr_html_(self) -> str:
        rows = [(name, f"{size:,}") for name, size in zip(self.names, self.sizes, strict=True)]
        return card("Folds", self.drawn or "groups of the split", table(("fold", "rows"), rows))

    def __repr__(self) -> str:
        groups = f"{self.count} groups of its split"
        return f"<Folds of {self.store.spec.name}: {self.drawn or groups}>"


@checked_arguments()
def make_folds(
    store: Any,
    count: int | None = None,
    *,
    seed: int = 0,
    stratify: bool | None = None,
    within: str | None = None,
) -> Folds:
    """Return the folds of a store's split, or draw some and keep them beside its data.

    Parameters
    ----------
    store : Store or str
        Where its split has the groups fold-1, fold-2, … (``ingest --folds``), those are the folds.
    count : int, optional
        How many are drawn where the split has none; the data stays as it is.
    seed : int
        Of the drawing, as for `ingest`; the same one gives the same folds.
    stratify : bool, optional
        Whether every class is spread over the folds alike, to one row. By default it is where
        labels are classes and each has two rows at least.
    within : str, optional
        Only the rows of this group are in folds, such as train, so that test stays apart.

    Raises
    ------
    InvalidOptionError
        For another number of folds than the split has, or none where it has none.
    InvalidDataError
        For fewer rows than folds.
    MemoryPlanError
        Where what a drawing holds of every row does not fit into this process.
    """
    store = open_store(store)
    named = _fold_groups(store)
    if named:
        _check_own(store, named, count, within, stratify)
        codes = [store.groups.index(name) for name in named]
        held = tuple(GroupRows(store.address, code) for code in codes)
        sizes = tuple(store.summary.groups[code].rows for code in codes)
        return Folds(store.address, named, held, sizes)
    if count is None:
        raise InvalidOptionError(
            f"the split of {store.url} has no folds, its groups are {', '.join(store.groups)}",
            Hint("say how many to draw: make_folds(store, 5)", "say how many to draw: --folds 5"),
        )
    asked = SplitOptions(folds=count)
    seed = _checked_seed(seed)
    request = {"folds": int(count), "seed": seed, "stratify": stratify, "within": within}
    records = evaluation_records(store, request)
    told = records.facts().get("told")
    counts = [records.counts(name) for name in asked.names]
    if told is None or any(count is None for count in counts):  # never, or not to its end
        told = _draw(store, records, request)
        counts = [records.counts(name) for name in asked.names]
    sizes = tuple(int(np.sum(count)) for count in counts)  # type: ignore[arg-type]
    sets = tuple(RecordedRows(records, (name,)) for name in asked.names)
    return Folds(store.address, asked.names, sets, sizes, str(told), seed)


def _checked_seed(seed: Any) -> int:
    """Return a seed as a plain number: of the same one the records have the same name."""
    try:
        return index(seed)
    except TypeError:
        raise InvalidOptionError(f"the seed must be a whole number, not {seed!r}") from None


def known_folds(store: Store) -> list[Folds]:
    """Return the folds of a store's split, or all that were drawn beside it; none are drawn now."""
    if has_folds(store):
        return [make_folds(store)]
    return [
        make_folds(store, asked["folds"], **{k: v for k, v in asked.items() if k != "folds"})
        for asked in find_drawings(store)
    ]


def has_folds(store: Store) -> bool:
    """Whether a store's split has folds."""
    return bool(_fold_groups(store))


def _fold_groups(store: Store) -> tuple[str, ...]:
    """Return the groups fold-1, fold-2, … of a split that have rows."""
    held = {store.groups[code] for code, group in store.summary.groups.items() if group.rows}
    names: list[str] = []
    while (name := f"{PREFIX}{len(names) + 1}") in held:
        names.append(name)
    return tuple(names) if len(names) > 1 else ()


def _check_own(
    store: Store,
    named: tuple[str, ...],
    count: int | None,
    within: str | None,
    stratify: bool | None,
) -> None:
    if count not in (None, len(named)):
        raise InvalidOptionError(
            f"the split of {store.url} has {len(named)} folds, and {count} are asked for",
            Hint(f"give {len(named)}, or ingest the data without folds",
                 f"give --folds {len(named)}, or ingest the data without --folds"),
        )  # fmt: skip
    for name, value in (("within", within), ("stratify", stratify)):
        if value is not None:
            raise InvalidOptionError(
                f"{name}={value!r} says how folds are drawn, but those of {store.url} are groups "
                "of its split; leave it away"
            )


def keep_groups(scores: Scores) -> None:
    """Write what stored scores against further sets say of the groups alone, as `compute` does.

    It is a result of its own, which is what commands look for where nobody asks for the sets.
    """
    if not scores.references or scores.store is None or scores.spec is None:
        return
    spec, width = replace(scores.spec, sets=None), len(scores.groups)
    tables = {name: getattr(scores, name)[:, :width] for name in BY_GROUP}
    alone = replace(scores, **tables, references=(), spec=spec, result=None, base=None)
    seconds = scores.result.facts["seconds"] if scores.result else 0.0
    alone.write(lambda: {"seconds": seconds})


# -- drawing -----------------------------------------------------------------------------------


def _draw(store: Store, records: EvaluationRecords, request: Mapping[str, Any]) -> str:
    """Draw folds as `ingest` does, keep the rows of each beside the data, say how it was done."""
    rows, within = store.rows, request["within"]
    check_memory(
        "a drawing of folds",
        rows,
        DRAWING_BYTES,
        Hint("draw them as the data is ingested: ingest(..., folds=5)",
             "draw them as the data is ingested: dskrobust ingest … --folds 5"),
    )  # fmt: skip
    labels = np.asarray(store.read("labels", 0, rows))
    members = np.arange(rows)
    if within is not None:
        members = row_set(PairData(store), within, "within").within(0, rows)
        labels = labels[members]
    stratify = request["stratify"]
    if stratify is None:
        stratify = _can_stratify(store, labels)
    elif stratify and store.spec.label_kind != "categorical":
        raise InvalidOptionError("stratify=True spreads classes, but the labels are numbers")
    options = SplitOptions(folds=request["folds"], stratify=bool(stratify))
    drawing = Drawing(store.url, len(members), RowKeys(labels), store.spec.classes)
    drawn = drawing.split(options, request["seed"])
    told = drawing.told(options, drawn, request["seed"]).removeprefix("split: ")
    told += "" if within is None else f", within {within}"
    records.begin({"told": told, "drawn": dict(request)})
    for code, name in enumerate(options.names):
        _keep(records, name, members[drawn == code])
    return told


def _can_stratify(store: Store, labels: NDArray[Any]) -> bool:
    if store.spec.label_kind != "categorical" or not len(labels):
        return False
    return bool(np.unique(labels, return_counts=True)[1].min() > 1)


def _keep(records: EvaluationRecords, name: str, rows: NDArray[np.int64]) -> None:
    spans = np.arange(-(-records.address.rows // SPAN) + 1) * SPAN
    cuts = pairwise(np.searchsorted(rows, spans).tolist())
    counts = [records.save_span(name, k, rows[a:b]) for k, (a, b) in enumerate(cuts)]
    records.save_counts(name, np.array(counts, np.int64))


# -- what blocks come to -----------------------------------------------------------------------


def fold_codes(sets: tuple[RowSet, ...], lo: int, hi: int) -> NDArray[np.int16]:
    """Return the position of the fold of every row of a block, (hi - lo,), -1 for none."""
    codes = np.full(hi - lo, -1, np.int16)
    for code, rows in enumerate(sets):
        codes[rows.within(lo, hi) - lo] = code
    return codes


def _merged_sides(scores: Scores, sides: tuple[tuple[int, ...], ...]) -> dict[str, Any]:
    """Return the tables against the training and the test set, (n, 2) each."""
    tables = {}
    for values, rows, least in (("lipschitz", "witness", False), ("reach", "nearest", True)):
        best, found = (getattr(scores, f"{name}_by_group") for name in (values, rows))
        value_of = partial(_best, sides=sides, least=least)
        row_of = partial(_best_rows, sides=sides, least=least)
        width = len(sides)
        tables[f"{values}_by_group"] = _blocks(value_of, best, dtype=best.dtype, width=width)
        tables[f"{rows}_by_group"] = _blocks(row_of, best, found, dtype=found.dtype, width=width)
    return tables


def _blocks(task: Callable[..., Any], *arrays: Any, dtype: Any, width: int | None = None) -> Any:
    """Return what a task makes of all rows, (n,) or (n, width), of lazy arrays block by block."""
    if not any(isinstance(array, da.Array) for array in arrays):
        return task(*arrays)
    axes = "i" if width is None else "ij"
    named = [(a, "ij"[: a.ndim] if isinstance(a, da.Array) else None) for a in arrays]
    return da.blockwise(
        task, axes, *chain.from_iterable(named), dtype=dtype, concatenate=True,
        adjust_chunks=None if width is None else {"j": width},
        meta=np.empty((0,) * len(axes), dtype),
    )  # fmt: skip


def _best(
    values: NDArray[np.float64], sides: tuple[tuple[int, ...], ...], least: bool
) -> NDArray[np.float64]:
    """Return the least or largest value of either side's columns, (b, 2)."""
    best = np.min if least else np.max
    return np.stack([best(values[:, list(side)], axis=1) for side in sides], axis=1)


def _best_rows(
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    sides: tuple[tuple[int, ...], ...],
    least: bool,
) -> NDArray[np.int64]:
    """Return the row that attains it, (b, 2): of several the lowest number, -1 for none."""
    best = _best(values, sides, least)
    found = []
    for k, side in enumerate(sides):
        among, attained = rows[:, list(side)], values[:, list(side)] == best[:, [k]]
        found.append(np.where(attained & (among >= 0), among, NOBODY).min(axis=1))
    lowest = np.stack(found, axis=1)
    return np.where(lowest == NOBODY, -1, lowest)


def _as_sides(codes: NDArray[np.int16], place: int) -> NDArray[np.int16]:
    """Return 0 for the training set, 1 for the test set, -1 for rows in no fold."""
    return np.where(codes < 0, -1, codes == place).astype(np.int16)


def _own_side(codes: NDArray[np.int16], values: NDArray[Any]) -> NDArray[Any]:
    """Return the column of every row's own group; of rows in none NaN, or -1 for a row number."""
    own = values[np.arange(len(codes)), codes]
    return np.where(codes < 0, np.nan if values.dtype.kind == "f" else -1, own)
