"""Instance hardness: the definitions of the literature by brute force, stores, tables."""

import brute
import dask
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import metric_argument
from strategies import METRICS, data_sets, options

import dskrobust as dr
from dskrobust.errors import InvalidOptionError
from dskrobust.hardness import MEASURES
from dskrobust.store import find_results

THREADS = {"scheduler": "threads", "num_workers": 2}
pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")


def by_definition(distance, y, k):
    """All measures of one group, from its distances in float64: loops over what papers define."""
    n = len(y)
    found = {name: np.zeros(n) for name in ("ratio", "n2", "kdn", "local_set", "usefulness",
                                            "harmfulness", "tomek_link")}  # fmt: skip
    others = [np.delete(np.arange(n), i) for i in range(n)]
    order = [o[np.lexsort((o, distance[i, o]))] for i, o in enumerate(others)]
    enemy = [next(j for j in order[i] if y[j] != y[i]) for i in range(n)]
    for i in range(n):
        near = order[i][:k]
        found["kdn"][i] = np.mean(y[near] != y[i])
        reach = distance[i, enemy[i]]
        inside = [j for j in others[i] if distance[i, j] < reach]
        found["local_set"][i] = len(inside)
        found["usefulness"][inside] += 1
        found["harmfulness"][enemy[i]] += 1
        same = [distance[i, j] for j in others[i] if y[j] == y[i]]
        zero = bool(same) and min(same) == reach == 0
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = 1.0 if zero else min(same) / reach if same else np.nan
        found["ratio"][i] = ratio
        found["n2"][i] = 1.0 if np.isinf(ratio) else ratio / (1 + ratio)
        other = order[i][0]
        linked = y[other] != y[i] and order[other][0] == i
        found["tomek_link"][i] = other if linked else -1
    return found


@settings(max_examples=25)
@given(
    draw=st.data(),
    data=data_sets(labels=("categorical",), rows=(4, 40), groups=(1, 2)),
    metric=st.sampled_from(METRICS),
    k=st.integers(1, 12),
)
def test_measures_equal_a_brute_force(draw, data, metric, k):
    if metric == "angular":
        data.X[~data.X.any(axis=1)] = 1
    made = dr.instance_hardness(
        data.X, data.y, data.split, k=k, metric=metric, scale=data.scale,
        options=draw.draw(options()),
    )  # fmt: skip
    found = made.compute(**THREADS)
    distance = brute.distances(data.X, metric_argument(metric), data.scale)
    split = np.zeros(len(data.y), int) if data.split is None else data.split
    for group in np.unique(split):
        rows = np.flatnonzero(split == group)
        expected = by_definition(distance[np.ix_(rows, rows)], data.y[rows], k)
        links = expected["tomek_link"].astype(int)
        expected["tomek_link"] = np.where(links < 0, -1, rows[links])
        for name, values in expected.items():
            np.testing.assert_array_equal(getattr(found, name)[rows], values, err_msg=name)
    wanted = dr.sample_robustness(
        data.X, data.y, data.split, metric=metric, scale=data.scale
    ).compute(**THREADS)
    for name in ("reach", "lipschitz", "robustness"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300)
    X = rng.standard_normal((300, 6)) + 1.5 * np.eye(6)[y]
    return X, y, np.where(np.arange(300) % 4 == 0, "test", "train")


def test_a_store_keeps_them_and_workers_find_the_same(blobs, tmp_path, client):
    X, y, split = blobs
    expected = dr.instance_hardness(X, y, split).compute(**THREADS)
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y, split)
    made = dr.instance_hardness(store, options=dr.RunOptions(block_rows=90))
    written, count = made.write(), len(find_results(store, everything=True))
    again = dr.instance_hardness(store)
    assert repr(again) == "<Instance hardness of 300 samples, k = 10, stored>"
    assert again.write() is again
    assert len(find_results(store, everything=True)) == count
    assert len(find_results(store)) == 1  # the scores; nobody takes the measures for some
    for name in MEASURES:
        wanted = getattr(expected, name)
        for found in (written, again):
            np.testing.assert_array_equal(getattr(found, name).compute(), wanted, err_msg=name)
    dr.verify_store(store)


def test_nothing_is_computed_while_building(blobs, raise_if_dask_computes):
    with raise_if_dask_computes():
        made = dr.instance_hardness(*blobs, options=dr.RunOptions(block_rows=80))
    assert dask.is_dask_collection(made)
    kept = dask.persist(made, **THREADS)[0]
    done = dask.compute(kept, **THREADS)[0]
    assert not dask.is_dask_collection(done)
    np.testing.assert_array_equal(done.usefulness, made.compute(**THREADS).usefulness)


def test_tables_are_of_all_samples_and_of_the_hardest(blobs, tmp_path):
    X, y, split = blobs
    frame = pd.DataFrame(X, index=pd.Index([f"s{i}" for i in range(300)], name="id"))
    found = dr.instance_hardness(frame, y, split).compute(**THREADS)
    table = found.to_frame()
    assert list(table.columns) == ["row", "split", "label", *MEASURES, "tomek_link_id"]
    order = np.lexsort((np.arange(300), -found.n2, -found.kdn))
    assert found.hardest(7)["row"].tolist() == order[:7].tolist()
    linked = table[table["tomek_link"].notna()]
    back = table.loc[linked["tomek_link_id"], "tomek_link_id"]
    assert back.tolist() == linked.index.tolist()
    found.export(tmp_path / "hard.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "hard.parquet").set_index("id")[["kdn"]], table[["kdn"]],
        check_index_type=False,
    )  # fmt: skip
    page = found._repr_html_()
    assert "Hardest samples" in page
    assert f"s{order[0]}" in page


@pytest.mark.parametrize("k", [0, 1.5, True, "ten"])
def test_a_k_that_is_no_number_is_refused(blobs, k):
    with pytest.raises(InvalidOptionError, match="k must be a number of neighbours"):
        dr.instance_hardness(*blobs, k=k)


@pytest.mark.parametrize("count", [0, -5, 2.0])
def test_a_number_of_hardest_samples_is_one(blobs, count):
    with pytest.raises(InvalidOptionError, match="count must be a number of samples from 1 on"):
        dr.instance_hardness(*blobs).hardest(count)


def test_labels_that_are_no_classes_are_refused(blobs, tmp_path):
    store = dr.create_store(str(tmp_path / "a.zarr"), blobs[0], blobs[0][:, 0])
    with pytest.raises(InvalidOptionError, match="has real labels"):
        dr.instance_hardness(store)


def test_tables_that_do_not_fit_are_refused(blobs, monkeypatch):
    found = dr.instance_hardness(*blobs).compute(**THREADS)
    monkeypatch.setattr("dskrobust.hardness.ROW_BYTES", 10**15)
    with pytest.raises(dr.errors.MemoryPlanError, match=r"hardest\(1_000\)"):
        found.to_frame()
