"""A cleaned store takes results over that equal a computation of all, to the last bit."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import features

import dskrobust as dr
from dskrobust.store import DecisionWriter, find_results

METRICS = ("euclidean", "cityblock", "angular", "hamming")


def tables(store):
    """Every table of every result of a store, by parameters."""
    found = {}
    for result in find_results(store, everything=True):
        key = repr(sorted(result.parameters.items(), key=str))
        assert key not in found
        found[key] = {name: result.read(name, 0, store.rows) for name in result.tables()}
    return found


def equal(one, other):
    """Whether all tables have the same names, dtypes and bits."""
    assert one.keys() == other.keys()
    return all(
        a.keys() == b.keys()
        and all(a[n].dtype == b[n].dtype and a[n].tobytes() == b[n].tobytes() for n in a)
        for a, b in ((one[key], other[key]) for key in one)
    )


@st.composite
def cleanings(draw):
    """Data with ties, duplicates and few labels, and what becomes of some rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, groups = draw(st.integers(30, 70)), draw(st.sampled_from((1, 2)))
    kind = draw(st.sampled_from(("ties", "gaussian")))
    X = features(rng, n, draw(st.sampled_from((1, 3, 20, 40))), "float32", kind, 1)
    y = rng.integers(0, draw(st.sampled_from((2, 4))), n)
    split = np.array(["a", "b"], object)[np.arange(n) % groups]
    touched = rng.choice(n, draw(st.integers(1, 4)), replace=False)
    return X, y, split, {int(row): bool(rng.integers(2)) for row in touched}


@given(cleanings(), st.sampled_from(METRICS), st.booleans())
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
def test_results_that_are_taken_over_are_those_of_a_computation(
    tmp_path_factory, made, metric, few
):
    X, y, split, touched = made
    folder = tmp_path_factory.mktemp("carry")
    store = dr.create_store(str(folder / "s.zarr"), X, y, split)
    if few:
        dr.sample_robustness(store, metric=metric).write()
    else:
        dr.label_quality(store, metric=metric).write()
    writer = DecisionWriter(store)
    for row, dropped in touched.items():
        writer.add(row, "drop") if dropped else writer.add(row, "relabel", int(y[row] + 1) % 2)
    cleaned = dr.apply_decisions(store, folder / "c.zarr").store
    taken = tables(cleaned)
    fresh = dr.apply_decisions(store, folder / "f.zarr", results=False).store
    assert not tables(fresh)
    if few:
        dr.sample_robustness(fresh, metric=metric).write()
    else:
        dr.label_quality(fresh, metric=metric).write()
    computed = tables(fresh)
    assert equal(taken, {key: computed[key] for key in taken})


def test_few_pairs_are_looked_at_and_nothing_is_left_to_compute(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(900, 8)), rng.integers(0, 3, 900)
    store = dr.create_store(str(tmp_path / "s.zarr"), X, y)
    dr.label_quality(store).write()
    writer = DecisionWriter(store)
    writer.add(17, "drop")
    writer.add(20, "relabel", int(y[20] + 1) % 3)
    made = dr.apply_decisions(store, tmp_path / "c.zarr")
    assert made.carried == 2
    quality = dr.label_quality(made.store)
    assert quality.scores.result is not None
    assert quality.same_scores.result is not None
    scores = dr.sample_robustness(made.store)
    assert scores.result is not None
    report = dr.verify_store(made.store, sample=30)
    assert report is not None
    fresh = dr.sample_robustness(made.store.features[:], made.store.labels[:]).compute()
    assert (np.asarray(scores.robustness) == fresh.robustness).all()
    assert (np.asarray(scores.witness) == fresh.witness).all()


@pytest.mark.parametrize("case", ["many", "flat group", "own metric", "folds"])
def test_what_is_not_taken_over_is_computed(tmp_path, case):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(24, 3)), np.arange(24) % 2
    split = np.where(np.arange(24) < 3, "few", "rest")
    store = dr.create_store(str(tmp_path / "s.zarr"), X, y, split)
    metric = (lambda a, b: float(abs(a - b).sum())) if case == "own metric" else "euclidean"
    folds = {"x": np.arange(9)} if case == "folds" else None
    dr.sample_robustness(store, metric=metric, references=folds).write()
    writer = DecisionWriter(store)
    if case == "flat group":
        writer.add(1, "relabel", 0)
    for row in range(4, 24 if case == "many" else 5):
        writer.add(row, "relabel", int(1 - y[row]))
    made = dr.apply_decisions(store, tmp_path / "c.zarr")
    assert made.carried == 0
    if case != "flat group":
        done = dr.sample_robustness(made.store).write()
        fresh = dr.sample_robustness(X, made.store.labels[:], split, labels="categorical").compute()
        assert (np.asarray(done.robustness) == fresh.robustness).all()
