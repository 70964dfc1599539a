"""Recipes of CONTRIBUTING, followed with nothing of the package touched but by registering.

A reduction is not: kernels that are compiled for a class of a test stay in Numba's cache, which
other processes cannot read then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import dskrobust as dr
from dskrobust.datasets.reader import READERS, StreamReader, array_blocks, reads
from dskrobust.evaluation.models import base, model_class
from dskrobust.metrics import EUCLIDEAN, KernelForm
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
