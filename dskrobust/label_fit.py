"""How each label fits its surroundings.

No model is trained: the nearest samples of another and of the same label tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.typing import ArrayLike, NDArray

from .datasets.labelled import LabelledArrays
from .declared_types import checked_arguments
from .engine.plan import Plan
from .errors import Hint, InvalidOptionError
from .labelled_rows import LabelledRows
from .memory import check_memory
from .metrics import Metric
from .rarity import expected_misfit
from .records import value_counts
from .robustness import score, score_both
from .runs import PairData, RunOptions, open_data
from .scores import Scores, known_spec, run_memo, write_together
from .show.shown_runs import run_shown
from .store import Store, covering, made_once, open_store
from .stored_rows import store_labels
from .witnesses import witness_counts

# How much the number of witnesses counts beside the ratio. Average precision on MNIST with 3 % of
# the labels changed, 60,000 rows: 0.955 without, 0.977 with 0.1, 0.974 with 0.2 and 0.968 with 0.3;
# in few columns more is better (two moons: 0.85, 0.88, 0.90, 0.92).
WITNESS_POWER = 0.2
ROW_BYTES = 80  # of what is known of a label: five numbers, in chunks and joined
_INSTEAD = Hint(
    "take what you need of their Dask arrays, such as quality.score, or ask for the worst ones, "
    "find_label_issues(…, top=1_000)",
    "let `dskrobust issues --out FILE` write it block by block",
)
FEW_LABELS = 1_000_000  # that may be taken for classes without counting them


@dataclass(frozen=True)
class LabelQuality(LabelledRows):
    """How each sample's label fits its surroundings, lazy: Dask arrays until `compute` is called.

    Attributes
    ----------
    same_distance : array (n,) float64
        Distance to the nearest other sample of the same label in the own group; infinite where
        there is none.
    same : array (n,) int64
        Its row number, the lowest one where several do; -1 where there is none.
    ratio : array (n,) float64
        `same_distance` over the reach. Above 1 the nearest neighbour has another label; 1 where
        both are zero or both infinite.
    witness_of : array (n,) int64
        Of how many samples this one is the witness, in all groups together.
    score : array (n,) float64
        How well the label fits, from 0 (not at all) to 1: 1 / (1 + ratio · (1 + witness_of)^0.2).
        In a class less than half as large as the others of its group are on average, the product
        is divided by what the rarity of the class alone explains of it (`dskrobust.rarity`). NaN
        for the only sample of its label in its group, which nothing can be compared with.
    scores : Scores
        Robustness of the same data.
    same_scores : Scores
        The search that `same` comes from.
    """

    same_distance: Any
    same: Any
    ratio: Any
    witness_of: Any
    score: Any
    scores: Scores
    same_scores: Scores

    @property
    def rows(self) -> int:
        """Number of samples."""
        return self.scores.rows

    @property
    def store(self) -> Store | None:
        """Where the data lies, if in a store."""
        return self.scores.store

    @property
    def arrays(self) -> LabelledArrays | None:
        """What was given, where it is in no store."""
        return self.scores.arrays

    @property
    def labels(self) -> da.Array:
        """Labels (n,) as stored or given, lazy, in the chunks of `same`."""
        return self.label_blocks(self.same_scores.reach.chunks[0])

    def warm_up(self) -> None:
        """Compile what the searches run, before anything does."""
        for one in (self.scores, self.same_scores):
            if one.spec is not None and one.result is None:
                one.spec.warm_up()

    def staged(self) -> LabelQuality:
        """Return the same of stored searches, with what all samples together tell computed.

        That is one number a sample, which stays on the workers; without a cluster in this process.
        The rest is told block by block: else all blocks would wait for it in memory.
        """
        return quality_of(self.scores, self.same_scores, da.Array.persist)

    def compute(self, **kwargs: Any) -> LabelQuality:
        """Compute everything in one go; the same with NumPy arrays.

        Raises
        ------
        MemoryPlanError
            Where they do not fit into this process.
        """
        check_memory("a NumPy copy of what is known of all labels", self.rows, ROW_BYTES, _INSTEAD)
        self.warm_up()
        names = [f.name for f in fields(self)][:5]
        title = f"Label quality of {self.scores.name}"
        with run_shown(None if kwargs.get("scheduler") else self.plan, self.run, title):
            values = compute(*(getattr(self, name) for name in names), **kwargs)
        return replace(self, **dict(zip(names, values, strict=True)))

    @property
    def stored(self) -> bool:
        """Whether both searches are read from a store."""
        return self.scores.result is not None and self.same_scores.result is not None

    @property
    def together(self) -> bool:
        """Whether both searches are one pass over the pairs that is still to be made."""
        return self.scores.run is not None and self.scores.run == self.same_scores.run

    @property
    def plan(self) -> Plan | None:
        """How the pass runs; None where there is none."""
        return self.scores.plan if self.together else None

    @property
    def run(self) -> str | None:
        """What events of the pass's tiles are named by."""
        return self.scores.run if self.together else None

    def write(
        self, facts: Callable[[], Mapping[str, Any]] | None = None, *, wait: bool = True
    ) -> LabelQuality:
        """Compute and write both searches into the store; return this as read from there.

        Parameters
        ----------
        facts : callable, optional
            Called once all is computed; what it returns is kept with the results.
        wait : bool
            Whether to wait where another process computes the same; see `Scores.write`.

        Raises
        ------
        InvalidOptionError
            Where the data is not in a store.
        BusyStoreError
            Where another process computes the same, and `wait` is false.
        """
        store, pair = self.scores.store, (self.scores, self.same_scores)
        if store is None or not self.together:
            first, second = (one.write(facts, wait=wait) for one in pair)
            return quality_of(first, second)
        asked = [(one, one.spec) for one in pair if one.spec is not None]
        with ExitStack() as turns:
            for _, spec in asked:
                turns.enter_context(made_once(store, spec.parameters(), wait=wait))
            if any(covering(store, spec.parameters()) for _, spec in asked):
                return label_quality(store, metric=asked[0][1].metric).write(facts, wait=wait)
            title = f"Label quality of {store.spec.name}"
            first, second = write_together(asked, store, facts, title)
            assert self.scores.searched is not None
            run_memo(store, self.scores.searched).clear()
        return quality_of(first, second)


@checked_arguments()
def label_quality(
    data: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    options: RunOptions | None = None,
) -> LabelQuality:
    """Compare every sample's nearest neighbours of the same and of another label.

    Nothing is computed yet; labels are categories.

    Parameters
    ----------
    data : Scores, Store, str or array_like of shape (n, d)
        What `sample_robustness` takes, or its scores: then only the nearest samples of the same
        label are left to find.
    y : array_like, shape (n,), or str, optional
        Labels, or the name of their column; not with scores or a store.
    split : array_like, shape (n,), or str, optional
        Reference group of every row, or the name of its column; not with scores or a store.
    metric : str, Metric or callable
        As for `sample_robustness`; scores have their own.
    scale : float
        Features are multiplied by it; only with arrays.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    LabelQuality
        Dask arrays of shape (n,).

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    options = options or RunOptions()
    if isinstance(data, Scores):
        if y is not None or split is not None:
            raise InvalidOptionError("scores have their own labels and split; give them alone")
        return _of_scores(data, options)
    if isinstance(data, (Store, str, Path)) and y is None:
        data = open_store(data)
        if data.spec.label_kind != "categorical":
            raise _no_categories(data.url, data.spec.label_kind)
    return quality_of(*score_both(open_data(data, y, split, scale), metric, options))


def _of_scores(scores: Scores, options: RunOptions) -> LabelQuality:
    """Add the nearest samples of the same label to scores."""
    spec = known_spec(scores)
    if spec.labels.kind != "categorical":
        raise _no_categories(f"the result of {scores.name}", spec.labels.kind)
    data = PairData(scores.store, scores.arrays, spec.scale)
    return quality_of(scores, score(data, spec.metric, "categorical", options, rule="same"))


def _no_categories(what: str, kind: str) -> InvalidOptionError:
    return InvalidOptionError(f"{what} has {kind} labels; how they fit is told for categories only")


def quality_of(
    scores: Scores, same: Scores, stage: Callable[[da.Array], da.Array] | None = None
) -> LabelQuality:
    """Return what two searches together tell: nearest of another label, and of the same.

    stage: computes what all samples together tell, before any is judged by it.
    """
    chunks = same.reach.chunks  # plans, or what is stored, may differ; scores may be computed
    often = witness_counts(scores.witness)
    often = often if stage is None else stage(often)
    different = da.asarray(scores.reach).rechunk(chunks)
    ratio = da.map_blocks(_ratio, same.reach, different, dtype=np.float64)
    misfit = da.map_blocks(_misfit, same.reach, ratio, often.rechunk(chunks), dtype=np.float64)
    split = da.asarray(scores.split).rechunk(chunks)
    labels = scores.label_blocks(chunks[0])
    expected = expected_misfit(misfit, labels, split, WITNESS_POWER, stage)
    score = 1.0 / (1.0 + misfit / expected)
    return LabelQuality(same.reach, same.nearest, ratio, often, score, scores, same)


def _ratio(same: NDArray[np.float64], different: NDArray[np.float64]) -> NDArray[np.float64]:
    alike = (same == different) & ((same == 0) | np.isinf(same))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(alike, 1.0, same / different)


def _misfit(
    same: NDArray[np.float64], ratio: NDArray[np.float64], witness_of: NDArray[np.int64]
) -> NDArray[np.float64]:
    return np.where(np.isinf(same), np.nan, ratio * (1.0 + witness_of) ** WITNESS_POWER)


def most_labels(store: Store) -> int:
    """Return how many classes a store has at most; 0 of other labels.

    Whole numbers without names are counted only where their size allows more than FEW_LABELS.
    """
    if store.spec.label_kind != "categorical":
        return 0
    if store.spec.classes is not None:
        return len(store.spec.classes)
    known = min(store.rows, int(2 * store.summary.label_bounds["linf"] + 1))
    return known if known <= FEW_LABELS else len(value_counts(store_labels(store)).compute())
