"""Equal rows of a panel: the lowest of them stand for all others, which make no pairs.

Blank images, empty texts and imputed rows are equal by the thousand. All have the same distance,
bit by bit, from any row, so that no bound tells one from the others. *Twins* are rows of one part
that are equal in every column and in what their pairs depend on beside it: their label, unless
all labels count alike, and what their states ask for. A state names the lowest of equals, so it
takes few of them (`Reduction.named`); what the last of these learns, the others learn from it
(`hand_on`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels import LEADING
from .compiling import compiled
from .job import PairJob, Rows
from .label_distances import ANY, SAME
from .reductions import BothLabels, Twins

WORDS = {np.dtype(np.float32): np.uint32, np.dtype(np.float64): np.uint64}


def find_twins(
    rows: NDArray[Any], who: Rows, terms: NDArray[np.float64] | None, job: PairJob
) -> Twins | None:
    """Find the rows that others stand for; None where there are too few to matter.

    Parameters
    ----------
    rows : ndarray (n, d) uint8, float32 or float64
    who : Rows
    terms : ndarray (n, t) float64, optional
        What the rows' states ask for, where equal rows may ask for different things.
    job : PairJob
        A function of two rows need not be a distance: with one there are no twins.
    """
    few, named = job.tuning.twins, job.reduction.named
    own = job.label_code in (SAME, ANY) or isinstance(job.reduction, BothLabels)
    if job.form.function is not None:
        return None
    hashes = hash_rows(rows)
    ordered = np.sort(hashes)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(again) <= few:  # what rows without twins cost
        return None
    # by sorting: NumPy 2.0.0 fails where it asks whether a table of such numbers would do
    some = np.flatnonzero(np.isin(hashes, again, kind="sort") & (who.parts >= 0))
    keys = [hashes[some], who.parts[some], *([] if terms is None else terms[some].T)]
    marks = [] if job.label_code == ANY else [*who.labels[some].T]
    some, group, label = _groups(rows, some, keys, marks)
    stay = named + own if named else 1
    takers = np.arange(len(some)) >= np.searchsorted(label, label) + stay
    givers = some[np.searchsorted(label, label[takers]) + stay - 1]
    silent = some[:0]
    if not own and named and job.label_code < LEADING:  # beyond those that name enough rows of
        # any other label
        kept, group = some[~takers], group[~takers]
        rank = np.arange(len(kept)) - np.searchsorted(group, group)
        silent = kept[np.lexsort((kept, group))][rank >= 2 * named]
    if len(givers) + len(silent) <= few:
        return None
    return Twins(givers, some[takers], who.parts[givers], silent if len(silent) > few else some[:0])


def _groups(
    rows: NDArray[Any],
    some: NDArray[np.int64],
    keys: list[NDArray[Any]],
    marks: list[NDArray[np.float64]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Some rows sorted by keys and marks, their groups by keys, and those by both.

    Rows that are not those of their keys' first are left out. Groups are numbers that ascend.
    """
    by_key = np.lexsort((*marks[::-1], *keys[::-1]))
    some = some[by_key]
    group, label = (_numbers([key[by_key] for key in which]) for which in (keys, keys + marks))
    equal = _are_equal(rows, some, some[np.searchsorted(group, group)])  # else only hashes are
    return some[equal], group[equal], label[equal]


def _numbers(keys: list[NDArray[Any]]) -> NDArray[np.int64]:
    """Numbers of runs of equal keys (n,)."""
    change = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.append(0, np.cumsum(change))[: len(keys[0])]


def hash_rows(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Hashes (n,) of rows (n, d), equal for equal rows; 0.0 and −0.0 are equal."""
    words, zero = WORDS.get(rows.dtype), 0
    if words is not None:
        zero = np.array([-0.0], rows.dtype).view(words)[0]
    elif rows.shape[1] % 8 == 0:
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
def _are_equal(rows, some, others):
    """Whether rows some[k] and others[k] are equal."""
    out = np.empty(some.shape[0], np.bool_)
    for k in range(some.shape[0]):
        out[k] = np.array_equal(rows[some[k]], rows[others[k]])
    return out
