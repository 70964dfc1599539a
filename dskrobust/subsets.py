"""Least and most robust subsets (paper, 4.1) and what labels they hold (Tables 1 and 10)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed
from numpy.typing import NDArray

from .definitions import norms_of
from .display import card, table
from .errors import InvalidOptionError
from .ids import held_ids, ids_of
from .labels import label_name
from .scores import Scores
from .show.overview import subset_card
from .store import Store

ALL = "all"  # every sample, whatever its group
_STEP = re.compile(r"([LMlm])_?(\d+)")
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Subset:
    """Samples chosen by their robustness.

    Attributes
    ----------
    name : str
        Group, L (least) or M (most robust) and size, as in the paper: ``train_L48000``.
    indices : array (k,) int64
        Global row numbers, from the least to the most robust; a Dask array until computed.
    size : int
    scores : Scores, optional
        What they were chosen by.
    """

    name: str
    indices: Any
    size: int
    scores: Scores | None = field(default=None, repr=False, compare=False)

    @property
    def ids(self) -> NDArray[Any] | None:
        """Ids of the samples in the order of their row numbers, (k,); None where they have none."""
        ids = None if self.scores is None else held_ids(self.scores.ids)
        return None if ids is None else ids_of(ids, self)

    def compute(self) -> Subset:
        """Return the subset with its row numbers as a NumPy array."""
        return replace(self, indices=np.asarray(self.indices))

    def _repr_html_(self) -> str:
        return subset_card(self)

    def __len__(self) -> int:
        return self.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.indices, dtype=dtype)


def least_robust(scores: Scores, size: int, within: str | Subset | None = None) -> Subset:
    """Return the `size` least robust samples, scored in their own groups.

    Ties are broken by row number, lower first, so that the k least and the n − k most robust
    samples are complements.

    Parameters
    ----------
    scores : Scores
    size : int
    within : str or Subset, optional
        Choose from this group or subset (the 500 least robust of the least robust half); from
        all samples without it.

    Raises
    ------
    InvalidOptionError
        For an unknown group or more samples than there are.
    """
    return _select(scores, size, within, "L")


def most_robust(scores: Scores, size: int, within: str | Subset | None = None) -> Subset:
    """Return the `size` most robust samples, scored in their own groups.

    Of equally robust samples those with the higher row numbers are taken, see `least_robust`.

    Parameters
    ----------
    scores : Scores
    size : int
    within : str or Subset, optional
        Choose from this group or subset; from all samples without it.

    Raises
    ------
    InvalidOptionError
        For an unknown group or more samples than there are.
    """
    return _select(scores, size, within, "M")


def whole(scores: Scores, within: str | None = None) -> Subset:
    """Return all samples of a group (or all samples), from the least to the most robust."""
    count = _count(scores, within)
    return Subset(within or ALL, _ranked(scores, within, 0, count), count, scores)


def select_subset(scores: Scores, text: str) -> Subset:
    """Return what GROUP[:L500[:M20]] means: the 20 most robust of the group's 500 least robust.

    Raises
    ------
    InvalidOptionError
        For an unknown group, a step that is no selection, or more samples than there are.
    """
    group, steps = parse_selection(text, scores.groups)
    subset = whole(scores, group if group in scores.groups else None)
    for letter, size in steps:
        subset = (least_robust if letter == "L" else most_robust)(scores, size, subset)
    return subset


def parse_selection(text: str, groups: Sequence[str]) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Return the group (or "all") and the steps, (L or M, size), of a selection in words.

    Raises
    ------
    InvalidOptionError
        For an unknown group, or a step that is no selection.
    """
    group, *steps = [text] if text in groups else text.split(":")
    if group not in groups and group != ALL:
        hint = f" (write {groups[0]}:{text})" if _STEP.fullmatch(group) else ""
        known = ", ".join(groups)
        raise InvalidOptionError(f"there is no group {group!r}; the groups are {known}{hint}")
    found = []
    for step in steps:
        match = _STEP.fullmatch(step)
        if match is None:
            raise InvalidOptionError(
                f"{text!r}: {step!r} is no selection; write GROUP:L500 for the 500 least or "
                "GROUP:M500 for the 500 most robust samples of the group"
            )
        found.append((match[1].upper(), int(match[2])))
    return group, tuple(found)


def _select(scores: Scores, size: int, within: str | Subset | None, letter: str) -> Subset:
    name = within.name if isinstance(within, Subset) else within or ALL
    count = within.size if isinstance(within, Subset) else _count(scores, within)
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 0 < size <= count:
        raise InvalidOptionError(
            f"cannot choose {size!r} of the {count:,} samples in {name}; give a number from 1 to "
            f"{count:,}"
        )
    size = int(size)
    lo, hi = (0, size) if letter == "L" else (count - size, count)
    return Subset(f"{name}_{letter}{size}", _ranked(scores, within, lo, hi), size, scores)


def _count(scores: Scores, within: str | None) -> int:
    if within is None:
        return scores.rows
    code = scores.group_code(within)
    if scores.store is not None:
        known = scores.store.summary.groups.get(code)
        return known.rows if known else 0
    return int((np.asarray(scores.split) == code).sum())


def _ranked(scores: Scores, within: str | Subset | None, lo: int, hi: int) -> Any:
    """Ranks lo to hi of the samples within, as one lazy array."""
    robustness = _whole(scores.robustness)
    if isinstance(within, Subset):
        ranks = delayed(_rank, pure=True)(robustness, _whole(within.indices), lo, hi)
    else:
        code = None if within is None else scores.group_code(within)
        rows = delayed(_rows_of, pure=True)(_whole(scores.split), code)
        ranks = delayed(_rank, pure=True)(robustness, rows, lo, hi)
    lazy = da.from_delayed(ranks, shape=(hi - lo,), dtype=np.int64)
    inputs = (scores.robustness, within.indices if isinstance(within, Subset) else None)
    if any(isinstance(value, da.Array) for value in inputs):
        return lazy
    return lazy.compute(scheduler="sync")


def _whole(values: Any) -> Any:
    """One piece of a lazy array (n numbers fit a worker), or the array itself."""
    return values.rechunk(-1).to_delayed().ravel()[0] if isinstance(values, da.Array) else values


def _rows_of(split: NDArray[np.int16], code: int | None) -> NDArray[np.int64]:
    return np.arange(len(split)) if code is None else np.flatnonzero(split == code)


def _rank(
    robustness: NDArray[np.float64], rows: NDArray[np.int64], lo: int, hi: int
) -> NDArray[np.int64]:
    """Rows from the least to the most robust, ties by row number; ranks lo to hi."""
    rows = np.sort(rows)
    order = np.argsort(robustness[rows], kind="stable")
    return rows[order[lo:hi]].astype(np.int64)


@dataclass(frozen=True)
class LabelTable:
    """How labels are distributed over subsets, as in the paper's Tables 1 and 10.

    Attributes
    ----------
    subsets : tuple of str
        Column names.
    labels : tuple of str
        Row names: classes, or quantiles of real labels.
    values : ndarray (labels, subsets)
        Counts, or label values at the quantiles.
    shares : ndarray (labels, subsets) float64, optional
        Counts as a share of the whole group's count of that class.
    """

    subsets: tuple[str, ...]
    labels: tuple[str, ...]
    values: NDArray[Any]
    shares: NDArray[np.float64] | None

    def _repr_html_(self) -> str:
        if self.shares is None:
            head, cells = "quantile", [[f"{v:,.6g}" for v in line] for line in self.values]
        else:
            head, pairs = "class", zip(self.values, self.shares, strict=True)
            cells = [[f"{v:,} ({s:.0%})" for v, s in zip(*p, strict=True)] for p in pairs]
        rows = [(label, *line) for label, line in zip(self.labels, cells, strict=True)]
        return card("Labels", "in subsets", table((head, *self.subsets), rows))


def class_counts(
    store: Store, subsets: Sequence[Subset], wholes: Sequence[Subset] | None = None
) -> LabelTable:
    """Count the classes in subsets; for real labels give quantiles instead.

    Parameters
    ----------
    store : Store
    subsets : sequence of Subset
    wholes : sequence of Subset, optional
        For every subset what its shares refer to.
    """
    labels = np.asarray(store.labels[:])
    names = tuple(s.name for s in subsets)
    if store.spec.label_kind != "categorical":
        sizes = labels if labels.ndim == 1 else norms_of(labels, store.spec.label_norm)
        columns = [np.quantile(sizes[np.asarray(s)], QUANTILES) for s in subsets]
        rows = tuple(f"{q:.0%}" for q in QUANTILES)
        return LabelTable(names, rows, np.stack(columns, axis=1), None)
    values = np.unique(labels)
    counts = np.stack([_counts(labels[np.asarray(s)], values) for s in subsets], axis=1)
    shares = None
    if wholes is not None:
        of = np.stack([_counts(labels[np.asarray(s)], values) for s in wholes], axis=1)
        shares = counts / np.maximum(of, 1)
    return LabelTable(names, tuple(class_name(store, v) for v in values), counts, shares)


def class_name(store: Store, label: Any) -> str:
    """Return how a label is called."""
    return label_name(label, store.spec.classes)


def _counts(labels: NDArray[Any], values: NDArray[Any]) -> NDArray[np.int64]:
    places = np.searchsorted(values, labels)
    return np.bincount(places, minlength=len(values)).astype(np.int64)
