"""The small data sets that scikit-learn brings along, and the points of the paper's Figure 1."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidOptionError
from ..store import StoreSpec
from .reader import ReaderOptions, StreamReader, array_blocks, provenance, reads
from .splits import RowKeys

LOADERS = {
    "digits": "load_digits",
    "iris": "load_iris",
    "wine": "load_wine",
    "breast-cancer": "load_breast_cancer",
    "diabetes": "load_diabetes",
}
TEST_SHARE = 0.2
PLANE_SIDE = 4  # points of the plane from left to right, and from below to above
PLANE = {"left or right": ("left", "right"), "above or below": ("below", "above")}  # label maps


def open_bundled(name: str, source: Path | None, options: ReaderOptions) -> StreamReader:
    """Return the reader of one of scikit-learn's data sets.

    The digits are (1797, 64) uint8 in 0 … 16 with a seeded, stratified split into train (80 %)
    and test, unless another one is asked for; the others are float64 in one group, all.
    """
    from sklearn import datasets

    options.allow(name)
    if source is not None:
        raise InvalidOptionError(f"{name} comes with scikit-learn: leave the source away")
    bunch = getattr(datasets, LOADERS[name])()
    features, labels = bunch.data, bunch.target
    split = np.zeros(len(labels), np.int16)
    classes = getattr(bunch, "target_names", None)
    facts: dict[str, Any] = {"provenance": provenance(f"scikit-learn {name}")}
    if name == "digits":
        features = features.astype(np.uint8)
        facts |= {"scale": 1 / 16, "image_shape": (8, 8)}
        if not options.drawn.asked:
            split = stratified_split(labels, options.seed)
            facts["groups"] = ("train", "test")
            facts["provenance"] = provenance("scikit-learn digits", seed=options.seed)
    spec = StoreSpec(
        name=name,
        label_kind="real" if classes is None else "categorical",
        classes=None if classes is None else tuple(str(c) for c in classes),
        feature_names=tuple(str(n) for n in bunch.feature_names),
        **facts,
    )
    stream = partial(array_blocks, features, labels, split)
    keys = partial(iter, [RowKeys(labels)])
    return StreamReader(options.apply(spec), len(labels), stream, keys=keys)


for _name in LOADERS:
    reads(_name)(partial(open_bundled, _name))


@reads("plane")
def open_plane(source: Path | None, options: ReaderOptions) -> StreamReader:
    """Return the reader of points in a plane under two label maps, as in the paper's Figure 1.

    The same 16 points, one in every cell of a rectangle, are in either group, (32, 2) float64:
    labelled by the side that they lie on, and by the height.
    """
    options.allow("plane")
    if source is not None:
        raise InvalidOptionError("plane comes with dskrobust: leave the source away")
    cells = np.indices((PLANE_SIDE, PLANE_SIDE)).reshape(2, -1).T
    places = (cells + np.random.default_rng(options.seed).uniform(size=cells.shape)) * [1.5, 1]
    labels = (cells.T >= PLANE_SIDE // 2) + np.array([[0], [2]])
    split = np.repeat(np.arange(2, dtype=np.int16), len(places))
    spec = StoreSpec(
        name="plane",
        label_kind="categorical",
        classes=tuple(side for sides in PLANE.values() for side in sides),
        groups=tuple(PLANE),
        feature_names=("x", "y"),
        provenance=provenance("points in a plane", seed=options.seed),
    )
    stream = partial(array_blocks, np.tile(places, (2, 1)), labels.ravel(), split)
    return StreamReader(options.apply(spec), 2 * len(places), stream)


def stratified_split(labels: NDArray[Any], seed: int) -> NDArray[np.int16]:
    """Return split codes, shape (n,): 1 (test) for a random fifth of every class, else 0."""
    rng = np.random.default_rng(seed)
    split = np.zeros(len(labels), np.int16)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        split[rows[: round(len(rows) * TEST_SHARE)]] = 1
    return split
