"""The recipes of CONTRIBUTING, followed with nothing of the package touched but by registering."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba.extending import overload
from scipy.spatial.distance import cdist

import dskrobust as dr
from dskrobust.datasets.reader import READERS, StreamReader, array_blocks, reads
from dskrobust.engine.lazy import LazyArrays
from dskrobust.evaluation.models import base, model_class
from dskrobust.kernels.reductions import base as reductions
from dskrobust.metrics import EUCLIDEAN, KernelForm
from dskrobust.runs import data_spec, open_data
from dskrobust.searches import symmetric_search
from dskrobust.store import StoreSpec, current_results

X = np.random.default_rng(0).standard_normal((60, 5))
Y = np.arange(60) % 3


# -- a metric ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halved(dr.Metric):
    """Half of the Euclidean distance."""

    name = "halved"

    def form(self, columns: int, scale: float) -> KernelForm:
        return KernelForm(EUCLIDEAN, scale / 2)


def test_a_metric():
    half, whole = (dr.sample_robustness(X, Y, metric=m).reach for m in (Halved(), "euclidean"))
    np.testing.assert_array_equal(half, np.asarray(whole) / 2)


# -- a reduction -------------------------------------------------------------------------------


class LeastState(NamedTuple):
    """The least distance so far, (n, parts) float64."""

    least: np.ndarray

    @property
    def nbytes(self) -> int:
        return reductions.bytes_of(self)

    def merge(self, other: LeastState) -> LeastState:
        return LeastState(np.minimum(self.least, other.least))

    def arrays(self) -> dict[str, np.ndarray]:
        return self._asdict()

    def is_within(self, rows: int) -> bool:
        return True


@overload(reductions.radius)
def _radius(state, row, part):
    if reductions.is_state(state, LeastState):
        return lambda state, row, part: state.least[row, part]


@overload(reductions.slope)
def _slope(state, row, part, number):
    if reductions.is_state(state, LeastState):
        return lambda state, row, part, number: np.inf


@overload(reductions.within)
def _within(state, row, part):
    if reductions.is_state(state, LeastState):
        return lambda state, row, part: -np.inf


@overload(reductions.accept)
def _accept(state, row, part, distance, dy, number, weight):
    if not reductions.is_state(state, LeastState):
        return None

    def accept(state, row, part, distance, dy, number, weight):
        state.least[row, part] = min(distance, state.least[row, part])

    return accept


@dataclass(frozen=True)
class LeastDistance:
    """Per row and part the least distance of a pair."""

    quotients = unproven = boxed = False
    single = warm = True
    seeds = named = 1
    cell_bytes = 8

    def empty(self, rows: int, parts: int) -> LeastState:
        return LeastState(np.full((rows, parts), np.inf))

    def closed(self, rows: int) -> LeastState:
        return LeastState(np.full((rows, 1), -np.inf))


def take_least(state: LeastState) -> np.ndarray:
    return state.least.min(axis=1)


def test_a_reduction():
    data = open_data(X, Y)
    spec = replace(data_spec(data), require_labels=(), reduction=LeastDistance())
    search = symmetric_search(data, spec, None, dr.RunOptions(block_rows=25))

    def task(state: Any, block: tuple[int, int]) -> tuple[Any, ...]:
        return take_least, state

    found = LazyArrays(search.graph).by_block("least", task, search.rows, (), np.float64)
    apart = np.where(Y[:, None] != Y, cdist(X, X), np.inf)
    np.testing.assert_allclose(found, apart.min(axis=1), rtol=1e-12)


# -- a model, a reader, a figure ---------------------------------------------------------------


def test_a_model():
    class Majority(base.Model, kind="majority"):
        """The most frequent class."""

    try:
        assert model_class("majority") is Majority
    finally:
        del base.KINDS["majority"]


def test_a_reader(tmp_path):
    @reads(".sixty")
    def open_sixty(path, options):
        options.allow(".sixty")
        split = np.zeros(60, np.int16)
        spec = StoreSpec(name="sixty", label_kind="categorical")
        return StreamReader(options.apply(spec), 60, lambda: array_blocks(X, Y, split))

    (tmp_path / "some.sixty").write_text("sixty")
    try:
        store = dr.ingest(str(tmp_path / "some.sixty"), str(tmp_path / "some.zarr"))
    finally:
        del READERS[".sixty"]
    np.testing.assert_array_equal(store.features[:], X)


def test_a_figure(tmp_path, monkeypatch):
    Figure = pytest.importorskip("matplotlib.figure").Figure
    from dskrobust.report import StoredResults, draw, drawing

    monkeypatch.setitem(drawing.FIGURES, "samples", None)  # put back as it was
    store = dr.create_store(str(tmp_path / "some.zarr"), X, Y)
    dr.sample_robustness(store).write()

    @drawing.figure("samples")
    def samples(results, wishes):
        drawn = Figure()
        drawn.suptitle(f"{len(results.samples)} samples")
        return drawn

    found = draw(StoredResults(store, current_results(store)), "samples")
    assert found.get_suptitle() == "60 samples"
