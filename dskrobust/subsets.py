"""Least and most robust subsets (paper, 4.1) and what labels they hold (Tables 1 and 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask.base import compute
from numpy.typing import NDArray

from .collection import ArraysMixin
from .declared_types import checked_arguments
from .display import card, counted, span, table
from .errors import Hint, InvalidOptionError
from .ids import held_ids, ids_of
from .label_counts import count_labels, label_quantiles
from .labels import label_name
from .members import group_size, keys_of, keys_of_rows, rows_in, whole_group
from .memory import check_memory
from .scores import Scores, checked_scores
from .selection import (
    ALL,
    Intervals,
    Ranks,
    Term,
    count_of,
    joined,
    least,
    most,
    named,
    parse_selection,
)
from .show.overview import subset_card
from .store import Store, open_store
from .whole_numbers import is_whole

__all__ = [
    "ALL",
    "LabelTable",
    "Subset",
    "class_counts",
    "class_name",
    "least_robust",
    "most_robust",
    "robustness_spans",
    "select_subset",
    "whole",
]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MOST_IDS = 10_000_000  # about a gigabyte of Python objects
INDEX_BYTES = 16  # of a row number, in chunks and joined
_INSTEAD = Hint(
    "take chunks of its Dask array, subset.indices, or let write_subsets write them",
    "ask for fewer samples, or let `dskrobust subsets --out FILE` write them",
)


@dataclass(frozen=True)
class Subset(ArraysMixin):
    """Samples chosen by their robustness; a Dask collection until it is computed.

    Attributes
    ----------
    name : str
        Group, L (least) or M (most robust) and size, as in the paper: ``train_L48000``.
    indices : array (k,) int64
        Global row numbers, from the least to the most robust; until computed a Dask array in
        chunks of known sizes.
    size : int
    scores : Scores, optional
        What they were chosen by.
    intervals : tuple, optional
        Which ranks of which groups they are; None where they are known by their rows alone.
    """

    name: str
    indices: Any
    size: int
    scores: Scores | None = field(default=None, repr=False, compare=False)
    intervals: Intervals | None = field(default=None, repr=False, compare=False)

    @property
    def ids(self) -> NDArray[Any] | None:
        """Ids of the samples in the order of their row numbers, (k,); None where they have none.

        Raises
        ------
        InvalidOptionError
            For more samples than ids fit in one process.
        """
        ids = None if self.scores is None else held_ids(self.scores.ids)
        if ids is not None and self.size > MOST_IDS:
            raise InvalidOptionError(
                f"{self.name} has {self.size:,} samples, more than the {MOST_IDS:,} ids that are "
                "held in one process",
                Hint("read them by parts: scores.ids[rows]", "write them: --out FILE.npz"),
            )
        return None if ids is None else ids_of(ids, self)

    def compute(self, **kwargs: Any) -> Subset:
        """Return the subset with its row numbers as a NumPy array.

        Raises
        ------
        MemoryPlanError
            Where they do not fit into this process.
        """
        if not isinstance(self.indices, da.Array):
            return replace(self, indices=np.asarray(self.indices))
        check_memory(f"a list of the rows of {self.name}", self.size, INDEX_BYTES, _INSTEAD)
        return replace(self, indices=self.indices.compute(**kwargs))

    def persist(self, **kwargs: Any) -> Subset:
        """Return the subset with its row numbers kept on the workers, in chunks."""
        indices = self.indices
        lazy = isinstance(indices, da.Array)
        return replace(self, indices=indices.persist(**kwargs)) if lazy else self

    def _repr_html_(self) -> str:
        return subset_card(self)

    def __len__(self) -> int:
        return self.size

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.compute().indices, dtype=dtype)


@checked_arguments("scores")
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


@checked_arguments("scores")
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
    place = _place(scores, within)
    return _subset(scores, place.name, place.intervals or ())


@checked_arguments("scores")
def select_subset(scores: Scores, text: str, within: Subset | None = None) -> Subset:
    """Return what a selection in words means.

    ``train:L500:M20`` are the 20 most robust of the group's 500 least robust samples,
    ``train:L3000+M45000`` the 3,000 least and the 45,000 most robust, ``train:L500-L100`` the 500
    least robust without the 100 least robust, ``train:L500+test:L500`` those of two groups.
    Terms are joined from left to right, and one without a group is of the group before it. A name
    in double quotes is always a group's: ``"a+b":L5``.

    Parameters
    ----------
    scores : Scores
    text : str
    within : Subset, optional
        Select from this subset; the text then names no group.

    Raises
    ------
    InvalidOptionError
        For an unknown group, a step that is no selection, more samples than there are, a text
        with two meanings, or one that leaves no samples.
    """
    terms = parse_selection(text, checked_scores(scores).groups, within=within is not None)
    if within is not None and not _is_one_group(scores, within):
        return _select_rows(scores, text, terms, within)
    parts = [_term_intervals(scores, term, within) for term in terms]
    codes = {code for part in parts for code, _ in part}
    if None in codes and len(codes) > 1:
        raise InvalidOptionError(
            f"{text!r} joins {ALL}, which has the samples of every group, with a group; name the "
            f"groups instead, such as {'+'.join(scores.groups[:2])}"
        )
    intervals: Intervals = ()
    for term, part in zip(terms, parts, strict=True):
        intervals = joined(intervals, part, term.operator)
    if not intervals and len(terms) > 1:
        raise InvalidOptionError(f"{text!r} leaves no samples; take fewer of them away")
    return _subset(scores, named(terms, within.name if within else None), intervals)


def _select_rows(scores: Scores, text: str, terms: Sequence[Term], within: Subset) -> Subset:
    """Select from a subset of which only the rows are known, or of several groups."""
    if len(terms) > 1:
        raise InvalidOptionError(
            f"{text!r}: only subsets of one group can be joined, and {within.name} is none; "
            "select from it step by step"
        )
    for letter, size in terms[0].steps:
        within = _select(scores, size, within, letter)
    return within


def _term_intervals(scores: Scores, term: Term, within: Subset | None) -> Intervals:
    if within is not None:
        ((code, ranks),) = within.intervals or ()
    else:
        assert term.group is not None
        code = scores.group_code(term.group) if term.group in scores.groups else None
        ranks = dict(whole_group(scores, code)).get(code, ())
    for k, (letter, size) in enumerate(term.steps):
        place = named([term._replace(steps=term.steps[:k])], within.name if within else None)
        ranks = _step(ranks, size, letter, place)
    return ((code, ranks),) if ranks else ()


def _step(ranks: Ranks, size: int, letter: str, name: str) -> Ranks:
    _check_size(size, count_of(ranks), name)
    return (least if letter == "L" else most)(ranks, size)


def _check_size(size: Any, count: int, name: str) -> None:
    if not is_whole(size, 1, count):
        raise InvalidOptionError(
            f"cannot choose {size!r} of the {counted(count, 'sample')} in {name}; give "
            f"{span(1, count)}"
        )


def _select(scores: Scores, size: int, within: str | Subset | None, letter: str) -> Subset:
    checked_scores(scores)
    place = within if isinstance(within, Subset) else _place(scores, within)
    _check_size(size, place.size, place.name)
    size = int(size)
    name = named((Term("+", None, ((letter, size),)),), place.name)  # type: ignore[arg-type]
    if _is_one_group(scores, place):
        ((code, ranks),) = place.intervals or ()
        return _subset(scores, name, ((code, _step(ranks, size, letter, place.name)),))
    keys = keys_of_rows(scores, place.indices, place.size)
    picked = keys[:size] if letter == "L" else keys[place.size - size :]
    return Subset(name, rows_in(picked), size, scores)


def _place(scores: Scores, within: str | None) -> Subset:
    """Return a group to select from; its rows are not asked for."""
    code = None if within is None else scores.group_code(within)
    intervals = whole_group(scores, code)
    return Subset(within or ALL, None, group_size(scores, code), scores, intervals)


def _is_one_group(scores: Scores, subset: Subset) -> bool:
    """Whether a subset is of ranks of one group that these scores rank too."""
    own = subset.scores
    if subset.intervals is None or len(subset.intervals) != 1 or own is None:
        return False
    stored = own.result is not None and scores.result is not None
    same = stored and own.store is not None and scores.store is not None
    return own.robustness is scores.robustness or (
        same
        and own.result.name == scores.result.name  # type: ignore[union-attr]
        and own.store.address == scores.store.address  # type: ignore[union-attr]
    )


def _subset(scores: Scores, name: str, intervals: Intervals) -> Subset:
    size = sum(count_of(ranks) for _, ranks in intervals)
    return Subset(name, rows_in(keys_of(scores, intervals)), size, scores, intervals)


def refuse_empty(subset: Subset) -> None:
    """Refuse a subset without samples, as of a group that has none.

    Raises
    ------
    InvalidOptionError
    """
    if not subset.size:
        raise InvalidOptionError(f"{subset.name} has no samples; choose another group or subset")


def robustness_spans(scores: Scores, subsets: Sequence[Subset]) -> list[tuple[float, float]]:
    """Return the least and the largest R of subsets.

    Raises
    ------
    InvalidOptionError
        For one that has no samples.
    """
    for subset in subsets:
        refuse_empty(subset)
    ends = compute([subset.indices[[0, -1]] for subset in subsets])[0]
    rows, places = np.unique(np.stack(ends), return_inverse=True)
    values = np.asarray(scores.robustness[rows])[places].reshape(-1, 2)
    return [(float(low), float(high)) for low, high in values]


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


@checked_arguments()
def class_counts(
    store: Store | str | Path, subsets: Sequence[Subset], wholes: Sequence[Subset] | None = None
) -> LabelTable:
    """Count the classes in subsets; for real labels give quantiles instead.

    Parameters
    ----------
    store : Store or str
        An opened store, or its address.
    subsets : sequence of Subset
    wholes : sequence of Subset, optional
        For every subset what its shares refer to.

    Raises
    ------
    InvalidOptionError
        For a subset that has no samples.
    """
    store = open_store(store)
    for subset in subsets:
        refuse_empty(subset)
    names = tuple(s.name for s in subsets)
    columns = list({id(s): s for s in (*subsets, *(wholes or ()))}.values())
    if store.spec.label_kind != "categorical":
        values = np.stack(label_quantiles(store, subsets, QUANTILES), axis=1)
        return LabelTable(names, tuple(f"{q:.0%}" for q in QUANTILES), values, None)
    labels, found = count_labels(store, columns)
    place = {id(s): k for k, s in enumerate(columns)}
    counts = found[:, [place[id(s)] for s in subsets]]
    shares = None
    if wholes is not None:
        shares = counts / np.maximum(found[:, [place[id(s)] for s in wholes]], 1)
    return LabelTable(names, tuple(class_name(store, v) for v in labels), counts, shares)


def class_name(store: Store, label: Any) -> str:
    """Return how a label is called."""
    return label_name(label, store.spec.classes)
