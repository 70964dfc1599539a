"""Few of a rare class may be called wrong, whatever its samples are like; wrong ones are found."""

import dask
import numpy as np
import pytest
from click.testing import CliRunner

import dskrobust as dr
from dskrobust import cli
from dskrobust.rarity import Fits, _joined, _quantiles, expected_misfit

ROWS, COLUMNS = 20_000, 30
FEW = 0.02  # of a rare class that may be called wrong


def imbalanced(shift=0.0, columns=COLUMNS, share=0.002, seed=0):
    """Rows of one cloud, and a rare class that lies a little beside it."""
    rng = np.random.default_rng(seed)
    y = np.zeros(ROWS, np.int64)
    y[rng.choice(ROWS, int(share * ROWS), replace=False)] = 1
    X = rng.standard_normal((ROWS, columns)).astype(np.float32)
    X[y == 1, :5] += shift
    return X, y


@pytest.mark.parametrize(
    ("shift", "columns"), [(0.0, COLUMNS), (1.0, COLUMNS), (3.0, COLUMNS), (0.0, 3)]
)
def test_a_rare_class_is_not_wrong_because_it_is_rare(shift, columns):
    X, y = imbalanced(shift, columns)
    table = dr.find_label_issues(X, y)
    rare = table["given_label"] == "1"
    assert table.loc[rare, "is_issue"].mean() <= FEW
    assert table.loc[~rare, "is_issue"].mean() <= FEW


def test_wrong_labels_of_a_rare_class_are_found():
    X, y = imbalanced(share=0.01, columns=10)
    X[y == 1] = X[y == 1] / 2 + 6
    wrong = np.flatnonzero(y == 0)[:10]
    y[wrong] = 1
    table = dr.find_label_issues(X, y)
    found = table[table["is_issue"] & (table["given_label"] == "1")]
    assert set(found["row"]) == set(wrong)


def spread(middle, scale, rows, rng):
    return np.exp(middle + scale * rng.logistic(size=rows))


@pytest.mark.parametrize("chunks", [1_000, 10_400])
def test_what_is_expected_is_what_few_exceed(chunks):
    rng = np.random.default_rng(0)
    misfit = np.concatenate([spread(-0.3, 0.1, 10_000, rng), spread(0.9, 0.2, 400, rng)])
    misfit[:3] = np.inf, 0, np.nan
    labels, split = np.repeat([0, 1], [10_000, 400]), np.zeros(10_400, np.int16)
    arrays = [dask.array.from_array(values, chunks) for values in (misfit, labels, split)]
    expected = expected_misfit(*arrays, 0.2).compute()
    assert expected.shape == (10_400,)
    assert (expected[labels == 0] == 1).all()
    assert len(set(expected[labels == 1])) == 1
    assert expected[-1] == pytest.approx(np.exp(0.9 + 0.2 * np.log(49)), rel=0.05)
    assert 0.005 < (misfit[labels == 1] > expected[-1]).mean() < 0.04


def test_classes_of_like_sizes_are_left_alone():
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 3_000, p=[0.25, 0.35, 0.4])
    split = rng.integers(0, 2, 3_000).astype(np.int16)
    misfit = spread(1.0, 0.3, 3_000, rng)
    arrays = [dask.array.from_array(values, 700) for values in (misfit, labels, split)]
    assert (expected_misfit(*arrays, 0.2).compute() == 1).all()


def test_quantiles_of_classes():
    place = np.repeat([0, 100, 7], [50, 50, 30])
    label, group = np.repeat([3, 5], [100, 30]), np.zeros(130, np.int16)
    fits = _joined(Fits(group, label, place, np.ones(130, np.int64)))
    first, rows = fits.classes(), np.array([100, 30])
    assert fits.rows.tolist() == [50, 50, 30]
    for share, logarithms in ((0.5, (-6, -5.93)), (0.51, (-5, -5.93))):
        found = _quantiles(fits, first, rows, share)
        assert found == pytest.approx(np.array(logarithms), abs=0.01)


@pytest.mark.parametrize("chunks", [700, 4_000])
def test_as_many_classes_as_rows_cost_no_more_than_few(chunks):
    """Every class against all others, one after another, as the definition has it."""
    rng = np.random.default_rng(0)
    rows = 4_000
    labels = np.where(rng.random(rows) < 0.5, 0, rng.integers(0, 300, rows))
    split, misfit = rng.integers(0, 2, rows).astype(np.int16), spread(0.3, 0.4, rows, rng)
    misfit[::50] = np.nan
    arrays = [dask.array.from_array(values, chunks) for values in (misfit, labels, split)]
    found = expected_misfit(*arrays, 0.2).compute(scheduler="sync")
    for group in (0, 1):
        known = (split == group) & ~np.isnan(misfit)
        classes, counts = np.unique(labels[known], return_counts=True)
        for label, count in zip(classes, counts, strict=True):
            here = (split == group) & (labels == label)
            others = (counts.sum() - count) / (len(classes) - 1)
            assert len(set(found[here])) == 1
            assert others > 2 * count or (found[here] == 1).all()
    assert (found > 1).any()


def test_the_command_says_why_suspicion_is_weak(tmp_path):
    X, y = (values[:3_000] for values in imbalanced())
    X[:, :2] *= 1e4
    url = dr.create_store(str(tmp_path / "s.zarr"), X, y).url
    dr.label_quality(url).write()
    result = CliRunner().invoke(cli.main, ["issues", url])
    assert result.exit_code == 0, result.output
    weak = [line for line in result.stdout.splitlines() if line.startswith("Weak suspicion")]
    assert len(weak) == 2
    assert "columns: column 0, column 1" in weak[0] or "columns: column 1, column 0" in weak[0]
    assert "--scale standard" in weak[0]
    assert "1 class is rare" in weak[1]
