"""Which positions of two panels are reduced together: few large rectangles of pairs.

Pairs count where labels differ. Runs of one part follow each other by their labels, so a range of
labels and a range beside it make a rectangle in which every pair counts, however many runs lie in
either: its blocks are as large as they may be, where those of two runs are as small as the runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, product
from typing import NamedTuple

from ..labels import CATEGORICAL
from .label_distances import ANY, SAME
from .panel import Panel, Run


class Rectangle(NamedTuple):
    """Positions of two panels whose pairs are reduced.

    Attributes
    ----------
    rows, columns : Run
        The same object where each pair of positions is to be taken once.
    uniform : bool
        Whether all pairs count.
    """

    rows: Run
    columns: Run
    uniform: bool


class _Labelled(NamedTuple):
    """A run, and its least and largest label."""

    run: Run
    first: float
    last: float


Stretch = Sequence[_Labelled]  # consecutive runs of one part, by rising labels


def rectangles(a: Panel, b: Panel, label_code: int) -> Iterator[Rectangle]:
    """Yield rectangles that hold every pair of positions that counts, once.

    Parameters
    ----------
    a, b : Panel
        Where they are the same, so are pairs (u, v) and (v, u).
    label_code : int
        See `job.PairJob`.
    """
    if label_code != CATEGORICAL or a.labels.shape[1] > 1:
        for k, run in enumerate(a.runs):
            for other in b.runs[k:] if a is b else b.runs:
                pure = run.label is not None and other.label is not None
                if not pure or (run.label == other.label) == (label_code == SAME):
                    yield Rectangle(run, other, pure or label_code == ANY)
        return
    columns = _stretches(b)
    for k, stretch in enumerate(_stretches(a)):
        if a is b:
            yield from _within(stretch)
        for among in columns[k + 1 :] if a is b else columns:
            yield from _between(stretch, among)


def _stretches(panel: Panel) -> list[Stretch]:
    labelled = [
        _Labelled(run, panel.labels[run.lo, 0], panel.labels[run.hi - 1, 0]) for run in panel.runs
    ]
    kinds = groupby(labelled, lambda one: (one.run.part, one.run.silent))
    return [list(stretch) for _, stretch in kinds]


def _within(stretch: Stretch) -> Iterator[Rectangle]:
    """Yield the rectangles of a stretch with itself, small ones first: they shorten radii."""
    if len(stretch) == 1:
        (run, *_) = stretch[0]
        if run.label is None:
            yield Rectangle(run, run, False)
        return
    low, high = stretch[: len(stretch) // 2], stretch[len(stretch) // 2 :]
    yield from _within(low)
    yield from _within(high)
    yield Rectangle(_joined(low), _joined(high), True)


def _between(one: Stretch, other: Stretch) -> Iterator[Rectangle]:
    """Yield the rectangles of two stretches, cut where labels are in both."""
    if one[-1].last < other[0].first or other[-1].last < one[0].first:
        yield Rectangle(_joined(one), _joined(other), True)
    elif len(one) > 1 or len(other) > 1:
        longer = max(one, other, key=len)
        cut = longer[len(longer) // 2].first
        for low, high in product(_halves(one, cut), _halves(other, cut)):
            yield from _between(low, high)
    elif one[0].run.label is None or other[0].run.label is None:
        yield Rectangle(one[0].run, other[0].run, False)


def _halves(stretch: Stretch, cut: float) -> list[Stretch]:
    """Return the runs that begin below a label, and the others; none of both is empty."""
    below = sum(one.first < cut for one in stretch)
    return [half for half in (stretch[:below], stretch[below:]) if half]


def _joined(stretch: Stretch) -> Run:
    """Return the positions of a stretch as one run."""
    first, last = stretch[0].run, stretch[-1].run
    return first if first is last else first._replace(hi=last.hi, label=None)
