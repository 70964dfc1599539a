"""The paper's figures, from the official data files."""

import numpy as np
import pytest

import dskrobust as dr
from dskrobust.datasets import ingest, restore_features, restore_labels
from dskrobust.subsets import whole

# Table 10. The printed x_M48 is the training set without the ranks 3,000 to 15,000; M48000 is what
# exact integer arithmetic gives for the 48,000 most robust.
PRINTED_M48 = "L3000+M45000"
MNIST = {
    "x": "5923 6742 5958 6131 5842 5421 5918 6265 5851 5949",
    "x_L48": "2632 6739 2931 5040 5333 4567 4285 5862 4832 5779",
    "x_M48": "5853 2760 5813 5828 4310 5164 5504 4257 5577 2934",
    "M48000": "5889 959 5863 5972 4694 5275 5691 4639 5713 3305",
    "x_L30": "632 6702 815 2219 3819 1895 2004 4566 2185 5163",
    "x_M30": "5291 40 5143 3912 2023 3526 3914 1699 3666 786",
    "t": "980 1135 1032 1010 982 892 958 1028 974 1009",
    "t_L5": "94 1125 176 393 656 292 265 743 387 869",
    "t_M5": "886 10 856 617 326 600 693 285 587 140",
    "t_L2": "2 896 14 34 236 18 18 289 22 471",
    "t_M2": "562 1 471 161 91 150 331 47 155 31",
}
CIFAR10 = {  # Table 1
    "x": "5000 5000 5000 5000 5000 5000 5000 5000 5000 5000",
    "x_L40": "4332 3171 4540 3795 4704 3701 4544 3789 4323 3101",
    "x_M40": "3538 4898 3104 4358 2904 4403 3467 4517 3927 4884",
    "x_L25": "3109 982 3476 2153 3844 2029 3453 2048 2921 985",
    "x_M25": "1891 4018 1524 2847 1156 2971 1547 2952 2079 4015",
    "t": "1000 1000 1000 1000 1000 1000 1000 1000 1000 1000",
    "t_L5": "622 207 675 435 787 398 711 387 567 211",
    "t_M5": "378 793 325 565 213 602 289 613 433 789",
    "t_L2": "303 24 366 135 432 123 312 69 207 29",
    "t_M2": "136 358 116 224 54 281 94 245 136 356",
}


def counts(table):
    return {name: np.array(row.split(), int) for name, row in table.items()}


def chosen(scores, name):
    """Return the subset that the paper calls x_L48, t_M2, and so on (sizes in thousands)."""
    if name in ("x_M48", "M48000"):
        step = PRINTED_M48 if name == "x_M48" else name
        return dr.select_subset(scores, f"train:{step}")
    group = {"x": "train", "t": "test"}[name[0]]
    if len(name) == 1:
        return whole(scores, group)
    choose = {"L": dr.least_robust, "M": dr.most_robust}[name[2]]
    return choose(scores, 1000 * int(name[3:]), within=group)


@pytest.fixture(scope="session")
def scored(paper_data, tmp_path_factory):
    """Return a function: name → the ingested store and its computed scores."""
    done = {}

    def score(name):
        if name not in done:
            path = tmp_path_factory.mktemp(name) / "own.zarr"
            store = ingest(name, path, source=paper_data)
            done[name] = store, dr.sample_robustness(store).write().compute()
        return done[name]

    return score


@pytest.mark.timeout(600)
def test_table_10(scored):
    store, scores = scored("mnist")
    names = list(MNIST)
    table = dr.class_counts(store, [chosen(scores, name) for name in names])
    for k, name in enumerate(names):
        np.testing.assert_array_equal(table.values[:, k], counts(MNIST)[name], err_msg=name)
    sizes = [60_000, 48_000, 48_000, 48_000, 30_000, 30_000, 10_000, 5_000, 5_000, 2_000, 2_000]
    assert table.values.sum(axis=0).tolist() == sizes
    assert store.spec.scale == 1 / 255
    assert not len(scores.contradictions())


@pytest.mark.timeout(600)
def test_mnist_by_integers(scored):
    """Squared distances of images are integers: a sample of rows, exactly."""
    store, scores = scored("mnist")
    X, y, codes = store.features[:].astype(np.int32), store.labels[:], store.split_codes[:]
    squares = (X * X).sum(axis=1)
    for row in np.random.default_rng(0).choice(len(X), 25, replace=False):
        distance = squares + squares[row] - 2 * (X @ X[row])
        for code in range(2):
            others = np.flatnonzero((codes == code) & (y != y[row]))
            nearest = others[np.argmin(distance[others])]
            assert scores.nearest_by_group[row, code] == nearest
            reach = np.sqrt(float(distance[nearest])) * (1 / 255)
            assert scores.reach_by_group[row, code] == reach
    np.testing.assert_allclose(scores.robustness, scores.reach / (scores.reach + 1), rtol=1e-15)


@pytest.mark.timeout(600)
def test_table_1(scored):
    store, scores = scored("cifar10")
    names = list(CIFAR10)
    table = dr.class_counts(store, [chosen(scores, name) for name in names])
    for k, name in enumerate(names):  # 93 of our images come from a lossy copy
        apart = np.abs(table.values[:, k] - counts(CIFAR10)[name])
        assert apart.max() <= 2, (name, apart)
    assert table.labels[:3] == ("airplane", "automobile", "bird")


@pytest.mark.timeout(600)
def test_least_robust_online_news(scored):
    store, scores = scored("online-news")
    robustness = np.asarray(scores.robustness_within())
    assert round(float(robustness.min()), 4) == 0.2607
    assert float(np.asarray(scores.label_norm)) == pytest.approx(1, rel=1e-12)
    lipschitz = np.asarray(scores.lipschitz_within())
    pair = np.flatnonzero(lipschitz == lipschitz.max())
    # Numbered from 0 as in the published file; ours misses rows only behind these.
    assert pair.tolist() == [31_251, 34_917]
    group = int(np.argmax(scores.lipschitz_by_group[pair[0]]))
    assert scores.witness_by_group[pair[0], group] == pair[1]
    # The same pair in a store of one group, and by hand.
    X, y = store.features[:], store.labels[:]
    distance = np.sqrt(((X[pair[0]] - X[pair[1]]) ** 2).sum())
    assert lipschitz.max() == pytest.approx(abs(y[pair[0]] - y[pair[1]]) / distance, rel=1e-12)
    shares = restore_labels(store.spec, y[pair])
    assert np.allclose(shares, np.round(shares), atol=1e-6)
    assert restore_features(store.spec, X[pair]).shape == (2, 58)


@pytest.mark.timeout(600)
def test_a_split_has_the_papers_minimum_where_the_pair_is_in_training(scored):
    store, scores = scored("online-news")
    train, _ = (np.flatnonzero(store.split == name) for name in ("train", "test"))
    least = np.asarray(scores.robustness)[train].min()
    both = {31_251, 34_917} <= set(train.tolist())
    assert (round(float(least), 4) == 0.2607) == both
