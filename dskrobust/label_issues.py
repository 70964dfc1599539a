"""The samples whose labels are suspicious, as tables: all of them, or the worst few.

Tables are made of blocks of records, one a sample; of the worst few nobody holds more than a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.typing import ArrayLike, NDArray

from .declared_types import checked_arguments
from .errors import Hint, InvalidOptionError
from .export import NAMED_ROWS, blocks_with_ids, with_ids
from .extras import check_libraries
from .ids import held_ids
from .label_fit import LabelQuality, label_quality
from .label_models import ModelEvidence
from .label_regression import has_real_labels, regression_quality
from .label_thresholds import Thresholds
from .labels import label_names
from .memory import check_memory
from .metrics import Metric
from .records import as_records, in_order, lowest, value_counts
from .renaming import renamed_keywords
from .runs import RunOptions
from .whole_numbers import check_whole
from .witnesses import at_witness

if TYPE_CHECKING:
    import pandas as pd

MANY = 0.2  # of a class, from which on rather the class is in question
SORTED_ROWS = 1_000_000  # of a file of all samples that is sorted: larger ones have the rows' order
ROW_BYTES = 400  # of a table of all samples, at most while it is sorted; ids come on top


@renamed_keywords(count="top")
@checked_arguments()
def find_label_issues(
    data: Any,
    y: Any = None,
    split: ArrayLike | None = None,
    *,
    metric: str | Metric | Callable[..., float] = "euclidean",
    labels: str = "",
    scale: float = 1.0,
    threshold: float | None = None,
    top: int | None = None,
    probabilities: Any = None,
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
    labels : {"categorical", "real"}, optional
        Of arrays: categories without it. A store knows its own.
    scale : float
        Features are multiplied by it; only with arrays.
    threshold : float, optional
        Largest score of an issue, from 0 to 1. By default every class has its own, at most 0.4:
        errors are planted in about 1 % of the labels (of a sample of at most 10,000 rows), and at
        least half of what would be flagged is planted, or as suspicious as that. In clean data
        about 1 % of a class is flagged at most. ``table.attrs["thresholds"]`` says which share of
        the planted errors is found, and with about which precision.
    top : int, optional
        Only so many samples, the worst ones; all of them without it.
    probabilities : array_like (n, classes), optional
        What a model that has not seen a sample's label (cross-validation) gives every class, in
        the order of the classes; NumPy or Dask. It counts beside the neighbours. As the model was
        trained without the planted errors, what these tell is optimistic.
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

        Of real labels the columns are others: ``neighbours_label`` (the median label of the ten
        nearest samples of any group), ``difference`` of the given label to it, ``spread`` (how far
        the neighbours' labels are from it as a rule), ``nearest`` and ``nearest_distance``. The
        score is 1 / (1 + ``|difference|`` / spread).

        What does not exist is missing (``<NA>`` or NaN). Where rows have ids they are the index,
        and the other samples have theirs in ``witness_id`` and ``nearest_same_id``.

    Raises
    ------
    InvalidDataError, InvalidOptionError, MemoryPlanError, StoreError
    """
    check_libraries("pandas", "scipy")
    if labels not in ("", "categorical", "real"):
        raise InvalidOptionError(f"labels must be categorical or real, not {labels!r}")
    if labels == "real" or (not labels and has_real_labels(data)):
        if probabilities is not None:
            raise InvalidOptionError("probabilities of classes say nothing of real labels")
        if top is not None:
            check_whole("top", top, of="samples")
        real = regression_quality(data, y, split, metric=metric, scale=scale, options=options)
        return _named(real.findings(threshold).table(top), real.data)
    quality = data
    if not isinstance(data, LabelQuality):
        quality = label_quality(data, y, split, metric=metric, scale=scale, options=options)
    evidence = None if probabilities is None else ModelEvidence.of(quality, probabilities)
    return _named(issue_table(quality, threshold, top, evidence), quality.scores)


def _named(table: pd.DataFrame, data: Any) -> pd.DataFrame:
    """Return a table with the ids of data, where it has some."""
    arrays, store = data.arrays, data.store
    ids = store.ids if store is not None and store.has_ids else arrays.ids if arrays else None
    named = with_ids(table, held_ids(ids))
    named.attrs = table.attrs
    return named


def issue_table(
    quality: LabelQuality,
    threshold: float | None = None,
    top: int | None = None,
    evidence: ModelEvidence | None = None,
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
    else:
        check_whole("top", top, of="samples")
    findings = Findings.of(quality, threshold, evidence)
    quality.warm_up()
    table = findings.table() if top is None else findings.frame(findings.worst(int(top)).compute())
    table.attrs["thresholds"] = findings.threshold_table().to_dict("records")
    return table


_INSTEAD = Hint(
    "ask for the worst ones, find_label_issues(…, top=1_000), or let `dskrobust issues --out FILE` "
    "write all of them block by block",
    "let `dskrobust issues --out FILE` write it block by block",
)


class IssueSummary(NamedTuple):
    """What is found of all labels together.

    Attributes
    ----------
    worst : DataFrame
        The worst samples.
    issues, rows : int
        How many issues there are, and of how many samples.
    classes : DataFrame
        ``label``, ``rows`` and ``issues`` of every class that has some, most first by share.
    """

    worst: pd.DataFrame
    issues: int
    rows: int
    classes: pd.DataFrame

    @property
    def crowded(self) -> pd.DataFrame:
        """The classes of which more than a fifth is flagged."""
        return self.classes[self.classes["issues"] > MANY * self.classes["rows"]]


@dataclass(frozen=True)
class Findings:
    """What is found of every label, lazy.

    Attributes
    ----------
    quality : LabelQuality
    thresholds : Thresholds
        Largest score of an issue, by class.
    unfit : dask array (n,) bool
        Which labels fit no better than those of their witnesses.
    """

    quality: LabelQuality
    thresholds: Thresholds
    unfit: da.Array

    @classmethod
    def of(
        cls,
        quality: LabelQuality,
        threshold: float | Thresholds | None = None,
        evidence: ModelEvidence | None = None,
    ) -> Findings:
        """Return what is found of labels; only errors that are planted are searched by now.

        threshold: of all classes, or what is known of every class's; None to tell every class's
        by planted errors.

        Raises
        ------
        InvalidOptionError
            For a threshold that is no score.
        """
        if isinstance(threshold, Thresholds):
            thresholds = threshold
        elif threshold is None:
            thresholds = Thresholds.calibrated_for(quality, evidence)
        else:
            thresholds = Thresholds.fixed(threshold)
        if evidence is not None:
            quality = replace(quality, score=evidence.joined(quality.score, quality.labels))
        beside = at_witness(quality.score, quality.scores.nearest)
        score = da.asarray(quality.score).rechunk(beside.chunks)
        return cls(quality, thresholds, score <= beside)

    def persist(self) -> Findings:
        """Return the same with what witnesses tell computed: a byte a sample.

        They stay on the workers; without a cluster in this process. See `LabelQuality.staged`.
        """
        return replace(self, unfit=self.unfit.persist())

    @property
    def is_issue(self) -> da.Array:
        """Which samples are issues, (n,) bool."""
        score, witness = self._column(self.quality.score), self._column(self.quality.scores.nearest)
        limit = self.thresholds.at(self.quality.labels)
        return (score <= limit) & self._column(self.unfit) & (witness >= 0)

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
        return as_records(columns, labels.chunks, stored=of.stored)

    def _column(self, values: Any) -> da.Array:
        return da.asarray(values).rechunk(self.quality.same_scores.reach.chunks)

    def worst(self, count: int, *, issues: bool = False) -> da.Array:
        """Return the records of the worst samples by score, (count,) at most; ties by row number.

        issues: only of samples that are issues.
        """
        return lowest(self.records, "score", count, "is_issue" if issues else None)

    def summary(self, top: int) -> IssueSummary:
        """Compute the worst samples, and how many issues there are."""
        records = self.records
        every = value_counts(records["label"])
        flagged = value_counts(records["label"][records["is_issue"]])
        worst, every, flagged = compute(lowest(records, "score", top), every, flagged)
        classes = self._classes(every, flagged)
        issues = int(classes["issues"].sum())
        return IssueSummary(self.frame(worst), issues, self.quality.rows, classes)

    def _classes(self, every: NDArray[np.void], flagged: NDArray[np.void]) -> pd.DataFrame:
        """Return how much of every class is flagged; every, flagged: counts of labels."""
        import pandas as pd

        rows = every["rows"][np.searchsorted(every["value"], flagged["value"])]
        counts = {"rows": rows, "issues": flagged["rows"]}
        table = pd.DataFrame(
            {"label": label_names(flagged["value"], self.quality.classes), **counts}
        )
        order = np.argsort(-table["issues"] / table["rows"], kind="stable")
        return table.iloc[order].reset_index(drop=True)

    def threshold_table(self) -> pd.DataFrame:
        """Return what planted errors tell of every class's threshold; see `Thresholds`."""
        return self.thresholds.frame(label_names(self.thresholds.labels, self.quality.classes))

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

        scores, classes = self.quality.scores, self.quality.classes
        witness, alone = records["witness"], records["nearest_same"] < 0
        there = witness >= 0
        suggested = np.full(len(records), None, dtype=object)
        suggested[there] = label_names(self.quality.labels_at(witness[there]), classes)
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


def _row_numbers(rows: NDArray[np.int64]) -> pd.Series[Any]:
    """Row numbers (n,); -1 is missing."""
    import pandas as pd

    return pd.Series(rows, dtype="Int64").mask(rows < 0)
