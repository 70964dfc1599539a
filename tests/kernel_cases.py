"""Jobs, rows and readers as the kernels take them, for several tests."""

import numpy as np

import dskrobust as dr
from dskrobust.engine.spec import Context, PairSpec
from dskrobust.labels import LabelMap
from dskrobust.store import Block, summarise


def job_for(X, metric=None, labels="categorical", groups=("all",)):
    """The kernels' view of a run over X, made as the engine makes it."""
    metric = metric or dr.Euclidean()
    spec = PairSpec(metric, LabelMap(labels), groups, X.shape[1], 1.0, (0,), X.dtype)
    block = Block(X, np.arange(len(X)), np.zeros(len(X), np.int16))
    summary = summarise(block)
    return Context(summary.center, summary.largest_feature, 1.0).job(spec)


def adversary(kind, n, d, rng):
    """Rows that make float32 products as wrong as they get."""
    X = rng.standard_normal((n, d))
    if kind == "offset":
        X += 1e4
    elif kind == "aligned":  # all products of one sign: nothing cancels
        X = np.abs(X) + 1
        X[::2] *= -1
    elif kind == "near":  # the exact distance is far below the rounding of the norms
        X = 100 + X[0] + 1e-6 * X
    elif kind == "wide":
        X *= 10.0 ** rng.integers(-37, 37, (n, d))
    elif kind == "wide rows":
        X *= 10.0 ** rng.integers(-44, 30, (n, 1))
    elif kind == "denormal":
        X *= 1e-42
    elif kind == "one outlier":
        X *= 1e-20
        X[0] = 1.0
    elif kind == "halfway":  # every rounding to float32 goes the same way
        X = np.float64(1) + 2.0**-24 * (1 + rng.integers(0, 2, (n, d))) * 0.999
    elif kind == "constant":
        X = np.full((n, d), 0.1)
    return X


KINDS = (
    "plain",
    "offset",
    "aligned",
    "near",
    "wide",
    "wide rows",
    "denormal",
    "one outlier",
    "halfway",
    "constant",
)


def same(a, b):
    one, two = a.arrays(), b.arrays()
    return (
        a.first == b.first
        and one.keys() == two.keys()
        and all(one[k].tobytes() == two[k].tobytes() for k in one)
    )


def reader(data, log=None):
    labels = data.y.astype(np.float64).reshape(len(data.y), -1)
    codes = np.unique(data.split, return_inverse=True)[1].astype(np.int16)

    def read(lo, hi, side=0):
        if log is not None:
            log.append((lo, hi))
        return data.X[lo:hi], labels[lo:hi], codes[lo:hi]

    return read
