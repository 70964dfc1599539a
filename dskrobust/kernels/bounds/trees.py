"""Rows of a panel in leaves: near each other, of one part, and of one label where that is cheap.

There is one tree per part. Nodes are halved along their widest column; a small region of few
labels is parted by label instead, so that most leaves of categorical data hold one label.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...labels import CATEGORICAL
from ..compiling import compiled, kernel
from ..job import PairJob
from ..label_distances import SAME

WIDTH = 8  # leaves are filled up to a multiple of this, for vector code
REGION = 32  # nodes of at most so many leaves may be parted by label
CHILD, START, STOP, PART, PLACE, LOWEST = range(6)  # columns of `Trees.nodes`


class Trees(NamedTuple):
    """Trees over the rows of a panel; a tuple of arrays, as kernels take it.

    Attributes
    ----------
    nodes : ndarray (k, 6) int64
        First of the two children (-1 for a leaf), first and last + 1 position, part, a leaf's
        place in `leaves`, and the lowest row below the node. Roots come first.
    roots : int
    leaves : ndarray (l,) int64
        Nodes that are leaves, by position.
    order : ndarray (n,) int64
        Position → row.
    low, high : ndarray (k, d) float64
        The smallest and the largest value in every column.
    label_low, label_high : ndarray (k, m) float64
    blocks : ndarray (l, p, w) float64
        The rows of every leaf, column by column: p columns (zeros beyond d), filled up with
        infinite rows.
    labels : ndarray (l, m, w) float64
        The same of the labels, filled up with zeros.
    """

    nodes: NDArray[np.int64]
    roots: int
    leaves: NDArray[np.int64]
    order: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    label_low: NDArray[np.float64]
    label_high: NDArray[np.float64]
    blocks: NDArray[np.float64]
    labels: NDArray[np.float64]


def padded(columns: int) -> int:
    """Columns of a block: 4 or more, and a power of two, so that sums are folded by halves."""
    return max(4, 1 << (columns - 1).bit_length())


def plant(
    rows: NDArray[Any], labels: NDArray[np.float64], parts: NDArray[np.int16], job: PairJob
) -> Trees:
    """Put rows into leaves.

    Parameters
    ----------
    rows : ndarray (n, d)
    labels : ndarray (n, m) float64
    parts : ndarray (n,) int16
        Rows with a negative one are left out.
    job : PairJob
        Of categories, equal labels are common, and either all that matter or none.
    """
    leaf = job.tuning.leaf
    points = np.ascontiguousarray(rows, np.float64)
    order = np.argsort(parts, kind="stable").astype(np.int64)
    order = order[np.count_nonzero(parts < 0) :]
    cuts = np.flatnonzero(np.diff(parts[order])) + 1
    edges = np.array([0, *cuts, len(order)], np.int64)
    roots = parts[order[edges[:-1]]].astype(np.int64)
    codes = np.empty(0, np.int64)
    if job.label_code in (CATEGORICAL, SAME):
        key = labels[:, 0] if labels.shape[1] == 1 else labels
        codes = np.unique(key, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    nodes = _divide(points, codes, order, edges, roots, leaf)
    leaves = np.flatnonzero(nodes[:, CHILD] < 0)
    leaves = leaves[np.argsort(nodes[leaves, START])]
    nodes[leaves, PLACE] = np.arange(len(leaves))
    width = -(-leaf // WIDTH) * WIDTH
    boxes = [np.empty((len(nodes), k)) for k in (points.shape[1], labels.shape[1])]
    trees = Trees(
        nodes,
        len(roots),
        leaves,
        order,
        boxes[0],
        boxes[0].copy(),
        boxes[1],
        boxes[1].copy(),
        np.zeros((len(leaves), padded(points.shape[1]), width)),
        np.zeros((len(leaves), labels.shape[1], width)),
    )
    _fill(trees, points, np.ascontiguousarray(labels))
    return trees


@compiled
def _divide(points, codes, order, edges, parts, leaf):
    """Part `order` into leaves; return the nodes."""
    n = order.shape[0]
    nodes = np.empty((2 * n + 1, 6), np.int64)  # a page that is never touched costs nothing
    stack = np.empty(2 * n + 1, np.int64)
    keys, seen = np.empty(n), np.full(codes.max() + 1 if len(codes) else 0, -1, np.int64)
    count = top = parts.shape[0]
    for g in range(count):
        nodes[g, START], nodes[g, STOP], nodes[g, PART] = edges[g], edges[g + 1], parts[g]
        stack[g] = g
    while top > 0:
        top -= 1
        node = stack[top]
        start, stop = nodes[node, START], nodes[node, STOP]
        cut = _cut_labels(codes, order, seen, node, start, stop, leaf)
        if cut == start:
            cut = _cut_space(points, order, keys, start, stop, leaf)
        nodes[node, CHILD], nodes[node, PLACE] = -1, -1
        if cut == start:
            continue
        nodes[node, CHILD] = count
        for a, b in ((start, cut), (cut, stop)):
            nodes[count, START], nodes[count, STOP], nodes[count, PART] = a, b, nodes[node, PART]
            stack[top] = count
            count += 1
            top += 1
    return nodes[:count].copy()


@compiled
def _cut_labels(codes, order, seen, node, start, stop, leaf):
    """Sort a region by label and return the change of label next to its middle, or `start`.

    Regions are taken that have about a leaf of every label they hold. seen: for every label the
    last node that it was met in, so that regions of too many labels need no sorting.
    """
    size = stop - start
    if codes.shape[0] == 0 or size > REGION * leaf:
        return start
    some = codes[order[start:stop]]
    kinds = 0
    for code in some:
        kinds += seen[code] != node
        seen[code] = node
        if 4 * size < leaf * kinds:
            return start
    if kinds == 1 or 2 * size > 3 * leaf * kinds:
        return start
    by_code = np.argsort(some, kind="mergesort")
    some = some[by_code]
    order[start:stop] = order[start:stop][by_code]
    cut = 0
    for k in range(1, size):
        if some[k] != some[k - 1] and abs(2 * k - size) < abs(2 * cut - size):
            cut = k
    return start + cut


@compiled
def _cut_space(points, order, keys, start, stop, leaf):
    """Halve a node along its widest column and return the cut; `start` where it is small."""
    size = stop - start
    if size <= leaf:
        return start
    d = points.shape[1]
    low, high = points[order[start]].copy(), points[order[start]].copy()
    for s in range(start + 1, stop):
        row = order[s]
        for k in range(d):
            low[k] = min(low[k], points[row, k])
            high[k] = max(high[k], points[row, k])
    unit = leaf if size >= 8 * leaf else WIDTH  # whole leaves
    cut = start + (size // 2 + unit - 1) // unit * unit
    if cut >= stop:
        cut = start + size // 2
    column = np.argmax(high - low)
    if high[column] > low[column]:
        for s in range(start, stop):
            keys[s] = points[order[s], column]
        _part(keys, order, start, stop, cut)
    return cut


@kernel()
def _part(keys, order, start, stop, cut):
    """Bring the smallest keys of start:stop before `cut`; pivots of mixed places, so no bad order.

    Rows with equal keys may land on either side.
    """
    lo, hi, seed = start, stop - 1, np.uint32(12345)
    while lo < hi:
        seed = np.uint32(seed * np.uint32(1664525) + np.uint32(1013904223))
        pivot = keys[lo + np.int64(seed >> np.uint32(8)) % (hi - lo + 1)]
        i, j = lo, hi
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if cut <= j:
            hi = j
        elif cut >= i:
            lo = i
        else:
            return


@compiled
def _fill(trees, points, labels):
    """Copy rows into blocks and draw the boxes, children before their parents."""
    nodes, d, m = trees.nodes, points.shape[1], labels.shape[1]
    for node in range(nodes.shape[0] - 1, -1, -1):
        child, start, stop = nodes[node, CHILD], nodes[node, START], nodes[node, STOP]
        if child >= 0:
            nodes[node, LOWEST] = min(nodes[child, LOWEST], nodes[child + 1, LOWEST])
            for boxes, sign in ((trees.low, 1), (trees.high, -1)):
                boxes[node] = sign * np.minimum(sign * boxes[child], sign * boxes[child + 1])
            for boxes, sign in ((trees.label_low, 1), (trees.label_high, -1)):
                boxes[node] = sign * np.minimum(sign * boxes[child], sign * boxes[child + 1])
            continue
        own = trees.order[start:stop]
        nodes[node, LOWEST] = own.min()
        block = trees.blocks[nodes[node, PLACE]]
        block[:d] = np.inf
        label_block = trees.labels[nodes[node, PLACE]]
        for k in range(d):
            for s in range(own.shape[0]):
                block[k, s] = points[own[s], k]
            trees.low[node, k] = block[k, : own.shape[0]].min()
            trees.high[node, k] = block[k, : own.shape[0]].max()
        for k in range(m):
            for s in range(own.shape[0]):
                label_block[k, s] = labels[own[s], k]
            trees.label_low[node, k] = label_block[k, : own.shape[0]].min()
            trees.label_high[node, k] = label_block[k, : own.shape[0]].max()
