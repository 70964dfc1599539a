"""Hypothesis strategies: labelled data sets, how they are chunked, and how a run is cut up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

import dskrobust as dr

DTYPES = ("uint8", "int32", "float16", "float32", "float64")
LABELS = ("categorical", "real", "vector-l1", "vector-l2", "vector-linf")
KINDS = ("ties", "gaussian", "clusters")
METRICS = ("euclidean", "cityblock", "chebyshev", "minkowski(3)", "angular", "hamming")

columns = st.one_of(st.integers(1, 8), st.integers(9, 70), st.sampled_from((31, 32, 33, 64, 65)))


@dataclass(frozen=True)
class Data:
    """A labelled data set; `labels` names the label map."""

    X: np.ndarray
    y: np.ndarray
    split: np.ndarray | None
    labels: str
    scale: float = 1.0

    def __repr__(self) -> str:
        shape, groups = self.X.shape, 0 if self.split is None else len(np.unique(self.split))
        return f"Data({shape}, {self.X.dtype}, {self.labels}, groups={groups}, x={self.scale})"


def features(rng, n, d, dtype, kind, offset):
    """Rows of a kind: few distinct values (ties, duplicates), Gaussian, or clusters."""
    if kind == "ties":
        X = rng.integers(0, 4, (n, d)).astype(np.float64)
        twins = rng.random(n) < 0.3
        X[twins] = X[rng.integers(0, n, twins.sum())]
    else:
        X = rng.standard_normal((n, d))
        if kind == "clusters":
            X = 0.01 * X + 5 * rng.standard_normal((3, d))[rng.integers(0, 3, n)]
        if np.dtype(dtype).kind in "iu":
            X = np.round(20 * X)
    X = X + offset
    if dtype == "uint8":
        X = np.mod(X, 256)
    return X.astype(dtype)


def label_values(rng, n, labels, few):
    """Labels for a map; `few` makes equal labels likely."""
    if labels == "categorical":
        return rng.integers(0, 2 if few else 4, n)
    shape = (n,) if labels == "real" else (n, int(rng.integers(1, 4)))
    return rng.integers(-2, 3, shape).astype(float) if few else rng.standard_normal(shape)


@st.composite
def data_sets(draw, labels=LABELS, dtypes=DTYPES, rows=(2, 60), groups=(1, 3), kinds=KINDS):
    """Draw a data set in which every group has two labels."""
    count = draw(st.integers(*groups))
    n = draw(st.integers(max(rows[0], 2 * count), max(rows[1], 2 * count)))
    d = draw(columns)
    dtype, kind = draw(st.sampled_from(dtypes)), draw(st.sampled_from(kinds))
    offset = draw(st.sampled_from((0, 0, 1, 100, 10_000)))
    label_map, few = draw(st.sampled_from(labels)), draw(st.booleans())
    scale = draw(st.sampled_from((1.0, 1.0, 1 / 255, 3.7)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    X, y = features(rng, n, d, dtype, kind, offset), label_values(rng, n, label_map, few)
    codes = rng.integers(0, count, n)
    for code in range(count):
        codes[2 * code : 2 * code + 2] = code
        y[2 * code], y[2 * code + 1] = 0, 1
    order = rng.permutation(n)
    names = np.array(["a", "b", "c"])
    split = None if count == 1 and draw(st.booleans()) else names[codes[order]]
    return Data(X[order], y[order], split, label_map, scale)


@st.composite
def chunk_sizes(draw, n):
    """Uneven chunks of n rows."""
    cuts = draw(st.lists(st.integers(1, max(1, n - 1)), max_size=5, unique=True).map(sorted))
    edges = [0, *(c for c in cuts if c < n), n]
    return tuple(b - a for a, b in pairwise(edges))


ROOMY = dr.Resources(1, 2, 16 * 2**30)
UNLIMITED = dr.Resources(1, 2, None)


@st.composite
def options(draw, rows=60):
    """How a run is cut into blocks and panels."""
    return dr.RunOptions(
        resources=UNLIMITED,
        block_rows=draw(st.none() | st.integers(5, rows + 5)),
        panel_rows=draw(st.none() | st.integers(3, rows + 5)),
    )
