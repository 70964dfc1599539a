"""Metrics that users wrote: called for every pair that counts, the lower row number first.

A function that Numba compiled (`@njit` of two rows) runs inside a kernel of its own, any other one
is called from Python.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from ..errors import InvalidDataError
from .job import PairJob
from .proof import Block, Parts, Side
from .reductions.base import record


def is_compiled(function: Callable[..., Any]) -> bool:
    """Whether Numba compiled a function."""
    return isinstance(function, Dispatcher)


def call_function(job: PairJob, dy: NDArray[np.float64], block: Block, a: Side, b: Side) -> int:
    """Compute the pairs of a block by the user's metric; return how many there were.

    dy (r, c): label differences, 0 where a pair does not count.

    Raises
    ------
    InvalidDataError
        For a value that is no distance; both rows are named.
    """
    function = job.form.function
    assert function is not None
    if is_compiled(function):
        proven, u, v, value = _kernel_of(function)(dy, block, a, b)
        if u >= 0:
            raise _no_distance(value, int(a.numbers[u]), int(b.numbers[v]))
        return int(proven)
    proven, parts = 0, Parts(block.part_a, block.part_b)
    for u, v in np.argwhere(dy > 0):
        if block.triangle and v <= u:
            continue
        i, j = int(block.order_a[u]), int(block.order_b[v])
        numbers = int(a.numbers[i]), int(b.numbers[j])
        distance = distance_of(function, (a.rows[i], b.rows[j]), numbers)
        record(distance, dy[u, v], i, j, parts, a, b)
        proven += 1
    return proven


def distance_of(
    function: Callable[..., Any], rows: tuple[NDArray[Any], NDArray[Any]], numbers: tuple[int, int]
) -> float:
    """Return the user's metric of two rows, that with the lower number first."""
    value = function(*(rows if numbers[0] <= numbers[1] else rows[::-1]))
    try:
        distance = float(value)
    except (TypeError, ValueError) as error:
        raise InvalidDataError(
            f"the metric function returned {value!r} for rows {numbers[0]} and {numbers[1]}; a "
            "distance must be a number"
        ) from error
    if not (np.isfinite(distance) and distance >= 0):
        raise _no_distance(distance, *numbers)
    return distance


def _no_distance(value: float, one: int, other: int) -> InvalidDataError:
    return InvalidDataError(
        f"the metric function returned {value} for rows {one} and {other}; a distance must be "
        "finite and not negative"
    )


@lru_cache(maxsize=8)
def _kernel_of(function: Callable[..., Any]) -> Callable[..., tuple[int, int, int, float]]:
    """Compile the loop over a block's pairs around a compiled metric; not kept on disk."""

    @njit(nogil=True)
    def kernel(dy, block, a, b):
        proven = 0
        for u in range(dy.shape[0]):
            i = block.order_a[u]
            for v in range(u + 1 if block.triangle else 0, dy.shape[1]):
                if dy[u, v] == 0.0:
                    continue
                j = block.order_b[v]
                if a.numbers[i] <= b.numbers[j]:
                    distance = np.float64(function(a.rows[i], b.rows[j]))
                else:
                    distance = np.float64(function(b.rows[j], a.rows[i]))
                if not (distance >= 0.0 and distance < np.inf):
                    return proven, i, j, distance
                record(distance, dy[u, v], i, j, block, a, b)
                proven += 1
        return proven, -1, -1, 0.0

    compiled: Callable[..., tuple[int, int, int, float]] = kernel
    return compiled
