"""Appending the rows of a file to a store: columns, classes and groups matched by names."""

import csv

import numpy as np
import pytest
from helpers import array_folder

from dskrobust import create_store, link_store, sample_robustness
from dskrobust.datasets import append, ingest, online_news, restore_features
from dskrobust.errors import InvalidDataError, InvalidOptionError, SourceFileError, StoreError
from dskrobust.store import Block, StoreSpec, append_rows, open_array, open_store

rng = np.random.default_rng(3)


def table(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


@pytest.fixture
def pets(tmp_path):
    """A store of a CSV file: columns a and b, classes cat and dog, groups train and test."""
    rows = [(k, 10 * k, "cat" if k % 2 else "dog", "test" if k > 5 else "train") for k in range(10)]
    path = table(tmp_path / "pets.csv", ("a", "b", "kind", "fold"), rows)
    return ingest(path, tmp_path / "pets.zarr", target="kind", split="fold")


def test_classes_groups_and_columns_are_matched_by_name(pets, tmp_path):
    rows = [(7, "owl", 1, "late"), (8, "dog", 2, "train"), (9, "cat", 3, "late")]
    path = table(tmp_path / "more.csv", ("b", "kind", "a", "fold"), rows)
    counted = []
    grown = append(pets.url, path, split="fold", progress=counted.append)
    assert grown.rows == 13
    assert sum(counted) == 3
    assert grown.spec.classes == ("cat", "dog", "owl")
    assert grown.groups == ("train", "test", "late")
    np.testing.assert_array_equal(grown.features[10:], [[1, 7], [2, 8], [3, 9]])
    np.testing.assert_array_equal(grown.labels[10:], [2, 1, 0])
    np.testing.assert_array_equal(grown.split[10:], ["late", "train", "late"])
    np.testing.assert_array_equal(grown.labels[:10], pets.labels[:])


def test_all_rows_go_to_one_group(pets, tmp_path):
    path = table(tmp_path / "more.csv", ("a", "b", "kind"), [(1, 2, "dog"), (3, 4, "dog")])
    assert append(pets, path, group="test").split[10:].tolist() == ["test", "test"]


@pytest.mark.parametrize(
    ("header", "row", "group", "error", "message"),
    [
        (
            ("a", "b", "kind"),
            (1, 2, "dog"),
            None,
            InvalidOptionError,
            "a new one; name it with group=",
        ),
        (("a", "b", "kind"), (1, 2, "dog"), "new", InvalidDataError, "group 'new' have the same"),
        (("a", "b", "kind"), (1, 2, "dog"), "", InvalidOptionError, "must not be empty"),
        (("a", "c", "kind"), (1, 2, "dog"), "test", InvalidDataError, "lacks b and has besides c"),
        (("a", "kind"), (1, "dog"), "test", InvalidDataError, "lacks b"),
        (
            ("a", "b", "kind"),
            ("nan", 2, "dog"),
            "test",
            InvalidDataError,
            r"column 'a' has no value in 1 of 1 rows \(row 0\)",
        ),
        (("a", "b", "kind"), (1, 2, 5), "test", InvalidDataError, "label 5 is none of .*cat, dog"),
        (("a", "b", "kind"), (1, 2, 0.5), "test", InvalidDataError, "real labels.*categorical"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(
    pets, tmp_path, header, row, group, error, message
):
    path = table(tmp_path / "more.csv", header, [row])
    with pytest.raises(error, match=message):
        append(pets, path, group=group)
    unchanged = open_store(pets.url)
    assert (unchanged.rows, unchanged.spec) == (10, pets.spec)
    good = table(tmp_path / "good.csv", ("a", "b", "kind"), [(1, 2, "cat")])
    assert append(unchanged, good, group="test").rows == 11


def test_numbers_name_the_classes_that_they_spell(tmp_path):
    X, y = rng.integers(0, 200, (20, 3)).astype(np.uint8), np.arange(20) % 4
    store = create_store(str(tmp_path / "s.zarr"), X, (y + 3).astype(str))
    assert store.spec.classes == ("3", "4", "5", "6")
    np.savez(tmp_path / "more.npz", X=X[:5], y=np.array([6, 5, 4, 3, 3]))
    grown = append(store, str(tmp_path / "more.npz"))
    np.testing.assert_array_equal(grown.labels[20:], [3, 2, 1, 0, 0])
    np.savez(tmp_path / "text.npz", X=X[:1], y=np.array(["7"]))
    assert append(grown, str(tmp_path / "text.npz")).spec.classes == ("3", "4", "5", "6", "7")


def test_text_that_spells_numbers_and_names_of_arrays(tmp_path):
    X, y = rng.normal(size=(20, 3)), np.arange(20) % 4
    np.savez(tmp_path / "first.npz", a=X, b=y)
    store = ingest(str(tmp_path / "first.npz"), tmp_path / "s.zarr", x="a", y="b")
    np.savez(tmp_path / "more.npz", a=X[:3], b=np.array(["2", "9", "2"]))
    grown = append(store, str(tmp_path / "more.npz"))  # the names a and b are remembered
    np.testing.assert_array_equal(grown.labels[20:], [2, 9, 2])
    np.savez(tmp_path / "words.npz", a=X[:1], b=np.array(["owl"]))
    with pytest.raises(InvalidDataError, match=r"text .owl., those of first numbers"):
        append(grown, str(tmp_path / "words.npz"))


def test_real_labels_stay_real(tmp_path):
    path = table(tmp_path / "a.csv", ("u", "y"), [(k, k + 0.5) for k in range(5)])
    store = ingest(path, tmp_path / "s.zarr")
    whole = table(tmp_path / "b.csv", ("u", "y"), [(1, 2), (2, 3)])  # whole numbers by chance
    np.testing.assert_array_equal(append(store, whole).labels[5:], [2.0, 3.0])


def test_scale_shape_and_width_have_to_agree(tmp_path):
    X, y = rng.integers(0, 16, (20, 64)).astype(np.uint8), np.arange(20) % 10
    spec = StoreSpec("own", "categorical", scale=0.5)
    store = create_store(str(tmp_path / "s.zarr"), X, y, spec=spec)
    with pytest.raises(InvalidDataError, match=r"digits have the scale 0.0625, those of own 0.5"):
        append(store, "digits", group="all")
    np.savez(tmp_path / "narrow.npz", X=X[:, :5], y=y)
    with pytest.raises(InvalidDataError, match="rows of shape"):
        append(store, str(tmp_path / "narrow.npz"))
    spec = StoreSpec("own", "categorical", image_shape=(4, 16), scale=1 / 16)
    store = create_store(str(tmp_path / "t.zarr"), X, y, spec=spec)
    with pytest.raises(InvalidDataError, match="images of digits have the shape"):
        append(store, "digits", group="all")


def test_a_store_of_links_cannot_grow(tmp_path):
    X, y = rng.normal(size=(20, 3)), np.arange(20) % 4
    copied = create_store(str(tmp_path / "s.zarr"), X, y)
    names = ("features", "labels")
    arrays = [open_array(str(array_folder(copied.url, name))) for name in names]
    linked = link_store(str(tmp_path / "l.zarr"), *arrays)
    np.savez(tmp_path / "more.npz", X=X, y=y)
    with pytest.raises(StoreError, match="cannot grow"):
        append(linked, str(tmp_path / "more.npz"))
    assert copied.rows == 20


def test_scores_of_a_grown_store_are_those_of_all_rows_at_once(tmp_path):
    X, y = rng.normal(size=(300, 4)), rng.integers(0, 3, 300)
    np.savez(tmp_path / "more.npz", X=X[200:], y=y[200:])
    store = create_store(str(tmp_path / "s.zarr"), X[:200], y[:200])
    sample_robustness(store).write()
    grown = append(store, str(tmp_path / "more.npz"))
    after = sample_robustness(grown)
    assert after.plan.pairs < 300 * 299 // 2
    written, at_once = after.write(), sample_robustness(X, y)
    for name in ("robustness", "witness", "reach"):
        np.testing.assert_array_equal(getattr(written, name), getattr(at_once, name))


# -- Online News ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def news_file(tmp_path_factory):
    """An Online News file of 32,010 made-up rows."""
    values = rng.integers(0, 50, (32_010, 59)).astype(float)
    header = ("url", " timedelta", *(f" {name}" for name in online_news.ATTRIBUTES), " shares")
    rows = [("http://x", 5, *row) for row in values.tolist()]
    return table(tmp_path_factory.mktemp("news") / online_news.FILE, header, rows), header, values


def test_new_articles_are_scaled_with_the_recorded_bounds(news_file, tmp_path):
    path, header, values = news_file
    store = ingest("online-news", tmp_path / "n.zarr", path)
    strange = values[0].copy()
    strange[[0, -1]] = -50, 1000  # beyond what the store has seen
    more = table(tmp_path / "more.csv", header, [("u", 1, *values[7]), ("u", 1, *strange)])
    grown = append(store, "online-news", more, group="test")
    np.testing.assert_array_equal(grown.features[32_010], store.features[7])  # to the last bit
    assert grown.labels[32_010] == store.labels[7]
    assert grown.features[32_011].min() < 0 < 1 < grown.labels[32_011]
    units = restore_features(grown.spec, grown.features[32_011])
    np.testing.assert_allclose(units, strange[:-1], atol=1e-9)
    assert append(grown, more, group="train").rows == 32_014
    with pytest.raises(InvalidOptionError, match="group=NAME"):
        append(grown, "online-news", more)
    with pytest.raises(InvalidOptionError, match="rows in their own units"):
        append(grown, "more.npz", group="test")
    empty = table(tmp_path / "empty.csv", header, [])
    with pytest.raises(SourceFileError, match="has no rows"):
        append(grown, empty, group="test")


def test_rows_of_a_store_that_grew_meanwhile_come_behind(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.random((75, 4)), np.arange(75) % 3
    path = str(tmp_path / "grown.zarr")
    create_store(path, X[:60], y[:60])
    stale = open_store(path)

    def block(rows):
        return Block(X[rows], y[rows], np.zeros(len(X[rows]), np.int16))

    append_rows(open_store(path), [block(slice(60, 65))])
    grown = append_rows(stale, [block(slice(65, 75))])
    np.testing.assert_array_equal(grown.features[:], X)


def test_columns_that_were_dropped_are_dropped_again(tmp_path):
    path = table(tmp_path / "own.csv", ("a", "b", "y"), [(0.5 * k % 2, k, k % 2) for k in range(6)])
    store = ingest(path, tmp_path / "s.zarr", drop="b", scale="none")
    assert append(store, path).rows == 12
    assert store.columns == 1
