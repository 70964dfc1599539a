"""Equal rows of a panel: the lowest of them stand for all others, which make no pairs.

Blank images, empty texts and imputed rows are equal by the thousand. All have the same distance,
bit by bit, from any row, so that no bound tells one from the others. *Twins* are rows of one part
that are equal in every column and in what their pairs depend on beside it: their label, unless
all labels count alike, and what their states ask for. A state names the lowest of equals, so it
takes few of them (`Reduction.keeps`); what the last of these learns, the others learn from it
(`State.hand_on`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiling import compiled
from .job import PairJob
from .label_distances import ANY, SAME
from .reductions.base import Twins

WORDS = {np.dtype(np.float32): np.uint32, np.dtype(np.float64): np.uint64}


def find_twins(
    rows: NDArray[Any],
    labels: NDArray[np.float64],
    parts: NDArray[np.int16],
    terms: NDArray[np.float64] | None,
    job: PairJob,
) -> Twins | None:
    """Find the rows that others stand for; None where there are too few to matter.

    Parameters
    ----------
    rows : ndarray (n, d) uint8, float32 or float64
    labels : ndarray (n, m) float64
    parts : ndarray (n,) int16
        Rows with a negative one are left out.
    terms : ndarray (n, t) float64, optional
        What the rows' states ask for (`State.terms`).
    job : PairJob
        A function of two rows need not be a distance: with one there are no twins.
    """
    if job.form.function is not None or len(rows) < 2:
        return None
    some, group, label = _equal_rows(rows, labels, parts, terms, job)
    reduction, own = job.reduction, job.label_code in (SAME, ANY)
    last = np.searchsorted(label, label) + (reduction.named + own if reduction.named else 1) - 1
    takers = np.arange(len(some)) > last
    givers = some[last[takers]]
    silent = np.empty(0, np.int64)
    if not own and reduction.named:  # beyond those that name enough rows of any other label
        some_kept, group = some[~takers], group[~takers]
        by_row = np.lexsort((some_kept, group))
        rank = np.arange(len(by_row)) - np.searchsorted(group, group)
        silent = some_kept[by_row][rank >= 2 * reduction.named]
    few = job.tuning.twins
    if len(givers) + len(silent) <= few:
        return None
    silent = silent if len(silent) > few else silent[:0]
    return Twins(givers, some[takers], parts[givers], silent)


def _equal_rows(
    rows: NDArray[Any],
    labels: NDArray[np.float64],
    parts: NDArray[np.int16],
    terms: NDArray[np.float64] | None,
    job: PairJob,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows that equal others in columns, part and terms: them, their groups, groups by label too.

    Groups are numbers that ascend; rows ascend in a group by label.
    """
    nothing, hashes = np.empty(0, np.int64), hash_rows(rows)
    ordered = np.sort(hashes)
    equal = ordered[1:] == ordered[:-1]
    if np.count_nonzero(equal) <= job.tuning.twins:
        return nothing, nothing, nothing
    some = np.flatnonzero(np.isin(hashes, ordered[1:][equal]) & (parts >= 0))
    keys = [hashes[some], parts[some], *([] if terms is None else terms[some].T)]
    marks = [] if job.label_code == ANY else list(labels[some].T)
    by_key = np.lexsort((some, *marks[::-1], *keys[::-1]))
    some = some[by_key]
    group, label = (_numbers([k[by_key] for k in which]) for which in (keys, keys + marks))
    equal = _equals_first(rows, some, group)  # else only the hashes are equal
    return some[equal], group[equal], label[equal]


def _numbers(keys: list[NDArray[Any]]) -> NDArray[np.int64]:
    """Numbers of runs of equal keys (n,)."""
    change = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.append(0, np.cumsum(change))[: len(keys[0])]


def hash_rows(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Hashes (n,) of rows (n, d), equal for equal rows; 0.0 and −0.0 are equal."""
    words, columns = WORDS.get(rows.dtype), rows.shape[1]
    zero = np.array([-0.0], rows.dtype).view(words)[0] if words is not None else 0
    if words is None and columns % 8 == 0:
        words = np.uint64
    bits = rows if words is None else rows.view(words)
    keys = np.random.default_rng(0).integers(0, 2**64, bits.shape[1], np.uint64)
    out = np.empty(len(rows), np.uint64)
    _hash(bits, np.uint64(zero), keys | np.uint64(1), out)
    return out


@compiled
def _hash(bits, zero, keys, out):
    """Sums of products with random odd keys, modulo 2⁶⁴; `zero` is hashed like 0."""
    for i in range(bits.shape[0]):
        row, total = bits[i], np.uint64(0)
        for k in range(row.shape[0]):
            word = np.uint64(row[k])
            word = word if word != zero else np.uint64(0)
            # the low bits of round floats are 0
            total += (word ^ (word >> np.uint64(32))) * keys[k]
        out[i] = total


@compiled
def _equals_first(rows, some, group):
    """Whether each of some rows equals the first of its group."""
    out, first = np.ones(some.shape[0], np.bool_), 0
    for s in range(1, some.shape[0]):
        if group[s] != group[s - 1]:
            first = s
            continue
        one, other = rows[some[first]], rows[some[s]]
        for k in range(one.shape[0]):
            if one[k] != other[k]:
                out[s] = False
                break
    return out
