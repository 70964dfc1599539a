"""Brute force of a few rows: the second opinion that `verify` asks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import label_distances, proof
from .job import PairJob, kernel_rows
from .tables import Tables


def reduce_rows(
    some: tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64]],
    block: tuple[int, NDArray[Any], NDArray[np.float64], NDArray[np.int16]],
    job: PairJob,
    tables: Tables,
) -> None:
    """Brute force of a few rows against a block: every pair in float64, no screen, no sorting.

    The second opinion for `verify`: it shares the pair's distance with the engine, nothing else.

    Parameters
    ----------
    some : row numbers (k,), features (k, d), labels (k, m)
    block : first row number, features (b, d), labels (b, m), split (b,)
    tables : Tables of k rows, merged into in place.
    """
    numbers, features, labels = some
    first, others, their_labels, split = block
    rows = kernel_rows(features, 0, job)
    columns = kernel_rows(others, first, job)
    dy = np.empty((len(rows), len(columns)))
    label_distances.label_differences(labels, their_labels, job.label_code, dy)
    function = job.form.function
    for k in range(len(rows)):
        distance = np.empty(len(columns))
        if function is None:
            proof.all_distances(rows[k], columns, job.metric, distance)
        else:
            for j in range(len(columns)):
                pair = (rows[k], columns[j])
                forward = numbers[k] <= first + j
                distance[j] = function(*(pair if forward else pair[::-1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            quotient = dy[k] / distance
        for group in np.unique(split):
            others = np.arange(first, first + len(columns)) != numbers[k]
            at = np.flatnonzero((split == group) & (dy[k] > 0) & others)
            if not len(at):
                continue
            _keep_best(tables.reach, tables.nearest, distance, at, first, (k, int(group)), 1)
            if job.quotients:
                _keep_best(
                    tables.quotient, tables.witness, quotient, at, first, (k, int(group)), -1
                )


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
