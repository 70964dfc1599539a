"""Norms of the label space that users wrote: called for the pairs that label bounds let through.

No norm is larger than a weighted sum of sizes: ‖v‖ ≤ Σ |v_k|·‖e_k‖, by the triangle inequality. So
with the weights ‖e_k‖, rounded up to powers of two, which multiply labels exactly, the sweeps for
L1 (`bounds/labels`) bound ‖Δy‖ from above, and only what they list is given to the function. A
function that Numba compiled (`@njit` of a vector) is called inside a kernel, any other from Python.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..errors import InvalidDataError, InvalidOptionError
from ..labels import LabelMap
from ..own_code import no_exit
from .function import is_compiled
from .proof import Block, Side

Norm = Callable[[NDArray[np.float64]], float]

WIDEST = 2.0**200  # the largest weight becomes this, so that no difference of labels underflows
ROUNDING = 1e-7  # relative, of the function's own arithmetic; sweeps allow for ten times as much
AXIOM = 1e-6  # relative, within which what a norm is has to hold
VECTORS = 24  # that it is checked with
MOST = 1e100  # that a unit vector may have, and one over it the least
AT_ONCE = 2**17  # components of label differences that are made at once


class LabelWeights(NamedTuple):
    """What bounds a norm from above: ‖v‖ ≤ unit · Σ |v_k| · weights[k].

    Attributes
    ----------
    weights : ndarray (m,) float64
        Powers of two from 1 to WIDEST.
    unit : float
        A power of two.
    """

    weights: NDArray[np.float64]
    unit: float


def label_weights(norm: Norm, columns: int) -> LabelWeights:
    """Return what bounds a norm of vectors with so many components; asked for every block.

    Raises
    ------
    InvalidOptionError
        Where the norm of a unit vector is 0, or so small or large that its labels would vanish.
    """
    return (_kept_weights if isinstance(norm, Hashable) else _weights)(norm, columns)


def _weights(norm: Norm, columns: int) -> LabelWeights:
    """Call a norm with every unit vector."""
    sizes = np.array([_value(norm, unit) for unit in np.eye(columns)])
    if not ((sizes > 1 / MOST) & (sizes < MOST)).all():
        wrong = sizes.min() if sizes.min() <= 1 / MOST else sizes.max()
        raise _no_norm(norm, f"returned {wrong:g} for a unit vector")
    powers = np.exp2(np.ceil(np.log2(sizes)))
    unit = float(powers.max()) / WIDEST
    weights = np.maximum(powers / unit, 1.0)
    weights.flags.writeable = False
    return LabelWeights(weights, unit)


_kept_weights = lru_cache(maxsize=8)(_weights)


def check_norm(norm: Norm, columns: int) -> None:
    """Check with some made-up vectors that a function is a norm.

    Raises
    ------
    InvalidOptionError
        Where it is none; the message says what does not hold.
    """
    label_weights(norm, columns)
    check_axioms(norm, np.random.default_rng(0).standard_normal((VECTORS, columns)))


def check_axioms(norm: Norm, vectors: NDArray[np.float64]) -> None:
    """Check that a function is a norm as far as some vectors (k, m), and their sums, tell.

    Raises
    ------
    InvalidOptionError
    """
    if _value(norm, np.zeros(vectors.shape[1])) != 0:
        raise _no_norm(norm, "does not return 0 for a vector of zeros")
    sizes = [_value(norm, v) for v in vectors]
    for v, size in zip(vectors, sizes, strict=True):
        if v.any() and not size > 0:
            raise _no_norm(norm, f"returned {size:g} for {_shown(v)}, which is not 0")
        for factor in (-1.0, 0.5, 3.0):
            if not np.isclose(_value(norm, factor * v), abs(factor) * size, rtol=AXIOM, atol=0.0):
                said = f"does not grow with its vector: ‖{factor:g}·v‖ of {_shown(v)}"
                raise _no_norm(norm, said)
    for k, (v, w) in enumerate(pairwise(vectors)):
        if _value(norm, v + w) > (sizes[k] + sizes[k + 1]) * (1 + AXIOM):
            raise _no_norm(norm, f"breaks the triangle inequality for {_shown(v)} and {_shown(w)}")


def label_norms(labels: LabelMap, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ‖y‖ by a user's norm of labels (n, m), shape (n,).

    Raises
    ------
    InvalidDataError
        For a value that is no norm; the position of the label is named, and one behind them all
        stands for zeros.
    """
    assert labels.own_norm is not None
    pairs = np.zeros((len(values), 2), np.int32)
    pairs[:, 0] = np.arange(len(values))
    zero, own = np.zeros((1, values.shape[1])), np.arange(len(values))
    return _norms(labels.own_norm, pairs, (values, zero), (own, own[:1] + len(own)))


def listed_differences(
    norm: Norm, pairs: NDArray[np.int32], block: Block, a: Side, b: Side
) -> NDArray[np.float64]:
    """Return ‖Δy‖ (k,) of listed pairs of a block, the lower row number first.

    Raises
    ------
    InvalidDataError
        For a value that is no norm; both rows are named.
    """
    numbers = a.numbers[block.order_a], b.numbers[block.order_b]
    return _norms(norm, pairs, (block.labels_a, block.labels_b), numbers)


def all_differences(
    norm: Norm,
    labels: tuple[NDArray[np.float64], NDArray[np.float64]],
    numbers: tuple[NDArray[np.int64], NDArray[np.int64]],
    out: NDArray[np.float64],
) -> None:
    """out[i, j] = ‖Δy‖ of labels (r, m) and (c, m) of rows with these numbers; 0 for equal ones."""
    pairs = np.stack(np.unravel_index(np.arange(out.size), out.shape), axis=1).astype(np.int32)
    out[:] = _norms(norm, pairs, labels, numbers).reshape(out.shape)


def _norms(
    norm: Norm,
    pairs: NDArray[np.int32],
    labels: tuple[NDArray[np.float64], NDArray[np.float64]],
    numbers: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> NDArray[np.float64]:
    """Return the norms of differences of labels, each checked against its bound."""
    out, bound = np.empty(len(pairs)), label_weights(norm, labels[0].shape[1])
    most = bound.unit * (1 + ROUNDING)
    function = _kernel_of(norm) if is_compiled(norm) else _call_norm
    wrong = function(norm, pairs, labels, numbers, bound.weights, most, out)
    if wrong >= 0:
        one, other = (int(of[k]) for of, k in zip(numbers, pairs[wrong], strict=True))
        raise InvalidDataError(
            f"the label norm returned {out[wrong]:g} for the labels of rows {one} and {other}, "
            "which differ; a norm is finite, positive and at most Σ |v_k|·‖e_k‖ (rescale labels "
            "whose squares vanish)"
        )
    return out


def _call_norm(norm, pairs, labels, numbers, weights, most, out):
    """Call a norm from Python; return the first pair whose value is none, else −1."""
    out[:], step = 0.0, max(1, AT_ONCE // len(weights))
    for lo in range(0, len(pairs), step):
        i, j = pairs[lo : lo + step].T
        delta = labels[0][i] - labels[1][j]
        delta = np.where((numbers[0][i] <= numbers[1][j])[:, None], delta, -delta)
        bounds = (np.abs(delta) * weights).sum(axis=1)
        for s in np.flatnonzero(bounds > 0):
            out[lo + s] = _value(norm, delta[s])
            if not 0.0 < out[lo + s] <= bounds[s] * most:
                return int(lo + s)
    return -1


@lru_cache(maxsize=8)
def _kernel_of(norm: Norm) -> Callable[..., int]:
    """Compile the loop over pairs around a compiled norm; not kept on disk."""

    @njit(nogil=True)
    def kernel(pairs, labels, numbers, weights, most, out):
        (labels_a, labels_b), (numbers_a, numbers_b) = labels, numbers
        delta = np.empty(weights.shape[0])
        for s in range(pairs.shape[0]):
            i, j = pairs[s, 0], pairs[s, 1]
            lower, bound = numbers_a[i] <= numbers_b[j], 0.0
            for k in range(weights.shape[0]):
                t = labels_a[i, k] - labels_b[j, k]
                delta[k] = t if lower else -t
                bound += abs(t) * weights[k]
            out[s] = 0.0
            if bound > 0.0:
                out[s] = np.float64(norm(delta))
                if not (out[s] > 0.0 and out[s] <= bound * most):
                    return s
        return -1

    def call(_, pairs, labels, numbers, weights, most, out):
        both = tuple(np.ascontiguousarray(values) for values in labels)
        try:
            found: Any = kernel(pairs, both, numbers, weights, most, out)
        except MemoryError:
            raise
        except Exception:
            _call_norm(norm, pairs, both, numbers, weights, most, out)  # names the label
            raise
        return int(found)

    return call


def _value(norm: Norm, vector: NDArray[np.float64]) -> float:
    """Return the norm of a vector as a number, checked.

    Raises
    ------
    InvalidOptionError
    """
    try:
        with no_exit():
            value = norm(vector.copy())
    except MemoryError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise _no_norm(norm, f"failed for {_shown(vector)} ({said})") from error
    try:
        size = float(value)
    except (TypeError, ValueError) as error:
        raise _no_norm(norm, f"returned {value!r}, which is no number") from error
    if not (np.isfinite(size) and size >= 0):
        raise _no_norm(norm, f"returned {size} for {_shown(vector)}")
    return size


def _no_norm(norm: Any, why: str) -> InvalidOptionError:
    name = getattr(norm, "__name__", type(norm).__name__)
    return InvalidOptionError(
        f"{name} is no norm of the label space: it {why}. A norm is positive but for zeros, "
        "‖c·v‖ = |c|·‖v‖ and ‖v + w‖ ≤ ‖v‖ + ‖w‖"
    )


def _shown(vector: NDArray[np.float64]) -> str:
    more = ", …" if vector[4:].size else ""
    return f"({', '.join(f'{value:.4g}' for value in vector[:4])}{more})"
