"""What a report is made of, read from a store: scores, labels, subsets, trials."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from dask.base import compute
from numpy.typing import ArrayLike, NDArray

from ..datasets import restore_labels
from ..errors import InvalidOptionError
from ..export import with_ids
from ..label_issues import issue_table, label_quality
from ..scores import read_scores
from ..show.overview import id_facts, label_text
from ..store import ResultTables, Store
from ..subsets import ALL, Subset, class_name, least_robust, most_robust, select_subset, whole
from .pictures import as_picture
from .trials import StoredEvaluation, stored_evaluations

if TYPE_CHECKING:
    from ..scores import Scores

SHOWN = ("robustness", "lipschitz", "reach", "witness", "nearest")


class StoredResults:
    """Tidy tables of one stored result, and of what else the store has; read when asked for.

    Parameters
    ----------
    store : Store
    result : ResultTables
        The scores that are shown.
    subsets : sequence of str
        Selections (train:L40000) whose labels are shown; without them the subsets of the stored
        evaluations, without those the least and most robust halves of every group.
    """

    def __init__(self, store: Store, result: ResultTables, subsets: Sequence[str] = ()) -> None:
        self.store, self.result, self.asked = store, result, tuple(subsets)

    @property
    def categorical(self) -> bool:
        """Whether labels are classes."""
        return self.store.spec.label_kind == "categorical"

    @cached_property
    def scores(self) -> Scores:
        """The scores, lazy."""
        return read_scores(self.store, self.result)

    @cached_property
    def labels(self) -> NDArray[Any]:
        """All labels as stored, (n,) or (n, m)."""
        return np.asarray(self.store.labels[:])

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row a sample, the index is its row number: group, label and scores in its group.

        Groups and classes are categories in the store's order. A real label is in its own units;
        for vector labels there is no label.
        """
        parts = [getattr(self.scores, name) for name in SHOWN]
        *values, split = compute(*parts, self.scores.split, scheduler="threads")
        named: dict[str, Any] = {"group": pd.Categorical.from_codes(split, self.scores.groups)}
        if self.categorical:
            known, codes = np.unique(self.labels, return_inverse=True)
            names = [class_name(self.store, label) for label in known]
            named["label"] = pd.Categorical.from_codes(codes, names)
        elif self.labels.ndim == 1:
            named["label"] = restore_labels(self.store.spec, self.labels)
        named |= dict(zip(SHOWN, values, strict=True))
        return pd.DataFrame(named, index=pd.RangeIndex(len(split), name="row"), copy=False)

    @cached_property
    def main_group(self) -> str:
        """The group with the most samples, as a rule the training set."""
        return str(self.samples["group"].value_counts(sort=False).idxmax())

    @cached_property
    def together(self) -> NDArray[np.float64]:
        """R of every sample in the union of all groups (paper, 3.5), shape (n,)."""
        return np.asarray(self.scores.robustness_within().compute(scheduler="threads"))

    @cached_property
    def evaluations(self) -> list[StoredEvaluation]:
        """The evaluations of the store's data."""
        return stored_evaluations(self.store)

    @cached_property
    def probabilities(self) -> pd.Series[float] | None:
        """Mean probability of the true class by row number (paper, D.2), None without networks."""
        several = [m.probabilities for e in self.evaluations for m in e.models]
        known = [each for each in several if each is not None]
        return known[-1] if known else None

    @property
    def metric(self) -> str:
        """The metric as commands take it; in a result Mahalanobis has the name of its matrix."""
        name = str(self.result.parameters["metric"])
        return "mahalanobis" if name.startswith("mahalanobis") else name

    def label_issues(self, count: int) -> pd.DataFrame | None:
        """Return the worst rows of `find_label_issues`, None where the store does not know them."""
        if not self.categorical:
            return None
        try:
            quality = label_quality(self.store, metric=self.metric)
        except InvalidOptionError:  # a metric that only its function could compute
            return None
        if quality.scores.result is None or quality.same_scores.result is None:
            return None
        table = issue_table(quality)
        shown = table[table["is_issue"] & table["nearest_same"].notna()].head(count)
        return with_ids(shown, quality.scores.ids)

    def ids(self, rows: ArrayLike) -> list[Any] | None:
        """Return the ids of rows, which alone are read; None where the store has none."""
        return id_facts(self.scores.ids, np.asarray(rows, np.int64))

    def label_texts(self, rows: ArrayLike) -> list[str]:
        """Return what the labels of rows are called, real ones in their own units."""
        return [label_text(self.store, label) for label in self.labels[np.asarray(rows, np.int64)]]

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
        """Subsets by the group that they are of ("all" for several), the whole group first."""
        by_group: dict[str, list[Subset]] = {}
        for subset in self._chosen():
            by_group.setdefault(self._group_of(subset), []).append(subset)
        return {group: self._with_whole(group, own) for group, own in by_group.items()}

    def _chosen(self) -> list[Subset]:
        if self.asked:
            return [select_subset(self.scores, text).compute() for text in self.asked]
        by_key: dict[str, Subset] = {}
        for evaluation in self.evaluations:
            for name, key in evaluation.subset_keys().items():
                if key not in by_key:
                    rows = evaluation.records.rows(key)
                    by_key[key] = Subset(name, rows, len(rows))
        return list(by_key.values()) or self._halves()

    def _halves(self) -> list[Subset]:
        halves = []
        for group, count in self.samples["group"].value_counts(sort=False).items():
            if count > 1:
                halves.append(least_robust(self.scores, count // 2, group).compute())
                halves.append(most_robust(self.scores, count - count // 2, group).compute())
        return halves

    def _group_of(self, subset: Subset) -> str:
        groups = self.samples["group"].iloc[subset.indices].unique()
        return str(groups[0]) if len(groups) == 1 else ALL

    def _with_whole(self, group: str, subsets: list[Subset]) -> list[Subset]:
        named = group in self.scores.groups
        count = int((self.samples["group"] == group).sum()) if named else self.store.rows
        wholes = [s for s in subsets if len(s) == count]
        first = wholes[0] if wholes else whole(self.scores, group if named else None).compute()
        return [first, *(s for s in subsets if len(s) < count)]
