"""The samples whose labels are probably wrong, as tables: all of them, or the worst few.

Tables are made of blocks of records, one a sample; of the worst few nobody holds more than a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import compute, persist
from numpy.typing import ArrayLike, NDArray

from .errors import Hint, InvalidOptionError
from .export import NAMED_ROWS, blocks_with_ids, with_ids
from .ids import held_ids
from .label_fit import LabelQuality, label_quality
from .labels import label_names
from .memory import check_memory
from .metrics import Metric
from .records import as_records, in_order, lowest
from .runs import RunOptions
from .witnesses import at_witness

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = 0.4  # a sample that suspicion puts half again above the balance of 1
SORTED_ROWS = 1_000_000  # of a file of all samples that is sorted: larger ones have the rows' order
ROW_BYTES = 400  # of a table of all samples, at most while it is sorted; ids come on top


def find_label_issues(
    data: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    scale: float = 1.0,
    threshold: float = THRESHOLD,
    top: int | None = None,
    options: RunOptions | None = None,
) -> pd.DataFrame:
    """Return the samples by how badly their labels fit their surroundings, the worst first.

    Computes what the store does not hold already; `label_quality(store).write()` keeps it there.
    All samples need memory for a few numbers each; with `top` only so many come into this process.

    Parameters
    ----------
    data : Scores, LabelQuality, Store, str or array_like
        Scores of categorical labels, or what `sample_robustness` takes (with `y` and `split`).
    y : array_like, shape (n,), or str, optional
        Labels, or the name of their column; not with scores or a store.
    split : array_like, shape (n,), or str, optional
        Reference group of every row, or the name of its column; not with scores or a store.
    metric : str, Metric or callable
        As for `sample_robustness`; scores have their own.
    scale : float
        Features are multiplied by it; only with arrays.
    threshold : float
        Largest score of an issue, from 0 to 1. On MNIST with 3 % of the labels changed, 0.4 finds
        94 % of them, and 87 % of what it finds are changed ones.
    top : int, optional
        Only so many samples, the worst ones; all of them without it.
    options : RunOptions, optional
        How to run; results do not depend on it.

    Returns
    -------
    pandas.DataFrame
        One row per sample, sorted by score; equal scores by row number. Columns:

        - ``row``, ``split``: row number and group
        - ``is_issue``: score at most `threshold`, and no larger than that of its witness (of two
          samples that contradict each other the one that fits better is believed)
        - ``score``: from 0 (does not fit) to 1; missing for the only sample of its label in its
          group, which comes last (see `LabelQuality`)
        - ``given_label``, ``suggested_label``: its own and the witness's
        - ``witness``, ``witness_distance``: nearest sample of another label in the group
        - ``nearest_same``, ``same_distance``: nearest other sample of the same label
        - ``ratio``, ``witness_of``: same over witness distance; whose witness it is, how often

        What does not exist is missing (``<NA>`` or NaN). Where rows have ids they are the index,
        and the other samples have theirs in ``witness_id`` and ``nearest_same_id``.

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    quality = data
    if not isinstance(data, LabelQuality):
        quality = label_quality(data, y, split, metric=metric, scale=scale, options=options)
    return with_ids(issue_table(quality, threshold, top), held_ids(quality.scores.ids))


def issue_table(
    quality: LabelQuality, threshold: float = THRESHOLD, top: int | None = None
) -> pd.DataFrame:
    """Return what `find_label_issues` returns, by row numbers only: no ids are read.

    Raises
    ------
    InvalidOptionError
        For a threshold that is no score, or a `top` that is no number of samples.
    MemoryPlanError
        Where a table of all samples does not fit into this process.
    """
    if top is None:
        check_memory("a table of all labels", quality.rows, ROW_BYTES, _INSTEAD)
    elif isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 1:
        raise InvalidOptionError(f"top must be a number of samples from 1 on, but is {top!r}")
    findings = Findings.of(quality, threshold)
    quality.warm_up()
    return findings.table() if top is None else findings.frame(findings.worst(int(top)).compute())


_INSTEAD = Hint(
    "ask for the worst ones, find_label_issues(…, top=1_000), or let `dskrobust issues --out FILE` "
    "write all of them block by block",
    "let `dskrobust issues --out FILE` write it block by block",
)


class IssueSummary(NamedTuple):
    """The worst samples as a table, how many issues there are, and of how many samples."""

    worst: pd.DataFrame
    issues: int
    rows: int


@dataclass(frozen=True)
class Findings:
    """What is found of every label, lazy.

    Attributes
    ----------
    quality : LabelQuality
    threshold : float
        Largest score of an issue.
    witness_score : dask array (n,) float64
        The score of every sample's witness.
    """

    quality: LabelQuality
    threshold: float
    witness_score: da.Array

    @classmethod
    def of(cls, quality: LabelQuality, threshold: float = THRESHOLD) -> Findings:
        """Return what is found of labels; nothing is computed.

        Raises
        ------
        InvalidOptionError
            For a threshold that is no score.
        """
        if not 0 <= threshold <= 1:
            raise InvalidOptionError(f"threshold must lie between 0 and 1, but is {threshold!r}")
        return cls(quality, threshold, at_witness(quality.score, quality.scores.nearest))

    def persist(self) -> Findings:
        """Return the same with what all samples together tell computed: three numbers a sample.

        They stay on the workers; without a cluster in this process.
        """
        of = self.quality
        often, score, witness_score = persist(of.witness_of, of.score, self.witness_score)
        return replace(
            self, quality=replace(of, witness_of=often, score=score), witness_score=witness_score
        )

    @property
    def is_issue(self) -> da.Array:
        """Which samples are issues, (n,) bool."""
        score, witness = self._column(self.quality.score), self._column(self.quality.scores.nearest)
        unfit = (score <= self.threshold) & (score <= self._column(self.witness_score))
        return unfit & (witness >= 0)

    @property
    def records(self) -> da.Array:
        """One record a sample, (n,), in the order of the rows and the chunks of the search."""
        of, labels = self.quality, self.quality.labels
        columns = {
            "split": of.scores.split,
            "is_issue": self.is_issue,
            "score": of.score,
            "label": labels,
            "witness": of.scores.nearest,
            "witness_distance": of.scores.reach,
            "nearest_same": of.same,
            "same_distance": of.same_distance,
            "ratio": of.ratio,
            "witness_of": of.witness_of,
        }
        return as_records(columns, labels.chunks)

    def _column(self, values: Any) -> da.Array:
        return da.asarray(values).rechunk(self.quality.same_scores.reach.chunks)

    def worst(self, count: int, *, issues: bool = False) -> da.Array:
        """Return the records of the worst samples by score, (count,) at most; ties by row number.

        issues: only of samples that are issues.
        """
        return lowest(self.records, "score", count, "is_issue" if issues else None)

    def summary(self, top: int) -> IssueSummary:
        """Compute the worst samples, and how many issues there are."""
        worst, issues = compute(self.worst(top), self.is_issue.sum())
        return IssueSummary(self.frame(worst), int(issues), self.quality.rows)

    def table(self) -> pd.DataFrame:
        """Return a table of all samples, the worst first."""
        return self.frame(in_order(self.records.compute(), "score"))

    def frames(self) -> Iterator[pd.DataFrame]:
        """Yield the table of all samples in pieces, with ids where rows have some.

        The worst come first; beyond SORTED_ROWS samples come in the order of their rows, and only
        one piece is in memory.
        """
        ids, rows = self.quality.scores.ids, self.quality.rows
        if rows <= SORTED_ROWS:
            yield from blocks_with_ids(self.table(), ids)
            return
        records = self.records
        for lo in range(0, rows, NAMED_ROWS):
            yield with_ids(self.frame(records[lo : lo + NAMED_ROWS].compute()), ids)

    def frame(self, records: NDArray[np.void]) -> pd.DataFrame:
        """Return records (k,) as a table of what `find_label_issues` says."""
        import pandas as pd

        scores = self.quality.scores
        store, arrays = scores.store, scores.arrays
        described = arrays if store is None else store.spec
        classes = None if described is None else described.classes
        witness, alone = records["witness"], records["nearest_same"] < 0
        there = witness >= 0
        suggested = np.full(len(records), None, dtype=object)
        suggested[there] = label_names(self._labels_of(witness[there]), classes)
        return pd.DataFrame(
            {
                "row": records["row"],
                "split": np.array(scores.groups, dtype=object)[records["split"]],
                "is_issue": records["is_issue"],
                "score": records["score"],
                "given_label": label_names(records["label"], classes),
                "suggested_label": suggested,
                "witness": _row_numbers(witness),
                "witness_distance": np.where(there, records["witness_distance"], np.nan),
                "nearest_same": _row_numbers(records["nearest_same"]),
                "same_distance": np.where(alone, np.nan, records["same_distance"]),
                "ratio": np.where(alone, np.nan, records["ratio"]),
                "witness_of": records["witness_of"],
            }
        )

    def _labels_of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the labels (k,) of rows, which are read chunk by chunk, each row once."""
        store, arrays = self.quality.scores.store, self.quality.scores.arrays
        known, place = np.unique(rows, return_inverse=True)
        if store is not None:
            labels = store.labels[known]
        else:
            assert arrays is not None
            labels = np.asarray(arrays.y[known])
        return labels.reshape(len(known))[place]


def _row_numbers(rows: NDArray[np.int64]) -> pd.Series[Any]:
    """Row numbers (n,); -1 is missing."""
    import pandas as pd

    return pd.Series(rows, dtype="Int64").mask(rows < 0)
