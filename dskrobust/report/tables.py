"""Small tables made of the samples' scores: extremes, closest pairs, labels of subsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..datasets import restore_labels
from ..subsets import LabelTable, Subset, class_counts
from .results import COMPARED, NEAR, StoredResults, median_lipschitz, shown_rows

LEAST, MOST = "least", "most"
# what a column adds to the distance, of the metrics that are sums over columns
ADDS = {"euclidean": np.square, "cityblock": np.positive}
CONTRADICTORY, NEARLY = "contradictory", "near"


def group_table(results: StoredResults) -> pd.DataFrame:
    """Return samples and quantiles of R, one row per group and one for the union of several."""
    return pd.DataFrame.from_dict(results.overview.table(), orient="index")


def class_table(samples: pd.DataFrame) -> pd.DataFrame:
    """Return the number of samples and the median of R, class by class, for every group.

    Columns (group, measure) with the measures samples and median R.
    """
    parts = samples.groupby(["label", "group"], observed=True)["robustness"]
    wide = parts.agg(["size", "median"]).unstack("group")
    wide = wide.rename(columns={"size": "samples", "median": "median R"}).swaplevel(axis=1)
    groups = [g for g in samples["group"].cat.categories if g in wide.columns.get_level_values(0)]
    return wide[[(g, m) for g in groups for m in ("samples", "median R")]]


def extremes(
    samples: pd.DataFrame, group: str, count: int, most: int | None = None
) -> pd.DataFrame:
    """Return the least and most robust samples of every class of a group (Figures 2, 5, 12).

    Without classes: of the whole group, under the name of the group.

    Parameters
    ----------
    samples : DataFrame
        As `StoredResults.samples`.
    group : str
    count : int
        How many of either end, at most half of a class.
    most : int, optional
        Only so many classes, the first ones.

    Returns
    -------
    DataFrame
        label, end ("least" from the least robust on, "most" from the most robust on), rank, row,
        robustness, lipschitz, reach, witness.
    """
    own = samples[samples["group"] == group]
    classes: list[tuple[Any, pd.DataFrame]] = [(group, own)]
    if isinstance(samples.get("label", pd.Series(dtype=float)).dtype, pd.CategoricalDtype):
        there = own["label"].cat.codes.unique()
        shown = np.sort(there)[:most]
        own = own[own["label"].cat.codes.isin(shown)]
        classes = list(own.groupby("label", observed=True))
    parts = []
    for name, part in classes:
        ordered = part.sort_values("robustness", kind="stable")  # ties by row number
        few = min(count, max(1, len(ordered) // 2))
        for end, picked in ((LEAST, ordered.head(few)), (MOST, ordered.tail(few)[::-1])):
            columns = picked[["robustness", "lipschitz", "reach", "witness"]].reset_index()
            columns.insert(0, "rank", np.arange(1, len(columns) + 1))
            columns.insert(0, "end", end)
            columns.insert(0, "label", str(name))
            parts.append(columns)
    return pd.concat(parts, ignore_index=True)


def closest_pairs(
    samples: pd.DataFrame, count: int, medians: pd.Series[float] | None = None
) -> pd.DataFrame:
    """Return the pairs of a sample and its witness with the lowest R, every pair once.

    Returns
    -------
    DataFrame
        row, witness, group, robustness, lipschitz, reach, kind (as of `close_kinds`).
    """
    if medians is None:
        medians = median_lipschitz(samples)
    # a pair is at most in both of its samples' rows: twice as many are enough
    there = samples[(samples["witness"] >= 0) | (samples["reach"] == 0)]
    first = there.nsmallest(2 * count, "robustness", keep="first")
    other = first["nearest"].where(first["reach"] == 0, first["witness"]).to_numpy()
    rows = first.index.to_numpy()
    pair = pd.DataFrame({"a": np.minimum(rows, other), "b": np.maximum(rows, other)})
    once = ~pair.duplicated().to_numpy()
    table = first.assign(witness=other, kind=close_kinds(first, medians)).reset_index()
    names = ["row", "witness", "group", "robustness", "lipschitz", "reach", "kind"]
    return table.loc[once, names].head(count).reset_index(drop=True)


def close_kinds(samples: pd.DataFrame, medians: pd.Series[float]) -> pd.Series[Any]:
    """Return which samples are "contradictory" and which "near", as a Series by row number.

    Contradictory are those with a twin at distance 0 that has another label. Near are those whose
    Q is ten times the median of their group or more: for classes those whose reach is a tenth of
    the median or less. The others have "".
    """
    middle = samples["group"].map(medians).astype(np.float64)
    near = (samples["lipschitz"] >= NEAR * middle) & (middle > 0)
    kinds = np.where(samples["reach"] == 0, CONTRADICTORY, np.where(near, NEARLY, ""))
    return pd.Series(kinds, samples.index)


def label_tables(results: StoredResults) -> dict[str, LabelTable]:
    """Return the labels of the subsets of every group, the whole group first (Tables 1, 10)."""
    tables = {}
    for group, subsets in results.subsets.items():
        made = class_counts(results.store, subsets, [subsets[0]] * len(subsets))
        if made.shares is None and results.has_real_labels:  # quantiles, in their own units
            values = restore_labels(results.store.spec, made.values)
            made = LabelTable(made.subsets, made.labels, values, None)
        tables[group] = made
    return tables


def subset_labels(results: StoredResults, subsets: Sequence[Subset]) -> pd.DataFrame:
    """Return the real labels of subsets as a long table: subset, label (Figure 3)."""
    rows = [shown_rows(subset) for subset in subsets]
    names = pd.Categorical.from_codes(
        np.repeat(np.arange(len(subsets)), [len(r) for r in rows]), [s.name for s in subsets]
    )
    labels = [restore_labels(results.store.spec, results.store.labels[r]) for r in rows]
    return pd.DataFrame({"subset": names, "label": np.concatenate(labels)})


def column_shares(results: StoredResults) -> pd.Series[float]:
    """Return what part of the distance between samples and witnesses each column makes.

    The mean over `COMPARED` samples of the main group, evenly drawn, of (x_j − w_j)² / ‖x − w‖² in
    the Euclidean and of |x_j − w_j| / ‖x − w‖₁ in the city-block metric, the largest first. Empty
    for other metrics, and for images, whose columns have no names.
    """
    store, adds = results.store, ADDS.get(results.metric)
    if adds is None or store.spec.image_shape is not None or store.columns < 2:
        return pd.Series(dtype=np.float64)
    own = results.samples
    own = own[(own["group"] == results.main_group) & (own["witness"] >= 0) & (own["reach"] > 0)]
    drawn = own.iloc[:: -(-len(own) // COMPARED) or 1]
    rows, place = np.unique([drawn.index, drawn["witness"]], return_inverse=True)
    features = store.features[rows].astype(np.float64)
    here, there = place.reshape(2, -1)
    gap = np.abs(features[here] - features[there])
    added = adds(gap / gap.max(axis=1, keepdims=True))  # squares of small numbers may be none
    shares = (added / added.sum(axis=1, keepdims=True)).mean(axis=0)
    names = store.spec.column_names(store.columns)
    return pd.Series(shares, names).sort_values(ascending=False, kind="stable")
