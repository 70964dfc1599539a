"""Brute force of a few rows: the second opinion that `verify` asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .function import distance_of
from .job import PairJob, kernel_rows
from .label_distances import label_differences
from .label_function import all_differences
from .proof import all_distances
from .reductions import QuotientState


def reduce_rows(
    some: tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64]],
    block: tuple[int, NDArray[Any], NDArray[np.float64], NDArray[np.int16]],
    job: PairJob,
    state: QuotientState,
) -> None:
    """Brute force of a few rows against a block: every pair in float64, no screen, no sorting.

    The second opinion for `verify`: it shares the pair's distance with the engine, nothing else.

    Parameters
    ----------
    some : row numbers (k,), features (k, d), labels (k, m)
    block : first row number, features (b, d), labels (b, m), split (b,)
    state : QuotientState of the k rows, written to.
    """
    numbers, features, labels = some
    first, others, their_labels, split = block
    rows = kernel_rows(features, numbers, job)
    columns = kernel_rows(others, range(first, first + len(others)), job)
    dy = np.empty((1, len(columns)))
    function = job.form.function
    for k in range(len(rows)):
        if job.norm is None:
            label_differences(labels[k : k + 1], their_labels, job.label_code, dy)
        else:
            both = numbers[k : k + 1], np.arange(first, first + len(columns))
            all_differences(job.norm, (labels[k : k + 1], their_labels), both, dy)
        distance = np.empty(len(columns))
        if function is None:
            all_distances(rows[k], columns, job.measure, distance)
        else:
            for j in range(len(columns)):
                pair, of = (rows[k], columns[j]), (int(numbers[k]), first + j)
                distance[j] = distance_of(function, pair, of)
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = dy[0] / distance
        for group in np.unique(split):
            others = np.arange(first, first + len(columns)) != numbers[k]
            at = np.flatnonzero((split == group) & (dy[0] > 0) & others)
            if not len(at):
                continue
            _keep_best(state.reach, state.nearest, distance, at, first, (k, int(group)), 1)
            if job.reduction.quotients:
                _keep_best(state.quotient, state.witness, quotient, at, first, (k, int(group)), -1)


def _keep_best(
    values: NDArray[np.float64],
    indices: NDArray[np.int64],
    found: NDArray[np.float64],
    at: NDArray[np.int64],
    first: int,
    cell: tuple[int, int],
    sign: int,
) -> None:
    """Put the smallest (sign 1) or largest (-1) of found[at] into a cell if it is better."""
    best = int(at[np.argmin(sign * found[at])])
    value, index = sign * found[best], first + best
    if (value, index) < (sign * values[cell], indices[cell]):
        values[cell], indices[cell] = found[best], index
