"""The benchmarks run: figures nobody can make again are worth nothing."""

import numpy as np
import pytest
from helpers import load_script
from sklearn.datasets import load_digits

pairs = load_script("benchmarks/pairs")


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """One pass, in a folder of the test's own."""
    monkeypatch.setattr(pairs, "PASSES", 1)
    monkeypatch.setattr(pairs, "FOLDER", tmp_path)


@pytest.mark.cluster
def test_ours_beside_its_peers(quick):
    pytest.importorskip("faiss", reason="the benchmarks need the extra bench")
    (row,) = pairs.digits()
    assert row["faiss: wrong neighbours"] == row["scikit-learn: wrong neighbours"] == 0
    assert set(row["seconds"]) == {"dskrobust", "faiss", "scikit-learn"}
    row |= {"repeats": 1, "machine": pairs.machine()}
    table = pairs.table({"works": {"digits": [row]}}).splitlines()
    assert len(table) == 3
    assert len({line.count("|") for line in table}) == 1
    assert "× (faiss)" in table[-1]


def test_the_kernels_alone():
    X, y = load_digits(return_X_y=True)
    columns = np.tile(X.astype(np.uint8), (3, 2))  # enough rows and columns for prefixes
    assert pairs.kernels_alone(columns, np.tile(y, 3)) > 0
