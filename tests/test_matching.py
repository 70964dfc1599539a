"""Matching: what is planted is found, counts add up, and chunks or rounds change nothing."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.errors import InvalidOptionError
from dskrobust.staircase import count_strata, rows_taken, staircase, taken
from dskrobust.store import find_results
from dskrobust.weighting import _moved

values = st.lists(st.integers(-30, 30).map(lambda v: v / 10), min_size=2, max_size=60).map(np.array)


@settings(max_examples=100, deadline=None)
@given(draw=st.data(), x=values, t=values, steps=st.sampled_from((3, 16, 257)))
def test_a_choice_has_its_size_whatever_is_wished(draw, x, t, steps):
    size = draw.draw(st.integers(1, len(x)))
    cut = draw.draw(st.integers(0, len(x)))
    even = np.linspace(0, 1, steps)
    wished = staircase(np.quantile(t, even), np.quantile(x, even))
    every = np.ones(len(x), bool)
    available = count_strata(x, every, wished.edges)
    counts = taken(available, wished, size)
    assert counts.sum() == size
    assert ((counts >= 0) & (counts <= available)).all()
    whole = rows_taken(x, every, wished.edges, np.stack([0 * available, available, counts]))
    before, parts = 0 * available, []
    for lo, hi in ((0, cut), (cut, len(x))):
        part = rows_taken(
            x[lo:hi], every[lo:hi], wished.edges, np.stack([before, available, counts])
        )
        parts.append(lo + part)
        before = before + count_strata(x[lo:hi], every[lo:hi], wished.edges)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(count_strata(x[whole], every[:size], wished.edges), counts)


def test_a_planted_distribution_is_recovered():
    """Train is a copy of test, far away, and others that lie apart, so that all have a large R."""
    rng, far = np.random.default_rng(1), np.array([4e3, 0, 0])
    y, like = rng.integers(0, 2, 600), rng.standard_normal((600, 3))
    further, others = rng.integers(0, 2, 900), 20 * rng.standard_normal((900, 3))
    X = np.concatenate([like, like - far, others + far])
    labels = np.concatenate([y, y, further])
    split = np.repeat(["test", "train"], [600, 1500])
    scores = dr.sample_robustness(X, labels, split).compute()
    made = dr.match(scores, "train", "test", 600)
    assert made.stable
    assert made.rounds[0].kolmogorov > 0.5
    assert made.distances.kolmogorov <= 0.01
    assert (made.indices < 1200).mean() > 0.98
    assert len(np.unique(made.indices)) == made.size == 600


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Train is four times as large as test, and spread over more of the spectrum."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 2000)
    spread = np.where(np.arange(2000) % 5, rng.choice([0.5, 1.0, 3.0], 2000), 1.0)
    X = rng.standard_normal((2000, 6)) * spread[:, None] + y[:, None]
    split = np.where(np.arange(2000) % 5, "train", "test")
    folder = tmp_path_factory.mktemp("matched")
    made = dr.create_store(str(folder / "a.zarr"), X, y, split)
    dr.sample_robustness(made).write()
    return made


def test_a_match_is_closer_than_an_even_sample_and_scored_as_alone(store):
    scores = dr.sample_robustness(store)
    made = dr.match(scores, "train", "test", 400, rounds=5)
    assert made.stable
    assert made.distances.kolmogorov < max(0.01, made.chance)
    assert made.distances.wasserstein <= made.rounds[0].wasserstein
    assert (np.asarray(scores.split)[made.indices] == scores.groups.index("train")).all()
    alone = dr.sample_robustness(store.features[:][made.indices], store.labels[:][made.indices])
    np.testing.assert_array_equal(alone.robustness.compute(), made.robustness)
    assert (np.diff(made.robustness) >= 0).all()
    options = dr.RunOptions(block_rows=250)
    blocks = dr.match(scores.compute(), "train", "test", 400, rounds=5, options=options)
    np.testing.assert_array_equal(blocks.indices, made.indices)
    assert blocks.rounds == made.rounds
    assert "choice" in made._repr_html_()
    assert dr.least_robust(scores, 10, made).size == 10  # a subset
    curve = dr.match_curve(scores, "train", "test", [1600])
    assert curve["share"].tolist() == [1.0]
    assert curve["kolmogorov"].tolist() == curve["even"].tolist()  # there is no other choice


def test_weights_give_the_wished_distribution(store):
    scores = dr.sample_robustness(store).compute()
    made = dr.match_weights(scores, "train", "test")
    weights, train = (
        made.weights.compute(),
        np.asarray(scores.split) == scores.groups.index("train"),
    )
    assert weights[~train].sum() == 0
    assert weights[train].mean() == pytest.approx(1)
    wished = np.sort(scores.robustness[~train])
    order = np.argsort(scores.robustness[train])
    r, share = scores.robustness[train][order], np.cumsum(weights[train][order]) / train.sum()
    at = np.searchsorted(wished, r, "right") / len(wished)
    assert np.abs(share - at).max() < 0.07  # a part of a stratum of 50, and what is missing
    assert made.effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_shares_move_to_strata_that_have_samples_of_the_wished_set():
    moved, missing = _moved(np.array([0, 0.01, 0.99, 0]), np.array([5, 0, 95, 3]))
    assert moved.tolist() == [0, 0, 1, 0]
    assert missing == 0.01
    moved, missing = _moved(np.array([0, 0.5, 0.5, 0]), np.array([5, 0, 0, 0]))
    assert (moved.tolist(), missing) == ([1, 0, 0, 0], 1.0)


def test_what_cannot_be_matched_is_refused(store):
    scores = dr.sample_robustness(store)
    for size in (1, 1601, 2.5, True):
        with pytest.raises(InvalidOptionError, match="cannot choose"):
            dr.match(scores, "train", "test", size)
    with pytest.raises(InvalidOptionError, match="no group 'validation'"):
        dr.match(scores, "train", "validation", 10)
    lazy = dr.sample_robustness(store, metric="cityblock")
    with pytest.raises(InvalidOptionError, match="computed"):
        dr.match(lazy, "train", "test", 10)


def test_commands_say_it(store, tmp_path, local_cluster):
    call = CliRunner().invoke
    there = ["--scheduler", local_cluster.scheduler_address]
    found = call(main, ["align", store.url, "train:M600", "test", *there])
    assert found.exit_code == 0, found.output
    assert "far apart" in found.output
    assert "dskrobust match" in found.output
    figure = tmp_path / "a.svg"
    said = call(main, ["align", store.url, "train", "test", "--json", "--plot", str(figure)])
    assert json.loads(said.output)["size_x"] == 1600
    assert figure.read_text().startswith("<?xml")
    out = tmp_path / "rows.csv"
    asked = ["match", store.url, "-w", "train", "--to", "test", *there]
    found = call(main, [*asked, "--size", "1600", "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert "stable" in found.output
    table = pd.read_csv(out)
    assert list(table) == ["row", "robustness", "robustness_within"]
    assert len(table) == 1600
    wrong = call(main, [*asked, "--size", "200", "--size", "300", "--out", str(out)])
    assert wrong.exit_code == 2


@pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
def test_the_command_takes_the_stored_metric_and_writes_strict_json(tmp_path):
    X = np.repeat(np.arange(6.0), 2)[:, None]  # of every pair of equal rows labels differ
    y, split = np.tile([0, 1], 6), np.repeat(["train", "test"], 6)
    store = dr.create_store(str(tmp_path / "c.zarr"), X, y, split)
    dr.sample_robustness(store, metric="cityblock").write()
    said = CliRunner().invoke(main, ["align", store.url, "train", "test", "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout, parse_constant=pytest.fail)["gamma"]["1.0"] is None
    assert [r.parameters["metric"] for r in find_results(store)] == ["cityblock"]
