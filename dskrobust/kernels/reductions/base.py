"""What a reduction is: a state of every row and part, and five functions that kernels call.

A reduction turns the pairs of a row into a few numbers. Its *state* is a NamedTuple of arrays whose
first two axes are (rows, parts); kernels are compiled once for every class of state and call

- ``radius(state, row, part)``: a pair within this distance may change the row, whatever its labels;
- ``slope(state, row, part, number)``: so may one with the row `number` whose quotient ‖Δy‖/d is at
  least this; ∞ where no quotient does;
- ``last_row(state, row, part)``: the row number that a pair at the radius must come before;
- ``steepest(state, row, part)``: the quotient that is to be beaten, and its row number. Only
  states that are `boxed` have these two;
- ``within(state, row, part)``: a pair surely within this distance is accepted without proof;
- ``accept(state, row, part, distance, dy, number, weight)``: take a pair with the row `number` in,
  which stands for `weight` rows that equal it;
- ``hold(state, row, part, weight)``: `weight` rows of the part have this row within their own
  radius. Only states with an array `held` care.

A module of this folder is a reduction: the class of its state, these functions as Numba overloads
for that class, and a frozen dataclass that says how states begin and what they cost.

A cell is *closed* where its row asks for nothing of its part: radius −∞ and slope ∞, so that one
loop over pairs serves symmetric and one-sided searches.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from ..compiling import inlined, kernel

NOBODY = np.iinfo(np.int64).max  # index where no pair was seen: comes after every row
SMALLEST = 1e-305  # quotients below have lost digits: they bound nothing
LARGEST = float(np.finfo(np.float64).max)  # a quotient that overflowed is at least this


class Twins(NamedTuple):
    """Rows of a panel that equal others (`kernels.twins`).

    Attributes
    ----------
    givers, takers : ndarray (t,) int64
        Takers make no pairs: their results are those of their givers, but for pairs of either with
        the other.
    parts : ndarray (t,) int16
        Where both lie.
    silent : ndarray (s,) int64
        Rows that are never the nearest of another one: lower rows are as near.
    """

    givers: NDArray[np.int64]
    takers: NDArray[np.int64]
    parts: NDArray[np.int16]
    silent: NDArray[np.int64]


class State(Protocol):
    """Partial results of consecutive rows; what kernels take, tiles return and merges merge."""

    def merge(self, other: Self) -> Self:
        """What both know together: associative and commutative."""
        ...

    @property
    def nbytes(self) -> int: ...


class Reduction(Protocol):
    """How the states of a run begin, and what may be done with them."""

    @property
    def quotients(self) -> bool:
        """Whether slopes matter, so that label differences are more than 0 and 1."""
        ...

    @property
    def seeds(self) -> int:
        """How many near pairs of a row are proven first; 0 where no pair may be proven twice."""
        ...

    @property
    def single(self) -> bool:
        """Whether one pair, proven or not, rules out all that are farther."""
        ...

    @property
    def unproven(self) -> bool:
        """Whether pairs may be accepted by their bounds alone (`within`)."""
        ...

    @property
    def boxed(self) -> bool:
        """Whether few columns may be searched by boxes."""
        ...

    @property
    def warm(self) -> bool:
        """Whether a tile may start from what others know (the merge is idempotent).

        The state of one that is not has `terms` and `hand_on`, for equal rows (`CountState`).
        """
        ...

    @property
    def named(self) -> int:
        """How many rows of a part a state names, the lowest of equals; 0 where it counts all."""
        ...

    @property
    def cell_bytes(self) -> int:
        """Bytes of a row's state for one part."""
        ...

    def empty(self, rows: int, parts: int) -> Any:
        """A state in which no pair was seen yet."""
        ...

    def closed(self, rows: int) -> Any:
        """A state of one part that asks for nothing."""
        ...


S = TypeVar("S", bound=tuple[Any, ...])


def part_of(state: S, lo: int, hi: int) -> S:
    """Views of rows lo:hi of a state."""
    return type(state)(*(array[lo:hi] for array in state))


def hand_on(state: Any, twins: Twins, numbers: NDArray[np.int64]) -> None:
    """Let takers know what their givers do, of reductions that are `warm`.

    numbers (t,): the rows with which takers make no pair, themselves; −1 where there is none.
    """
    mine, given = (
        type(state)(*(array[rows] if array.size else array for array in state))
        for rows in (twins.takers, twins.givers)
    )
    # quotients need no such look: a giver and its taker have the same label
    value, index = given[:2]
    itself = (numbers == index.T).T
    value[itself], index[itself] = np.inf, NOBODY
    for array, values in zip(state, mine.merge(given), strict=True):
        if array.size:
            array[twins.takers] = values


def copy_of(state: S) -> S:
    """A state that may be written to."""
    return type(state)(*(array.copy() for array in state))


def beside(state: S, other: S) -> S:
    """A state with the parts of both, one after the other."""
    pairs = zip(state, other, strict=True)
    return type(state)(*(np.concatenate(p, axis=1) if p[0].size else p[0] for p in pairs))


def bytes_of(state: tuple[Any, ...]) -> int:
    """Bytes of a state's arrays."""
    return sum(array.nbytes for array in state)


# -- what kernels call ----------------------------------------------------------------------------


def radius(state, row, part):
    """Return the distance up to which any pair may change a row."""
    raise NotImplementedError


def slope(state, row, part, number):
    """Return the quotient from which on a pair with row `number` may change a row; ∞: none does."""
    raise NotImplementedError


def last_row(state, row, part):
    """Return the row number that a pair at the radius must come before to change a row."""
    raise NotImplementedError


def steepest(state, row, part):
    """Return the largest quotient so far and its row number; (∞, −1) where none counts."""
    raise NotImplementedError


def within(state, row, part):
    """Return the distance within which a pair is accepted unproven; −∞ where none is."""
    raise NotImplementedError


def accept(state, row, part, distance, dy, number, weight):
    """Take the pair of a row with the row `number`, and its equals, into its state."""
    raise NotImplementedError


def hold(state, row, part, weight):
    """Let a row know that so many rows of a part have it within their radius."""
    raise NotImplementedError


@overload(hold)
def _hold(state, row, part, weight):
    if isinstance(state, types.BaseNamedTuple) and "held" not in state.fields:  # type: ignore[attr-defined]
        return lambda state, row, part, weight: None
    return None


def is_state(kind: Any, state_class: type) -> bool:
    """Whether a Numba type is that of a class of states."""
    return isinstance(kind, types.BaseNamedTuple) and kind.instance_class is state_class  # type: ignore[attr-defined]


@inlined()
def better(value, index, best, where):
    """Whether (value, index) comes before (best, where): smaller, then lower index."""
    return value < best or (value == best and index < where)


@inlined()
def limit(dy, i, j, block, a, b):
    """Return a distance beyond which pair (i, j) changes nothing.

    block, a, b: see `proof.Block` and `proof.Side`.
    """
    far = -np.inf if block.silent_b else radius(a.state, i, block.part_b)
    if not block.silent_a:
        far = max(far, radius(b.state, j, block.part_a))
    one = slope(a.state, i, block.part_b, b.numbers[j])
    least = min(one, slope(b.state, j, block.part_a, a.numbers[i]))
    if least == np.inf:
        return far
    return max(far, dy / least * (1.0 + 1e-14) if least > SMALLEST else np.inf)


@kernel()
def no_quotient(state, rows, part, number):
    """Whether no quotient with a row from `number` on changes any of some rows."""
    for row in rows:  # noqa: SIM110  Numba has no `all`
        if slope(state, row, part, number) < np.inf:
            return False
    return True


@inlined()
def record(distance, dy, i, j, block, a, b):
    """Take one proven pair into the states of both its sides."""
    accept(a.state, i, block.part_b, distance, dy, b.numbers[j], b.weights[j])
    accept(b.state, j, block.part_a, distance, dy, a.numbers[i], a.weights[i])
    if distance <= radius(a.state, i, block.part_b):
        hold(b.state, j, block.part_a, a.weights[i])
    if distance <= radius(b.state, j, block.part_a):
        hold(a.state, i, block.part_b, b.weights[j])
