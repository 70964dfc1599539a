"""What a report is made of, read from a store: scores, labels, subsets, trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from itertools import count as numbers_from
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..alignments import Alignment, AlignmentSummary, alignment
from ..data_issues import DataIssues, find_data_issues
from ..datasets import restore_labels
from ..errors import InvalidOptionError
from ..label_counts import NAME_BYTES, counting_memory
from ..label_fit import label_quality, most_labels
from ..label_issues import Findings
from ..label_thresholds import HIGHEST, Thresholds
from ..memory import tasks_at_once
from ..ranking import sorting_memory
from ..records import BLOCK_ROWS, as_records, ends, lowest, value_counts
from ..scores import read_scores
from ..show.overview import (
    SAMPLE_ROWS,
    Overview,
    id_facts,
    label_text,
    overview_memory,
    score_records,
)
from ..store import ResultTables, Store
from ..stored_rows import store_labels
from ..subsets import ALL, Subset, class_name, least_robust, most_robust, select_subset, whole
from .pictures import as_picture
from .trials import StoredEvaluation, stored_evaluations

if TYPE_CHECKING:
    from ..scores import Scores

NEAR = 10.0  # times the group's median Q: from there on samples are nearly contradictory
MOST_CLASSES = 40  # that are named, or shown
SAMPLE_BYTES = 300  # of a sample in tables, of which the page's parts are picked
COMPARED = 128  # samples whose columns are compared with their witnesses'
FIGURES = 144 * 2**20  # bytes of figures, of the page and of what draws them (measured)
Subsets = Mapping[str, str | None] | Sequence[str]  # of selections
SHOWN = ("robustness", "lipschitz", "reach", "witness", "nearest")


class StoredResults:
    """Tidy tables of one stored result, and of what else the store has; read when asked for.

    Parameters
    ----------
    store : Store
    result : ResultTables
        The scores that are shown.
    subsets : mapping of str to str, or sequence of str
        Selections (train:L40000) whose labels are shown, by name where they have own names; without
        them the subsets of the stored evaluations, without those the least and most robust halves
        of every group.
    """

    def __init__(self, store: Store, result: ResultTables, subsets: Subsets = ()) -> None:
        self.store, self.result = store, result
        self.asked = subsets if isinstance(subsets, Mapping) else dict.fromkeys(subsets)

    @property
    def categorical(self) -> bool:
        """Whether labels are classes."""
        return self.store.spec.label_kind == "categorical"

    @property
    def has_real_labels(self) -> bool:
        """Whether labels are numbers, one a sample."""
        return not self.categorical and not self.store.row_shape("labels")[0]

    @cached_property
    def scores(self) -> Scores:
        """The scores, lazy."""
        return read_scores(self.store, self.result)

    @cached_property
    def overview(self) -> Overview:
        """What the scores of all samples come to."""
        return Overview.of(self.scores)

    @cached_property
    def label_counts(self) -> NDArray[np.void]:
        """Every label that occurs, ascending, and how many rows have it: value, rows."""
        counts: NDArray[np.void] = value_counts(store_labels(self.store)).compute()
        return counts

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a sample, the index is its row number: group, label and scores in its group.

        All samples, or those of `overview.drawn`. Groups and classes are categories in the store's
        order. A real label is in its own units; for vector labels there is no label.
        """
        frame = self.frame(self.overview.drawn)
        every = pd.RangeIndex(self.store.rows, name="row")
        return frame if self.overview.is_sample else frame.set_axis(every)

    def frame(self, records: NDArray[np.void]) -> pd.DataFrame:
        """Return records of scores as the table that `samples` says."""
        named: dict[str, Any] = {
            "group": pd.Categorical.from_codes(records["split"], self.scores.groups)
        }
        if self.categorical:
            known = self.label_counts["value"]
            codes = np.searchsorted(known, self._labels_of(records["row"]))
            names = [class_name(self.store, label) for label in known]
            named["label"] = pd.Categorical.from_codes(codes, names)
        elif self.has_real_labels:
            named["label"] = restore_labels(self.store.spec, self._labels_of(records["row"]))
        named |= {name: np.ascontiguousarray(records[name]) for name in SHOWN}
        return pd.DataFrame(named, index=pd.Index(records["row"], name="row"), copy=False)

    def _labels_of(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the labels of rows as stored, (k,) or (k, m)."""
        whole = len(rows) == self.store.rows and (np.diff(rows) == 1).all()
        labels = np.asarray(self.store.labels[:] if whole else self.store.labels[rows])
        return labels.reshape(len(rows)) if self.categorical else labels

    def extreme_samples(self, count: int, labels: Sequence[Any], *, known: bool) -> pd.DataFrame:
        """Return the part of `samples` that the extremes of some classes of the main group lie in.

        count: of either end; labels: the classes as stored, all samples together without any;
        known: only samples with a witness.
        """
        if not self.overview.is_sample:
            return self.samples[self.samples["witness"] >= 0] if known else self.samples
        records = score_records(self.scores)
        own = records["split"] == self.scores.groups.index(self.main_group)
        own = own & (records["witness"] >= 0) if known else own
        label = store_labels(self.store) if labels else da.zeros_like(records["split"])
        own = own & da.isin(label, list(labels)) if labels else own
        columns = {name: records[name] for name in records.dtype.names[1:]}
        asked = as_records({**columns, "label": label, "own": own})
        return self.frame(ends(asked, "robustness", "label", count, "own").compute())

    def lowest_pairs(self, count: int) -> pd.DataFrame:
        """Return the part of `samples` that the closest pairs lie in."""
        if not self.overview.is_sample:
            return self.samples
        records = score_records(self.scores)
        there = (records["witness"] >= 0) | records["contradictory"]
        columns = {name: records[name] for name in records.dtype.names[1:]}
        asked = as_records({**columns, "there": there})
        return self.frame(lowest(asked, "robustness", 2 * count, "there").compute())

    @cached_property
    def median_lipschitz(self) -> pd.Series[float]:
        """Median Q of every group, of `samples`."""
        return median_lipschitz(self.samples)

    @cached_property
    def near(self) -> int:
        """Number of all samples that are "near", as `close_kinds` has it, but not contradictory."""
        limit = NEAR * self.median_lipschitz.to_numpy()
        limit = np.where(limit > 0, limit, np.inf)
        q, split, reach = (
            da.asarray(values).rechunk(BLOCK_ROWS)
            for values in (self.scores.lipschitz, self.scores.split, self.scores.reach)
        )
        is_near = da.map_blocks(_reaches, q, split, limit=limit, dtype=bool) & (reach != 0)
        return int(is_near.sum().compute(scheduler="threads"))

    @cached_property
    def main_group(self) -> str:
        """The group with the most samples, as a rule the training set."""
        return max(self.group_counts, key=self.group_counts.__getitem__)

    @property
    def group_counts(self) -> dict[str, int]:
        """Number of samples of every group."""
        ranges = self.overview.ranges
        return {group: ranges[group][0] if group in ranges else 0 for group in self.scores.groups}

    def labels_called(self, names: Sequence[str]) -> list[Any]:
        """Return the labels of some classes as stored; without names of the first MOST_CLASSES."""
        if not self.categorical:
            return []
        known = self.label_counts["value"].tolist()
        if not names:
            return known[:MOST_CLASSES]
        return [label for label in known if class_name(self.store, label) in names]

    @cached_property
    def evaluations(self) -> list[StoredEvaluation]:
        """The evaluations of the store's data."""
        return stored_evaluations(self.store)

    @cached_property
    def probabilities(self) -> pd.Series[float] | None:
        """Trimmed mean probability of the true class by row (paper, D.2), None without networks."""
        several = [m.probabilities for e in self.evaluations for m in e.models]
        known = [each for each in several if each is not None]
        return known[-1] if known else None

    @property
    def metric(self) -> str:
        """The metric as commands take it; in a result Mahalanobis has the name of its matrix."""
        name = str(self.result.parameters["metric"])
        return "mahalanobis" if name.startswith("mahalanobis") else name

    @property
    def contradictions(self) -> int:
        """Number of all samples with a differently labelled twin at distance 0."""
        return self.overview.contradictions

    @cached_property
    def label_findings(self) -> Findings | None:
        """What is found of the labels, None where the store does not know it.

        Nothing is planted: without thresholds that the store keeps, all classes have the highest.
        """
        if not self.categorical:
            return None
        try:
            quality = label_quality(self.store, metric=self.metric)
        except InvalidOptionError:  # a metric that only its function could compute
            return None
        if quality.scores.result is None or quality.same_scores.result is None:
            return None
        thresholds = Thresholds.kept_for(quality) or Thresholds.fixed(HIGHEST)
        return Findings.of(quality.staged(), thresholds).persist()

    @cached_property
    def suspicious(self) -> int:
        """Number of labels that are issues, 0 where the store does not know them."""
        findings = self.label_findings
        return int(findings.is_issue.sum().compute()) if findings is not None else 0

    @cached_property
    def data_issues(self) -> DataIssues | None:
        """What the searches for label issues found besides, None where the store has them not."""
        findings = self.label_findings
        return find_data_issues(findings.quality, top=1) if findings is not None else None

    @cached_property
    def alignment(self) -> tuple[Alignment, AlignmentSummary] | None:
        """The main group beside the next one, None where there is one group."""
        others = [g for g, count in self.group_counts.items() if count and g != self.main_group]
        if not others:
            return None
        made = alignment(self.scores, self.main_group, others[0])
        return made, made.summary()

    def label_issues(self, count: int) -> pd.DataFrame | None:
        """Return the worst rows of `find_label_issues`, None where the store does not know them."""
        findings = self.label_findings
        if findings is None:
            return None
        return findings.frame(findings.worst(count, issues=True).compute())

    def ids(self, rows: ArrayLike) -> list[Any] | None:
        """Return the ids of rows, which alone are read; None where the store has none."""
        return id_facts(self.scores.ids, np.asarray(rows, np.int64))

    def label_texts(self, rows: ArrayLike) -> list[str]:
        """Return what the labels of rows are called, real ones in their own units."""
        labels = self._labels_of(np.asarray(rows, np.int64))
        return [label_text(self.store, label) for label in labels]

    def pictures(self, rows: ArrayLike) -> dict[int, NDArray[np.uint8]]:
        """Return rows as pictures, (height, width) or (height, width, 3); only these are read.

        Raises
        ------
        InvalidOptionError
            Where the store does not say how a row is seen as a picture.
        """
        shape = self.store.spec.image_shape
        if shape is None:
            raise InvalidOptionError(
                f"{self.store.url} holds no images: ingest arrays of the shape (n, height, width), "
                "or say how a row is seen with StoreSpec(image_shape=(height, width))"
            )
        wanted = np.unique(np.asarray(rows, np.int64))
        features, scale = self.store.features[wanted], self.store.spec.scale
        drawn = (as_picture(row, shape, scale) for row in features)
        return dict(zip(wanted.tolist(), drawn, strict=True))

    # -- subsets -------------------------------------------------------------------------------

    @cached_property
    def subsets(self) -> dict[str, list[Subset]]:
        """Subsets by the group that they are of ("all" for several), the whole group first.

        No two have the same name: evaluations may call other rows alike.
        """
        by_group: dict[str, list[Subset]] = {}
        for subset in self._chosen():
            by_group.setdefault(self._group_of(subset), []).append(subset)
        found = {group: self._with_whole(group, own) for group, own in by_group.items()}
        taken: set[str] = set()
        return {group: [_named_apart(s, taken) for s in own] for group, own in found.items()}

    def _chosen(self) -> list[Subset]:
        if self.asked:
            return [self._asked(name, text) for name, text in self.asked.items()]
        by_key: dict[str, Subset] = {}
        for evaluation in (one for one in self.evaluations if one.fold is None):
            for name, key in evaluation.subset_keys().items():
                if key not in by_key:
                    rows = evaluation.records.rows(key)
                    by_key[key] = Subset(name, rows, len(rows))
        return list(by_key.values()) or self._halves()

    def _asked(self, name: str, text: str | None) -> Subset:
        """Return a selection under its name; one without a selection is its own."""
        subset = self._ready(select_subset(self.scores, text or name))
        return replace(subset, name=name) if text not in (None, name) else subset

    def _ready(self, subset: Subset) -> Subset:
        """Return a subset with its row numbers where they are few."""
        return subset if self.overview.is_sample else subset.compute()

    def _halves(self) -> list[Subset]:
        halves = []
        for group, count in self.group_counts.items():
            if count > 1:
                halves.append(self._ready(least_robust(self.scores, count // 2, group)))
                halves.append(self._ready(most_robust(self.scores, count - count // 2, group)))
        return halves

    def _group_of(self, subset: Subset) -> str:
        if subset.intervals is not None:
            ((code, _), *more) = subset.intervals
            return ALL if more or code is None else self.scores.groups[code]
        codes = np.unique(self.store.split_codes[shown_rows(subset)])
        return self.scores.groups[codes[0]] if len(codes) == 1 else ALL

    def _with_whole(self, group: str, subsets: list[Subset]) -> list[Subset]:
        named = group in self.scores.groups
        count = self.group_counts[group] if named else self.store.rows
        wholes = [s for s in subsets if len(s) == count]
        every = None if wholes else whole(self.scores, group if named else None)
        first = self._ready(every) if every is not None else wholes[0]
        return [first, *(s for s in subsets if len(s) < count)]


def _named_apart(subset: Subset, taken: set[str]) -> Subset:
    """Return a subset under a name that no other has, by its size, and add it to those taken."""
    sized = f"{subset.name} ({len(subset):,} samples)"
    numbered = (f"{sized}, {k}" for k in numbers_from(2))
    name = next(name for name in chain((subset.name, sized), numbered) if name not in taken)
    taken.add(name)
    return subset if name == subset.name else replace(subset, name=name)


def results_memory(store: Store, result: ResultTables, shown: tuple[int, int], tasks: int) -> int:
    """Return how many bytes a page of a store's results holds at most.

    Parameters
    ----------
    store : Store
    result : ResultTables
    shown : (int, int)
        Samples of either end of every class, and pairs.
    tasks : int
        That run in this process at once; 0 where workers have them.
    """
    labels, groups = most_labels(store), len(store.groups)
    samples = min(store.rows, SAMPLE_ROWS)
    sets = len(result.groups) + len(result.facts.get("references", ()))
    held = overview_memory(store.rows, sets, tasks or tasks_at_once())
    held += samples * SAMPLE_BYTES
    # names, and the classes' table by group; then each group's table of subsets
    held += labels * (200 + 2 * 3 * 8 * groups) + labels * groups * (NAME_BYTES + 3 * 3 * 8)
    if tasks:
        held += sorting_memory(store.rows, tasks) + counting_memory(store.rows, labels, 3, tasks)
    row = store.columns * 2 * 8  # as read and in float64, of both ends, and of their witnesses
    samples, pairs = shown
    rows = max(4 * max(samples, 10) * max(1, min(labels, MOST_CLASSES)), 2 * pairs, 4 * COMPARED)
    return held + rows * row + FIGURES


def median_lipschitz(samples: pd.DataFrame) -> pd.Series[float]:
    """Return the median Q of every group of a table like `StoredResults.samples`."""
    return samples.groupby("group", observed=False)["lipschitz"].median()


def shown_rows(subset: Subset) -> NDArray[np.int64]:
    """Return the row numbers of a subset, at most SAMPLE_ROWS: of a large one every k-th.

    As they rise with robustness, these are distributed as all of them are.
    """
    step = -(-len(subset) // SAMPLE_ROWS)
    return np.asarray(subset.indices[::step], dtype=np.int64)


def _reaches(
    values: NDArray[np.float64], codes: NDArray[np.int16], limit: NDArray[np.float64]
) -> NDArray[np.bool_]:
    reached: NDArray[np.bool_] = values >= limit[codes]
    return reached
