"""Reference sets: scores against overlapping sets of rows, in one pass and to the last bit."""

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import metric_argument

import dskrobust as dr
from dskrobust.engine.events import listening
from dskrobust.errors import DskrobustError, InvalidOptionError
from dskrobust.row_sets import ListedRows, cut_sets
from dskrobust.store import Block, find_results
from dskrobust.subsets import select_subset

THREADS = {"scheduler": "threads", "num_workers": 2}
pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")


@st.composite
def row_sets(draw, n):
    """Some row numbers, in any order."""
    rows = draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    return np.array(draw(st.permutations(rows)))


def against(data, metric, sets):
    """Brute force of every row against every set: reach, nearest, Q and witness (n, sets)."""
    every = np.arange(len(data.X))
    d = brute.distances(data.X, metric_argument(metric), data.scale)
    allowed, dy = brute.counting_pairs(data.y, data.labels, "different", every, every)
    inside = [np.isin(every, rows) for rows in sets]
    categorical = data.labels == "categorical"
    reach, nearest, q, witness = brute.largest_quotients(
        d, dy, allowed, inside, every, quotients=not categorical
    )
    if categorical:
        with np.errstate(divide="ignore"):
            q, witness = 1 / reach, nearest
    return (
        reach,
        np.where(nearest == brute.NOBODY, -1, nearest),
        q,
        np.where(witness == brute.NOBODY, -1, witness),
    )


def assert_against(scores, wanted, names):
    for k, name in enumerate(names):
        reach, nearest, q, witness = (values[:, k] for values in wanted)
        code = scores.group_code(name)
        np.testing.assert_array_equal(scores.reach_against(name), reach)
        np.testing.assert_array_equal(np.asarray(scores.nearest_by_group)[:, code], nearest)
        np.testing.assert_array_equal(scores.lipschitz_against(name), q)
        np.testing.assert_array_equal(scores.witness_against(name), witness)
        bound = float(scores.label_norm)
        np.testing.assert_array_equal(scores.robustness_against(name), bound / (q + bound))


@settings(max_examples=60)
@given(draw=st.data(), data=own.data_sets(), metric=st.sampled_from(own.METRICS))
def test_every_set_equals_a_brute_force(draw, data, metric):
    if metric == "angular":
        data.X[~data.X.any(axis=1)] = 1
    names = ("few", "more", "others")[: draw.draw(st.integers(1, 3))]
    sets = {name: draw.draw(row_sets(len(data.X))) for name in names}
    asked = {"metric": metric, "labels": data.labels, "scale": data.scale}
    scores = dr.sample_robustness(
        data.X, data.y, data.split, **asked, references=sets, options=draw.draw(own.options())
    ).compute(**THREADS)
    assert scores.references == names
    assert_against(scores, against(data, metric, sets.values()), names)
    plain = dr.sample_robustness(data.X, data.y, data.split, **asked).compute(**THREADS)
    assert scores.groups == plain.groups
    for name in brute.TABLES:  # what there was is as it was
        got = np.asarray(getattr(scores, name))
        got = got[:, : len(plain.groups)] if got.ndim == 2 else got
        np.testing.assert_array_equal(got, getattr(plain, name), err_msg=name)


def arrays(n=240, d=9, labels="categorical", seed=0):
    rng = np.random.default_rng(seed)
    X = own.features(rng, n, d, "float32", "clusters", 0)
    y = own.label_values(rng, n, labels, False)
    return X, y, np.array(["train", "test"])[(np.arange(n) % 3 == 0).astype(int)]


@pytest.mark.parametrize("labels", ["categorical", "real", "vector-l2"])
@pytest.mark.parametrize("stored", [False, True])
def test_rows_of_a_set_are_scored_as_the_set_alone(tmp_path, labels, stored):
    X, y, split = arrays(labels=labels)
    rng = np.random.default_rng(1)
    sets = {name: np.sort(rng.choice(240, size, replace=False)) for name, size in
            (("half", 120), ("third", 80), ("most", 230))}  # fmt: skip
    given_data = {"X": X, "y": y, "split": split}
    if stored:
        kind, _, norm = labels.partition("-")
        spec = dr.StoreSpec("own", kind, label_norm=norm or "l2")
        given_data = {"X": dr.create_store(str(tmp_path / "a.zarr"), X, y, split, spec=spec)}
    scores = dr.sample_robustness(
        **given_data, labels=labels, references=sets, options=dr.RunOptions(block_rows=70)
    ).compute(**THREADS)
    for name, rows in sets.items():
        alone = dr.sample_robustness(X[rows], y[rows], labels=labels).compute(**THREADS)
        np.testing.assert_array_equal(scores.lipschitz_against(name)[rows], alone.lipschitz)
        np.testing.assert_array_equal(scores.reach_against(name)[rows], alone.reach)
        np.testing.assert_array_equal(scores.witness_against(name)[rows], rows[alone.witness])
        column = scores.nearest_by_group[rows, scores.group_code(name)]
        np.testing.assert_array_equal(column, rows[alone.nearest])


def test_groups_and_subsets_are_sets(tmp_path):
    X, y, split = arrays()
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y, split)
    plain = dr.sample_robustness(store).write()
    low = select_subset(plain, "train:L50")
    scores = dr.sample_robustness(store, references={"again": "train", "low": low})
    scores = scores.compute(**THREADS)
    for kind in ("lipschitz", "reach", "witness", "robustness"):
        one, other = (getattr(scores, f"{kind}_against")(name) for name in ("again", "train"))
        np.testing.assert_array_equal(one, other)
    data = own.Data(X, y, split, "categorical")
    assert_against(scores, against(data, "euclidean", [np.asarray(low)]), ["low"])
    np.testing.assert_array_equal(scores.lipschitz, plain.lipschitz)


def test_they_are_written_and_read(tmp_path):
    X, y, split = arrays(labels="real")
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y, split, spec=dr.StoreSpec("own", "real"))
    sets = {"low": np.arange(0, 100), "odd": np.arange(1, 240, 2)}
    kept = dr.sample_robustness(store, references=sets).write()
    events = []
    with listening(events.append):
        again = dr.sample_robustness(store.url, references=sets)
        assert again.result is not None
        assert again.references == ("low", "odd")
        data = own.Data(X, y, split, "real")
        assert_against(again.compute(), against(data, "euclidean", sets.values()), sets)
    assert events == []
    assert kept.references == again.references
    for other in (
        None,
        {"low": np.arange(0, 99), "odd": sets["odd"]},
        {"least": sets["low"], "odd": sets["odd"]},
        {"odd": sets["odd"], "low": sets["low"]},
    ):
        scores = dr.sample_robustness(store, references=other)
        assert scores.result is None
        assert scores.references == tuple(other or ())
    plain = dr.sample_robustness(store).write()
    assert plain.references == ()
    assert plain.lipschitz_by_group.shape == (240, 2)
    assert [result.name for result in find_results(store)] == [plain.result.name]
    report = dr.verify_store(store, sample=60)  # groups are proven again, beside further sets
    assert len(report.results) == 2
    assert report.unproven == ()


def test_finished_tiles_and_appended_rows(tmp_path):
    X, y, split = arrays(300)
    made, sets = dr.RunOptions(block_rows=60), {"low": np.arange(50, 150)}
    store = dr.create_store(str(tmp_path / "a.zarr"), X[:240], y[:240], split[:240])
    dr.sample_robustness(store, references=sets, options=made).compute(**THREADS)
    events = []
    with listening(events.append):
        dr.sample_robustness(store, references=sets, options=made).write()
        assert all(event["resumed"] for event in events)
        dr.sample_robustness(store, references={"low": [1, 2]}, options=made).compute(**THREADS)
        assert sum(not event["resumed"] for event in events) == 10
    codes = np.searchsorted(["test", "train"], split[240:])
    codes = np.array([store.groups.index(name) for name in split[240:]], np.int16)
    store = dr.append_rows(store, [Block(X[240:], y[240:], codes)])
    sets = {**sets, "new": np.arange(230, 300)}
    scores = dr.sample_robustness(store, references=sets, options=made).compute(**THREADS)
    data = own.Data(X, y, split, "categorical")
    assert_against(scores, against(data, "euclidean", sets.values()), sets)
    wanted = brute.score(X, y, split)
    np.testing.assert_array_equal(scores.lipschitz, wanted.lipschitz)


def test_two_workers_find_the_same(tmp_path, client):
    X, y, split = arrays()
    store = dr.create_store(str(tmp_path / "a.zarr"), X, y, split)
    sets = {"low": np.arange(100), "odd": np.arange(1, 240, 2)}
    found = dr.sample_robustness(store, references=sets, options=dr.RunOptions(block_rows=50))
    data = own.Data(X, y, split, "categorical")
    assert_against(found.compute(), against(data, "euclidean", sets.values()), sets)


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ({"train": [1, 2]}, "'train' has the name of a group"),
        ({"low": "valid"}, "no group 'valid'"),
        ({"low": [0, 240]}, "low has row 240, but there are the rows 0 to 239"),
        ({"low": [-1]}, "low has row -1"),
        ({"low": []}, "low must be row numbers"),
        ({"low": [0.5]}, "low must be row numbers"),
        ({"low": [[1]]}, "low must be row numbers"),
    ],
)
def test_bad_sets_are_named(references, message):
    with pytest.raises(InvalidOptionError, match=message):
        dr.sample_robustness(*arrays(), references=references)


def test_unknown_names_are_named():
    scores = dr.sample_robustness(*arrays(), references={"low": [1, 2, 3]})
    with pytest.raises(InvalidOptionError, match=r"groups and reference sets are .*, low"):
        scores.lipschitz_against("high")


# -- parts -------------------------------------------------------------------------------------


@given(
    subsets=st.dictionaries(
        st.sampled_from("abcdef"), st.sets(st.integers(0, 29), min_size=1), min_size=1
    )
)
def test_subsets_are_unions_of_their_parts(subsets):
    rows = {name: np.array(sorted(found)) for name, found in subsets.items()}
    found = cut_sets(30, [ListedRows(numbers) for numbers in rows.values()]).references
    parts, (function, *given_to_it) = dict(zip(rows, found.members, strict=True)), found.task(0, 30)
    codes = function(*given_to_it)
    for name, numbers in rows.items():
        np.testing.assert_array_equal(np.flatnonzero(np.isin(codes, parts[name])), numbers)
    assert len(np.unique(codes[codes >= 0])) <= min(30, 2 ** len(rows) - 1)
    np.testing.assert_array_equal(
        codes >= 0, np.isin(np.arange(30), list(set().union(*subsets.values())))
    )


def test_too_many_overlaps_are_refused():
    rng = np.random.default_rng(0)
    subsets = [ListedRows(np.flatnonzero(rng.random(40_000) < 0.5)) for _ in range(40)]
    with pytest.raises(InvalidOptionError, match="40 subsets overlap in"):
        cut_sets(40_000, subsets)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.ma.array(np.arange(4), mask=[0, 0, 1, 0]), "few row 2 is masked"),
        (np.arange(8) < 4, "of a mask give np.flatnonzero"),
    ],
)
def test_rows_under_a_mask_are_none(rows, said):
    with pytest.raises(DskrobustError, match=said):
        dr.sample_robustness(np.arange(8.0)[:, None], np.arange(8) % 2, references={"few": rows})
