"""Bins of bytes: which rows of a block are too far from a row in one column, as bits of words.

For largest differences one column is enough to drop a pair. A column's bytes are cut into bins; of
every bin a word of bits says which of LANES rows differ by what they need from *all* bytes of the
bin (DESIGN.md, "Other metrics"). A row then takes an "or" of the words of its own bins, LANES pairs
at once, and what has no bit in the end may matter. Columns come in the order in which they decide.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..compiling import compiled, kernel

LANES = 512  # rows that a word of bits stands for; in 64 bytes, lane 64·b + w is bit b of byte w
WIDTH, WORDS = LANES // 8, LANES // 64
BINS = 8
COLUMNS = 96  # whose bins are looked at, at most; a multiple of UNROLLED
UNROLLED = 4
SAMPLE = 64  # rows of either side that columns are chosen by
SAMPLE_VALUES = 2**20  # pairs of those times columns
NOTHING = 256  # a difference that bytes cannot have
QUANTILES = (0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97)

u8, i64, u64 = np.uint8, np.int64, np.uint64


class Bins(NamedTuple):
    """How the bytes of some columns are cut.

    Attributes
    ----------
    columns : ndarray (c,) int64
        Those that decide most pairs first; c is a multiple of UNROLLED.
    low, high : ndarray (c, BINS) uint8
        First and last byte of every bin.
    of : ndarray (c, 256) uint8
        The bin of every byte.
    """

    columns: NDArray[np.int64]
    low: NDArray[np.uint8]
    high: NDArray[np.uint8]
    of: NDArray[np.uint8]


class Binned(NamedTuple):
    """A panel's rows in bins, in positions.

    Attributes
    ----------
    bytes : ndarray (c, n) uint8
        Column after column.
    bins : ndarray (n, c) uint8
    """

    bytes: NDArray[np.uint8]
    bins: NDArray[np.uint8]


def sample_rows(columns: int) -> int:
    """Return how many rows of either side columns are chosen by."""
    return max(8, min(SAMPLE, int((SAMPLE_VALUES / columns) ** 0.5)))


def choose_columns(a: NDArray[np.uint8], b: NDArray[np.uint8], least: int) -> NDArray[np.int64]:
    """Return the columns that decide most pairs of two samples, each after those before it.

    Columns of images say much the same as their neighbours. So a column is judged by the pairs
    that none before it decided, until all are, and then by all of them again.

    Parameters
    ----------
    a, b : ndarray (n, d), (m, d) uint8
    least : int
        The difference that decides a pair.
    """
    top, bottom = np.maximum(a[:, None], b[None]), np.minimum(a[:, None], b[None])
    decided = ((top - bottom) >= least).reshape(-1, a.shape[1])
    decided = decided[decided.any(axis=1)]
    count = decided.sum(axis=0)
    free, open_pairs, found = count > 0, np.ones(len(decided), bool), list[int]()
    gain = count.copy()
    while len(found) < COLUMNS and free.any():
        best = int(np.argmax(np.where(free, gain, -1)))
        if gain[best] <= 0:  # all that can be is decided: once more
            open_pairs[:] = True
            gain = count.copy()
            best = int(np.argmax(np.where(free, gain, -1)))
        found.append(best)
        free[best] = False
        newly = open_pairs & decided[:, best]
        open_pairs &= ~newly
        gain = gain - decided[newly].sum(axis=0)
    found += [found[0] if found else 0] * (-len(found) % UNROLLED or (0 if found else UNROLLED))
    return np.array(found, np.int64)


def make_bins(sample: NDArray[np.uint8], columns: NDArray[np.int64], least: int) -> Bins:
    """Cut columns by quantiles of those bytes that another can be `least` away from.

    sample : ndarray (n, d) uint8
    """
    cuts = np.empty((len(columns), BINS - 1), np.int64)  # where bins begin, but for the first
    for k, c in enumerate(columns):
        values = sample[:, c].astype(np.int64)
        if least <= 128:
            cuts[k] = np.quantile(values, QUANTILES, method="nearest")
            continue
        low, high = values[values <= 255 - least], values[values >= least]
        some, others = (
            np.quantile(part, (1 / 3, 2 / 3), method="nearest") if len(part) else (edge, edge)
            for part, edge in ((low, 255 - least), (high, least))
        )
        cuts[k] = [*some, 255 - least, least - 1, *others, 254]
    cuts = np.sort(cuts, axis=1)
    of = (np.arange(256)[None, :, None] > cuts[:, None]).sum(axis=2).astype(np.uint8)
    ends = np.concatenate([np.full((len(cuts), 1), -1), cuts, np.full((len(cuts), 1), 255)], axis=1)
    low, high = np.minimum(ends[:, :-1] + 1, 255), ends[:, 1:]
    return Bins(columns, low.astype(np.uint8), np.maximum(high, 0).astype(np.uint8), of)


def put_into_bins(fine: NDArray[np.uint8], order: NDArray[np.int64], bins: Bins) -> Binned:
    """Return a panel's bytes of some columns, and their bins."""
    width = len(bins.columns)
    by_column = np.empty((width, len(order)), np.uint8)
    by_row = np.empty((len(order), width), np.uint8)
    _put_into_bins(fine, order, bins.columns, bins.of, by_column, by_row)
    return Binned(by_column, by_row)


@compiled
def _put_into_bins(fine, order, columns, of, by_column, by_row):
    for start in range(0, order.shape[0], WIDTH):  # so that pieces of columns are written
        stop = min(start + WIDTH, order.shape[0])
        for k in range(columns.shape[0]):
            for i in range(start, stop):
                value = fine[order[i], columns[k]]
                by_column[k, i] = value
                by_row[i, k] = of[k, value]


@kernel()
def fill_words(low, high, rows, first, least, scratch, words):
    """words[k, g] = the lanes that are `least` or more from every byte of bin g of column k.

    Parameters
    ----------
    low, high : ndarray (c, BINS) uint8
    rows : ndarray (c, n) uint8
        Bytes of the rows by column; lane j is row first + j.
    first : int
    least : ndarray (r,) int16
        From 1 to NOTHING, of at most LANES rows; lanes beyond are in no word.
    scratch : ndarray (2, LANES) uint8
    words : ndarray (c, BINS, WIDTH) uint8
    """
    above, below, count = scratch[0], scratch[1], least.shape[0]
    smallest: Any = NOTHING
    above[:], below[:] = 0, 255
    for j in range(count):
        smallest = min(smallest, i64(least[j]))
    for k in range(low.shape[0]):
        for j in range(count):
            value, most = np.int16(rows[k, first + j]), least[j]
            above[j] = u8(value - most + 1 if value >= most else 0)
            below[j] = u8(value + most - 1 if value + most <= 256 else 255)
        for g in range(BINS):
            lo, hi, word = low[k, g], high[k, g], words[k, g]
            word[:] = 0
            if i64(lo) < smallest and i64(hi) + smallest > 255:
                continue  # no byte is so far away
            for bit in range(8):
                mark = u8(1 << bit)
                for w in range(WIDTH):
                    j = bit * WIDTH + w
                    far = above[j] > hi or below[j] < lo
                    word[w] |= mark if far else u8(0)


@kernel()
def or_words(words, bins, taken):
    """taken |= words of a row's bins; return whether any bit is left that is not taken.

    words (c · BINS · WORDS,) and taken (WORDS,) uint64; bins (c,) uint8.
    """
    for k in range(0, bins.shape[0], UNROLLED):
        start = u64(k * BINS * WORDS)  # unsigned, so that no index is taken for a negative one
        one = start + u64(bins[k]) * u64(WORDS)
        two = start + u64(bins[k + 1]) * u64(WORDS) + u64(BINS * WORDS)
        three = start + u64(bins[k + 2]) * u64(WORDS) + u64(2 * BINS * WORDS)
        four = start + u64(bins[k + 3]) * u64(WORDS) + u64(3 * BINS * WORDS)
        left = u64(0)
        for w in range(WORDS):
            at = u64(w)
            found = words[one + at] | words[two + at] | words[three + at] | words[four + at]
            taken[w] |= found
            left |= ~taken[w]
        if left == 0:
            return False
    return True


@kernel()
def list_lanes(taken, eights, out):
    """List the lanes whose bits are not taken, (WIDTH,) uint8 or (WORDS,) uint64; return the count.

    out (LANES,) int64
    """
    count = 0
    for eight in range(WORDS):
        if eights[eight] == ~u64(0):
            continue
        for w in range(8 * eight, 8 * eight + 8):
            byte = taken[w]
            if byte == 255:
                continue
            for bit in range(8):
                if not byte >> bit & 1:
                    out[count] = bit * WIDTH + w
                    count += 1
    return count
