"""Instance hardness: the measures of the literature that pairs of samples tell, in one table.

They come from passes over the pairs that other questions need too: the nearest sample of another
label (`robustness`) and of the same (`label_fit`), the k nearest of any (`neighbours`), and local
sets counted from both ends (`counts`). What the store holds of these is read.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.typing import ArrayLike, NDArray

from .collection import ArraysMixin
from .counts import local_sets
from .datasets.labelled import LabelledArrays
from .declared_types import checked_arguments
from .errors import Hint, InvalidOptionError
from .export import FORMATS, with_ids, write_frames
from .hard_samples import (
    class_frame,
    class_hardness,
    hardest_records,
    hardness_card,
    hardness_frame,
    hardness_frames,
    hardness_records,
)
from .ids import held_ids
from .label_fit import LabelQuality, label_quality
from .labelled_rows import LabelledRows
from .memory import check_memory
from .metrics import Metric
from .neighbours import Neighbours, group_neighbours
from .outputs import check_output
from .records import BLOCK_ROWS
from .runs import PairData, RunOptions
from .scores import Scores
from .searches import searching
from .store import ResultTables, Store, covering, made_once
from .stored_rows import result_tables, result_writes
from .tomek import tomek_links
from .whole_numbers import check_whole
from .witnesses import disagreements

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS = 10  # of kDN, as PyHard and Smith and others' studies after it have it
MEASURES = ("reach", "lipschitz", "robustness", "ratio", "n2", "kdn", "local_set", "usefulness",
            "harmfulness", "tomek_link")  # fmt: skip
KEPT = ("kdn", "local_set", "usefulness", "harmfulness", "tomek_link")  # the others are in results
ROW_BYTES = 400  # of a table of all samples, at most while it is made; ids come on top
_INSTEAD = Hint(
    "ask for the hardest ones, hardness.hardest(1_000), or write all of them block by block, "
    "hardness.export('hardness.parquet')",
    "write it block by block with `dskrobust hardness STORE --out hardness.parquet`",
)


class Searches(NamedTuple):
    """What has to be computed for instance hardness.

    Attributes
    ----------
    quality : LabelQuality
        The nearest samples of another and of the same label.
    lists : Neighbours, optional
        The k nearest; None where the store holds what comes of them.
    options : RunOptions, optional
    """

    quality: LabelQuality
    lists: Neighbours | None
    options: RunOptions | None

    @contextlib.contextmanager
    def running(self, **kwargs: Any) -> Iterator[None]:
        """Compile what is needed, run what goes before one graph, and clear up."""
        of = self.quality
        of.warm_up()
        for one in (of.scores,) if of.together else (of.scores, of.same_scores):
            if one.waves is not None:
                one.waves.run(**kwargs)
        try:
            with searching([None if self.lists is None else self.lists.search], **kwargs):
                yield
        finally:
            for one in (of.scores, of.same_scores):
                if one.scratch is not None:
                    shutil.rmtree(one.scratch, ignore_errors=True)


@dataclass(frozen=True)
class InstanceHardness(ArraysMixin, LabelledRows):
    """How hard every sample is to classify, lazy: Dask arrays until `compute` is called.

    Until then it is a Dask collection. All measures are of a sample in its own group, and of plain
    counts and distances: PyHard divides some by the size of classes and turns them round, so that
    1 is hard, as said below (n_y and n_other being the samples of the group with the sample's label
    and with others).

    Attributes
    ----------
    reach : array (n,) float64
        Distance to the nearest enemy, the nearest sample of another label; the radius of the local
        set (LSR) [2]_.
    lipschitz, robustness : array (n,) float64
        Q and R (paper, 3.3 and 3.4).
    ratio : array (n,) float64
        Distance to the nearest other sample of the same label over `reach`, the summand of N2
        [3]_; 1 where both are zero, NaN for the only sample of its label.
    n2 : array (n,) float64
        ratio / (1 + ratio): N2 of the sample, as in PyHard. Above 0.5 the nearest is an enemy.
    kdn : array (n,) float64
        k-disagreeing neighbours [1]_: share of the k nearest samples with another label, of equal
        distances the lower row numbers; of all others in a group of fewer. NaN where there is none.
    local_set : array (n,) int64
        Local set cardinality [2]_: samples that are nearer than the nearest enemy, the sample
        itself not counted. PyHard's LSC is 1 - (local_set + 1) / n_y.
    usefulness : array (n,) int64
        Local sets of other samples that the sample lies in [2]_. PyHard's is 1 - usefulness / n_y.
    harmfulness : array (n,) int64
        Samples whose nearest enemy this one is [2]_. PyHard's is harmfulness / n_other.
    tomek_link : array (n,) int64
        The other end of the sample's Tomek link: a sample of another label, both being the nearest
        of each other [4]_. -1 where there is none.
    split : array (n,) int16
    label : array (n,)
        Codes of classes, as stored or given.
    groups : tuple of str
    k : int
        Neighbours that kDN looks at.
    store : Store, optional
    arrays : LabelledArrays, optional
        What was given, where it is in no store.
    result : ResultTables, optional
        Where the measures are read from.
    searches : Searches, optional
        What is computed; None of computed arrays.

    References
    ----------
    .. [1] M. R. Smith, T. Martinez, C. Giraud-Carrier: An instance level analysis of data
       complexity. Machine Learning 95 (2014).
    .. [2] E. Leyva, A. González, R. Pérez: A set of complexity measures designed for applying
       meta-learning to instance selection. IEEE TKDE 27 (2015).
    .. [3] A. C. Lorena, L. P. F. Garcia, J. Lehmann, M. C. P. Souto, T. K. Ho: How complex is your
       classification problem? ACM Computing Surveys 52 (2019).
    .. [4] I. Tomek: Two modifications of CNN. IEEE Transactions on Systems, Man, and Cybernetics 6
       (1976).
    """

    reach: Any
    lipschitz: Any
    robustness: Any
    ratio: Any
    n2: Any
    kdn: Any
    local_set: Any
    usefulness: Any
    harmfulness: Any
    tomek_link: Any
    split: Any
    label: Any
    groups: tuple[str, ...]
    k: int
    store: Store | None = None
    arrays: LabelledArrays | None = None
    result: ResultTables | None = None
    searches: Searches | None = field(default=None, repr=False, compare=False)

    measures = MEASURES

    @property
    def rows(self) -> int:
        """Number of samples."""
        return int(self.reach.shape[0])

    def compute(self, **kwargs: Any) -> InstanceHardness:
        """Compute everything in one go; the same with NumPy arrays.

        Raises
        ------
        MemoryPlanError
            Where they do not fit into this process.
        """
        check_memory("a NumPy copy of all measures of hardness", self.rows, ROW_BYTES, _INSTEAD)
        with contextlib.nullcontext() if self.searches is None else self.searches.running(**kwargs):
            (done,) = compute(self, **kwargs)
        computed: InstanceHardness = done
        return computed

    def write(
        self, facts: Callable[[], Mapping[str, Any]] | None = None, *, wait: bool = True
    ) -> InstanceHardness:
        """Compute, and write searches and measures into the store; return what is read from there.

        Parameters
        ----------
        facts : callable, optional
            Called once all is computed; what it returns is kept with the measures.
        wait : bool
            Whether to wait where another process computes the same; see `Scores.write`.

        Raises
        ------
        InvalidOptionError
            Where the data is in no store, or all is computed already.
        BusyStoreError
            Where another process computes the same, and `wait` is false.
        """
        if self.result is not None:
            return self
        if self.store is None or self.searches is None:
            raise InvalidOptionError(
                "only the hardness of a store's samples can be written, before it is computed; "
                "use export() for a file"
            )
        searches = self.searches
        quality = searches.quality.write()
        with made_once(self.store, _parameters(quality.scores, self.k), wait=wait):
            fresh = _measured(quality, self.k, searches.options)
            if fresh.result is None and fresh.searches is not None:
                assert fresh.searches.lists is not None
                fresh.searches.lists.write(wait=wait)
                _write(_measured(quality, self.k, searches.options), self.store, facts)
            return _measured(quality, self.k, searches.options)

    def to_frame(self) -> pd.DataFrame:
        """Return all samples as a table in the order of their rows; what is lazy is computed.

        Columns are row, split, label (named) and the measures; `tomek_link` is missing where there
        is none. Where rows have ids they are the index.

        Raises
        ------
        MemoryPlanError
            Where it does not fit into this process.
        """
        check_memory("a table of all samples' hardness", self.rows, ROW_BYTES, _INSTEAD)
        table = hardness_frame(self, hardness_records(self._done()).compute())
        return with_ids(table, held_ids(self.ids))

    def hardest(self, count: int = 20) -> pd.DataFrame:
        """Return the hardest samples as a table: by kDN, then by N2, then by row number.

        Only so many come into this process.

        Raises
        ------
        InvalidOptionError
            For a count that is no number from 1 on.
        """
        count = check_whole("count", count, of="samples")
        records = hardest_records(self._done(), count).compute()
        return with_ids(hardness_frame(self, records), held_ids(self.ids))

    def by_class(self) -> pd.DataFrame:
        """Return a table of every class of every group, those with most hard samples first.

        Columns are split, label, rows, and how many of these are ``hard`` (most of the k nearest
        have another label), have an ``enemy_nearest`` (N2 above 0.5), and lie in a Tomek link
        (``tomek``).
        """
        return class_frame(self, class_hardness(self._done()).compute())

    def export(self, path: str | Path) -> Path | str:
        """Write the table of all samples into a Parquet or CSV file, block by block.

        Parameters
        ----------
        path : str or Path
            A path or an fsspec URL that ends in .parquet, .csv or .csv.gz.

        Raises
        ------
        InvalidOptionError
            For another end, or a place that cannot be written.
        """
        where = check_output(path, FORMATS)
        return write_frames(hardness_frames(self._done()), where)

    def _done(self) -> InstanceHardness:
        """Return what tables are read from: searched once, in the store where there is one."""
        if self.result is not None or not self.lazy_arrays:
            return self
        return self.compute() if self.store is None else self.write()

    def _emptied(self) -> Any:
        return replace(super()._emptied(), searches=None)

    def _repr_html_(self) -> str:
        return hardness_card(self)

    def __repr__(self) -> str:
        lazy = "lazy" if self.result is None else "stored"
        state = lazy if self.lazy_arrays else "computed"
        return f"<Instance hardness of {self.rows:,} samples, k = {self.k}, {state}>"


@checked_arguments()
def instance_hardness(
    data: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    k: int = NEIGHBOURS,
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    options: RunOptions | None = None,
) -> InstanceHardness:
    """Measure how hard every sample is to classify, as the literature does; nothing runs yet.

    No model is trained: reach, Q, R, N2, kDN, local set, usefulness, harmfulness and Tomek links
    (`InstanceHardness` says what they are) come from exact searches over the pairs.

    Parameters
    ----------
    data : Scores, Store, str or array_like of shape (n, d)
        What `sample_robustness` takes, or its scores.
    y : array_like, shape (n,), or str, optional
        Labels, or the name of their column; not with scores or a store.
    split : array_like, shape (n,), or str, optional
        Reference group of every row, or the name of its column; not with scores or a store.
    k : int
        Neighbours that kDN looks at.
    metric : str, Metric or callable
        As for `sample_robustness`; scores have their own.
    scale : float
        Features are multiplied by it; only with arrays.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    InstanceHardness

    Raises
    ------
    InvalidOptionError
        For a k that is no number of neighbours, or labels that are no classes.
    InvalidDataError, MemoryPlanError, StoreError

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> hardness = instance_hardness(X, y).compute()
    >>> int((hardness.kdn > 0.5).sum()), int((hardness.tomek_link >= 0).sum())
    (25, 2)
    """
    k = check_whole("k", k, of="neighbours")
    quality = label_quality(data, y, split, metric=metric, scale=scale, options=options)
    return _measured(quality, k, options)


def _measured(quality: LabelQuality, k: int, options: RunOptions | None) -> InstanceHardness:
    """Measure from the nearest samples of another and of the same label."""
    scores, chunks = quality.scores, quality.same_scores.reach.chunks
    spec, store, lists = scores.spec, scores.store, None
    assert spec is not None
    ratio = da.map_blocks(_known_ratio, quality.ratio, quality.same_distance, dtype=np.float64)
    columns = {
        "reach": scores.reach,
        "lipschitz": scores.lipschitz,
        "robustness": scores.robustness,
        "ratio": ratio,
        "n2": da.map_blocks(_n2, ratio, dtype=np.float64),
        "split": scores.split,
        "label": quality.labels,
    }
    kept = [] if store is None else covering(store, _parameters(scores, k))
    result = kept[0] if kept else None
    if result is not None:
        columns |= result_tables(result, BLOCK_ROWS)
    else:
        data = PairData(store, scores.arrays, spec.scale)
        lists = group_neighbours(data, spec.metric, k, options)
        sets = local_sets(scores, options)
        columns["local_set"], columns["usefulness"] = sets
        columns["kdn"] = _kdn(lists.index, quality.labels)
        columns["harmfulness"] = quality.witness_of
        columns["tomek_link"] = tomek_links(lists.index, quality.labels)
    return InstanceHardness(
        **{name: da.asarray(values).rechunk(chunks) for name, values in columns.items()},
        groups=scores.groups,
        k=k,
        store=store,
        arrays=scores.arrays,
        result=result,
        searches=Searches(quality, lists, options),
    )


def _known_ratio(ratio: NDArray[np.float64], same: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isinf(same), np.nan, ratio)


def _n2(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.where(np.isposinf(ratio), 1.0, ratio / (1.0 + ratio))


def _kdn(index: Any, labels: da.Array) -> da.Array:
    others = disagreements(index, labels)
    found = (da.asarray(index) >= 0).sum(axis=1).rechunk(others.chunks)
    return da.map_blocks(_share, others, found, dtype=np.float64)


def _share(count: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return count / of


# -- in the store --------------------------------------------------------------------------------


def _parameters(scores: Scores, k: int) -> dict[str, Any]:
    """What the measures depend on beside the data, as plain values."""
    assert scores.spec is not None
    known = {name: v for name, v in scores.spec.parameters().items() if name != "bound"}
    return {**known, "k": k, "search": "instance hardness"}


def _write(
    found: InstanceHardness, store: Store, facts: Callable[[], Mapping[str, Any]] | None
) -> None:
    """Compute the measures that are in no other result, and write them."""
    searches, tables = found.searches, {name: getattr(found, name) for name in KEPT}
    assert searches is not None
    parameters = _parameters(searches.quality.scores, found.k)
    writer, written = result_writes(store, parameters, tables, BLOCK_ROWS)
    with searches.running():
        (checksums,) = compute(written)
    writer.commit(checksums, facts() if facts else {})
