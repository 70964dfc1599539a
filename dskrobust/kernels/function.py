"""Metrics that users wrote: called for every pair that counts, the lower row number first.

A function that Numba compiled (`@njit` of two rows) runs inside a kernel of its own, any other one
is called from Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray

from ..errors import InvalidDataError
from ..own_code import no_exit
from .job import PairJob
from .proof import Block, Parts, Side
from .reductions.base import record

SYMMETRY = 1e-6  # relative: sums in another order may differ
MOST_SAID = 200  # characters of an error that are shown
FINITE = "a distance must be finite and not negative"


def is_compiled(function: Callable[..., Any]) -> bool:
    """Whether Numba compiled a function."""
    return isinstance(function, Dispatcher)


def call_function(job: PairJob, dy: NDArray[np.float64], block: Block, a: Side, b: Side) -> int:
    """Compute the pairs of a block by the user's metric; return how many there were.

    dy (r, c): label differences, 0 where a pair does not count.

    Raises
    ------
    InvalidDataError
        For what the metric raises, and for a value that is no distance; both rows are named. Of
        the first pair also where the other order has another distance.
    """
    function = job.form.function
    assert function is not None
    pairs = _pairs(dy, block, a, b)
    if (first := next(pairs, None)) is None:
        return 0
    _check_pair(function, first)
    if is_compiled(function):
        return _call_compiled(function, dy, block, a, b)
    proven, parts = 0, Parts(block.part_a, block.part_b)
    for pair in (first, *pairs):
        record(_distance(function, pair), dy[pair.at], pair.i, pair.j, parts, a, b)
        proven += 1
    return proven


class _Pair(NamedTuple):
    """Two rows of a block: where ‖Δy‖ of them is, their positions, values and row numbers."""

    at: tuple[int, int]
    i: int
    j: int
    rows: tuple[NDArray[np.float64], NDArray[np.float64]]
    numbers: tuple[int, int]


def _pairs(dy: NDArray[np.float64], block: Block, a: Side, b: Side) -> Iterator[_Pair]:
    """Yield the pairs of a block that count."""
    for u, v in np.argwhere(dy > 0).tolist():
        if block.triangle and v <= u:
            continue
        i, j = int(block.order_a[u]), int(block.order_b[v])
        numbers = int(a.numbers[i]), int(b.numbers[j])
        yield _Pair((u, v), i, j, (a.rows[i], b.rows[j]), numbers)


def _distance(function: Callable[..., Any], pair: _Pair) -> float:
    return distance_of(function, pair.rows, pair.numbers)


def _check_pair(function: Callable[..., Any], pair: _Pair) -> None:
    """Call a metric with two rows in both orders: it is symmetric, and changes no row.

    Raises
    ------
    InvalidDataError
    """
    one, other = (row.copy() for row in pair.rows)
    there = _value_of(function, (one, other), pair.numbers)
    if not all(map(np.array_equal, (one, other), pair.rows)):
        raise _no_distance(
            function, "changed its arguments", pair.numbers, "let it compute with copies of them"
        )
    back = _value_of(function, (other, one), pair.numbers)
    if not np.isclose(there, back, rtol=SYMMETRY, atol=0.0):
        what = f"returned {there:.9g} and, with the two exchanged, {back:.9g}"
        raise _no_distance(function, what, pair.numbers, "a distance is symmetric")


def _call_compiled(
    function: Callable[..., Any], dy: NDArray[np.float64], block: Block, a: Side, b: Side
) -> int:
    try:
        proven, u, v, value = _kernel_of(function)(dy, block, a, b)
    except MemoryError:
        raise
    except Exception as error:
        for pair in _pairs(dy, block, a, b):  # the kernel does not tell with which rows it failed
            _distance(function, pair)
        said = f"{type(error).__name__}: {_in_a_line(error)}"
        raise InvalidDataError(f"the metric {_name_of(function)} failed: {said}") from error
    if u >= 0:
        numbers = int(a.numbers[u]), int(b.numbers[v])
        raise _no_distance(function, f"returned {value}", numbers, FINITE)
    return int(proven)


def distance_of(
    function: Callable[..., Any], rows: tuple[NDArray[Any], NDArray[Any]], numbers: tuple[int, int]
) -> float:
    """Return the user's metric of two rows, that with the lower number first.

    Raises
    ------
    InvalidDataError
        For what it raises, and for a value that is no distance; both rows are named.
    """
    one, other = rows if numbers[0] <= numbers[1] else rows[::-1]
    return _value_of(function, (one.copy(), other.copy()), numbers)


def _value_of(
    function: Callable[..., Any], rows: tuple[NDArray[Any], NDArray[Any]], numbers: tuple[int, int]
) -> float:
    try:
        with no_exit():
            value = function(*rows)
    except MemoryError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {_in_a_line(error)}"
        raise _no_distance(function, "failed", numbers, said) from error
    try:
        if np.ndim(value):
            raise TypeError
        distance = float(value)
    except (TypeError, ValueError) as error:
        what = f"returned {_in_a_line(repr(value))}"
        raise _no_distance(function, what, numbers, "a distance must be a number") from error
    if not (np.isfinite(distance) and distance >= 0):
        raise _no_distance(function, f"returned {distance}", numbers, FINITE)
    return distance


def _in_a_line(said: object) -> str:
    text = " ".join(str(said).split())
    return text if len(text) <= MOST_SAID else f"{text[:MOST_SAID]}…"


def _no_distance(
    function: Callable[..., Any], what: str, numbers: tuple[int, int], why: str
) -> InvalidDataError:
    one, other = sorted(numbers)
    return InvalidDataError(
        f"the metric function {_name_of(function)} {what} for rows {one} and {other}; {why}"
    )


def _name_of(function: Callable[..., Any]) -> str:
    plain = getattr(function, "py_func", function)  # of what Numba compiled
    return str(getattr(plain, "__qualname__", type(plain).__name__))


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
