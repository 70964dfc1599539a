"""New samples scored in a store: what they would have in it, to the last bit."""

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import strategies as own
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.errors import InvalidDataError, InvalidOptionError

pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
FITTED = 40


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A store, 20 new samples, and a store that holds both, scored."""
    folder, rng = tmp_path_factory.mktemp("new"), np.random.default_rng(0)
    X, y = rng.integers(0, 9, (60, 6)).astype(np.float32), rng.integers(0, 3, 60)
    split = np.repeat(["train", "test", "new"], (30, 10, 20))
    both = dr.create_store(str(folder / "both.zarr"), X, y, split)
    store = dr.create_store(str(folder / "s.zarr"), X[:FITTED], y[:FITTED], split[:FITTED])
    return store, X[FITTED:], y[FITTED:], dr.sample_robustness(both).write()


def assert_same(scores, held, group="train"):
    """Compare with what a store that holds the samples says of them."""
    at = held.groups.index(group)
    for name in ("lipschitz", "reach", "witness"):
        wanted = np.asarray(getattr(held, f"{name}_by_group"))[FITTED:, at]
        np.testing.assert_array_equal(np.asarray(getattr(scores, name)), wanted, err_msg=name)


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr", "frame"])
def test_any_array_is_scored_as_if_the_store_held_it(case, kind, tmp_path):
    store, X, y, held = case
    if kind == "dask":
        X, y = da.from_array(X, chunks=(7, 6)), da.from_array(y, chunks=9)
    if kind == "zarr":
        X = zarr.array(X, chunks=(8, 6), store=str(tmp_path / "x.zarr"))
    if kind == "frame":
        table = pd.DataFrame(X, columns=list("abcdef")).assign(label=y)
        store = dr.create_store(
            str(tmp_path / "named.zarr"),
            pd.DataFrame(store.features[:], columns=list("abcdef")),
            store.labels[:],
            np.repeat(["train", "test"], (30, 10)),
        )
        X, y = table[list("fedcba")].assign(label=y), "label"
    scores = dr.score_samples(store, X, y, options=dr.RunOptions(block_rows=8))
    assert isinstance(scores.robustness, da.Array)
    done = scores.compute(scheduler="sync")
    assert_same(done, held)
    assert_same(dr.score_samples(store, X, y, reference="test").compute(), held, "test")
    assert (done.robustness == 1 / (done.lipschitz + 1)).all()


@settings(max_examples=10, deadline=None)
@given(st.data(), own.data_sets(rows=(12, 40), groups=(1, 1), kinds=("ties", "gaussian")))
def test_the_estimator_agrees_with_a_group_of_its_own(draw, data):
    cut = len(data.X) - draw.draw(st.integers(1, 5))
    y = data.y.copy()
    y[0], y[1] = 0, max(1.0, float(np.abs(y).max()))  # two labels, and ‖y‖∞ among the fitted
    with dask.config.set(scheduler="sync"):
        old = {"old": np.arange(cut)}
        held = dr.sample_robustness(data.X, y, labels=data.labels, scale=data.scale, references=old)
        held = held.lipschitz_against("old")[cut:].compute()
        model = dr.SampleRobustness(labels=data.labels, scale=data.scale)
        found = model.fit(data.X[:cut], y[:cut]).score_samples(data.X[cut:], y[cut:])
    np.testing.assert_array_equal(found, model.label_norm_ / (held + model.label_norm_))


def test_a_store_is_fitted_once_and_scores_lazily(case):
    store, X, y, held = case
    model = dr.SampleRobustness().fit(store.url)
    again = dr.SampleRobustness().fit(store)
    assert again.robustness_.name == model.robustness_.name  # read, not computed
    assert isinstance(model.robustness_, da.Array)
    found = model.score_samples(X, y)
    wanted = np.asarray(held.lipschitz_by_group)[FITTED:, held.groups.index("train")]
    np.testing.assert_array_equal(found, 1 / (wanted + 1))
    lazy = model.score_samples(da.from_array(X, chunks=(5, 6)), y)
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(), found)
    with pytest.raises(InvalidOptionError, match="its own"):
        model.fit(store, y)


def test_what_does_not_fit_is_refused_by_name(case, tmp_path):
    store, X, y, _ = case
    with pytest.raises(InvalidDataError, match=r"y is a single value; .*\[y\] for one row"):
        dr.score_samples(store, X[0], 1)
    with pytest.raises(InvalidDataError, match="5 columns, those of"):
        dr.score_samples(store, X[:, :5], y)
    with pytest.raises(InvalidDataError, match="row 3, column 2 is nan"):
        X = X.copy()
        X[3, 2] = np.nan
        dr.score_samples(store, X, y).compute()
    with pytest.raises(InvalidOptionError, match="no group 'x'"):
        dr.score_samples(store, X, y, reference="x")
    named = dr.create_store(
        str(tmp_path / "n.zarr"), np.eye(6), np.array(list("abcabc")), np.array(["g", "h"] * 3)
    )
    with pytest.raises(InvalidOptionError, match="say in which"):
        dr.score_samples(named, X, y)
    with pytest.raises(InvalidDataError, match="label 'z' of row 1 is none of the 3 classes"):
        dr.score_samples(named, np.eye(6)[:2], np.array(["a", "z"]), reference="g")
    real = dr.create_store(str(tmp_path / "r.zarr"), np.eye(6), np.arange(6) / 7)
    with pytest.raises(InvalidDataError, match="label row 1 has the norm 9, beyond"):
        dr.score_samples(real, np.eye(6)[:2], np.array([0.5, 9.0])).compute()


def test_the_command_prepares_scores_and_says_what_it_found(tmp_path):
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"size": rng.normal(50, 9, 40), "kind": ["a", "b"] * 20})
    table["target"] = np.where(rng.random(40) < 0.5, "yes", "no")
    table[:30].to_csv(tmp_path / "old.csv", index=False)
    table[30:].to_csv(tmp_path / "new.csv", index=False)
    store = dr.ingest(str(tmp_path / "old.csv"), str(tmp_path / "s.zarr"))
    out = tmp_path / "new.parquet"
    arguments = ["score", store.url, str(tmp_path / "new.csv"), "--out", str(out)]
    said = CliRunner().invoke(main, arguments, catch_exceptions=False).output
    assert "10 new samples scored in all" in said
    assert "Least robust are the rows" in said
    found = pd.read_parquet(out)
    wanted = dr.score_samples(store, table[30:].reset_index(drop=True), "target").compute()
    np.testing.assert_array_equal(found["robustness"], wanted.robustness)
    assert found["label"].tolist() == table["target"][30:].tolist()
    table[30:].assign(target="perhaps").to_csv(tmp_path / "new.csv", index=False)
    refused = CliRunner().invoke(main, [*arguments[:-1], str(tmp_path / "b.csv")])
    assert refused.exit_code == 1
    assert "perhaps" in refused.output
    assert not (tmp_path / "b.csv").exists()
