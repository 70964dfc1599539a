"""Names of metrics, and what their kernel forms say of them."""

import os
import subprocess
import sys
from unittest import mock

import dask.array as da
import numpy as np
import pytest
from dask.callbacks import Callback

import dskrobust as dr
from dskrobust import covariance
from dskrobust.errors import InvalidOptionError
from dskrobust.metrics import Mahalanobis, resolve_metric
from dskrobust.runs import pair_spec
from dskrobust.store import Store


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("manhattan", "cityblock"),
        ("L1", "cityblock"),
        ("l2", "euclidean"),
        ("linf", "chebyshev"),
        (" Minkowski(3) ", "minkowski(3)"),
        ("angular", "angular"),
    ],
)
def test_names_that_people_type(typed, name):
    assert str(resolve_metric(typed)) == name


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("cosine", "angular is the metric of it"),
        ("euclid", "choose one of euclidean, cityblock"),
        ("l1(3)", "unknown"),
        ("minkowski(x)", "must be a number"),
        ("mahalanobis", "Mahalanobis"),
    ],
)
def test_other_names_are_refused(typed, said):
    with pytest.raises(InvalidOptionError, match=said):
        resolve_metric(typed)


FORMS = {
    # name: (screened, byte-bounded, homogeneous, exponent, stretch)
    "euclidean": (True, False, True, 2.0, 1.0),
    "cityblock": (False, True, True, 1.0, 1.0),
    "chebyshev": (False, True, True, np.inf, 1.0),
    "minkowski(3)": (False, True, True, 3.0, 1.0),
    "angular": (True, False, False, None, np.pi / 2),
    "hamming": (False, False, False, None, 1.0),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_say_what_kernels_may_do(name):
    form = resolve_metric(name).form(4, 0.5)
    said = form.screened, form.byte_bounded, form.homogeneous, form.exponent, form.stretch
    assert said == FORMS[name]


def test_forms_of_matrices_and_functions():
    form = Mahalanobis(np.eye(3)).form(3, 1.0)
    assert form.widened
    assert (form.screened, form.exponent) == (True, 2.0)
    form = resolve_metric(lambda a, b: 0.0).form(3, 1.0)
    assert form.widened
    assert (form.screened, form.homogeneous, form.byte_bounded) == (False, False, False)


def test_a_covariance_has_the_same_bits_for_every_chunking_and_number_of_threads():
    """Also where several pieces are read at once, and BLAS splits its sums by threads."""
    X = np.random.default_rng(0).normal(size=(9_000, 58)).astype(np.float32)
    one = Mahalanobis.fit(X, 0.5)
    for chunks in ((9_000, 58), (777, 58), (5_000, 10)):
        assert Mahalanobis.fit(da.from_array(X, chunks=chunks), 0.5) == one
    script = (
        "import numpy as np, dskrobust as dr\n"
        "X = np.random.default_rng(0).normal(size=(9_000, 58)).astype(np.float32)\n"
        "print(dr.Mahalanobis.fit(X, 0.5))"
    )
    for threads in ("1", "3"):
        env = {**os.environ, "OPENBLAS_NUM_THREADS": threads}
        env.pop("OPENBLAS_CORETYPE", None)  # of clusters that other tests started; not this one's
        said = subprocess.run(
            [sys.executable, "-c", script], env=env, text=True, capture_output=True, check=True
        ).stdout
        assert said.strip() == str(one)


def test_no_task_of_a_covariance_holds_more_than_is_read_at_once(monkeypatch):
    monkeypatch.setattr(covariance, "READ_BYTES", 0)
    X = da.random.default_rng(0).normal(size=(20_000, 6), chunks=(1_000, 6))
    seen = []
    with Callback(posttask=lambda key, result, *_: seen.append(np.shape(result))):
        fitted = Mahalanobis.fit(X)
    assert max(shape[0] for shape in seen if len(shape) == 2) == covariance.SUMMED_ROWS
    assert fitted == Mahalanobis.fit(X.compute())


def test_a_covariance_of_a_store_is_summed_on_workers(client, tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(9_000, 5))
    store = dr.create_store(str(tmp_path / "a.zarr"), X, np.arange(9_000) % 2)
    monkeypatch.setattr(Store, "read", mock.Mock(side_effect=AssertionError("read in the client")))
    assert pair_spec(store, "mahalanobis").metric == Mahalanobis.fit(X)
