"""What the further commands read and leave behind: folds, predictions, probabilities."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.neighbors import KNeighborsClassifier

import dskrobust as dr
from dskrobust.cli import main
from dskrobust.errors import DamagedStoreError, InvalidDataError, InvalidOptionError
from dskrobust.verify import verify_store

ROWS = 60


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """A store of three classes in two groups, with scores."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(ROWS, 3)).astype(np.float32), np.arange(ROWS) % 3
    split = np.where(np.arange(ROWS) % 4 > 0, "train", "test")
    path = str(tmp_path_factory.mktemp("further") / "own.zarr")
    dr.sample_robustness(dr.create_store(path, X, y, split)).write()
    return path


def said(*words):
    """Run a command; return its one line of error."""
    done = CliRunner().invoke(main, list(map(str, words)))
    lines = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert done.exit_code != 0, done.output
    assert len(lines) == 1, done.output
    assert "DEBUG" not in lines[0], done.output
    return lines[0]


@pytest.mark.parametrize("dtype", ["c16", "M8[s]", "m8[s]", "f8,f8", "V8"])
@pytest.mark.parametrize("words", [("bound", "--predictions"), ("issues", "--probabilities")])
def test_numbers_of_no_real_kind_are_refused(url, tmp_path, words, dtype):
    np.save(tmp_path / "own.npy", np.zeros((ROWS, 3), dtype))
    command, option = words
    assert "real numbers" in said(command, url, option, tmp_path / "own.npy")


@pytest.mark.parametrize("words", [("bound", "--predictions"), ("issues", "--probabilities")])
@pytest.mark.parametrize("cut", [0, 5, 100, 300])
def test_a_file_of_numbers_that_ends_early_is_named(url, tmp_path, words, cut):
    path = tmp_path / "own.npy"
    np.save(path, np.zeros((ROWS, 3)))
    path.write_bytes(path.read_bytes()[:cut])
    command, option = words
    assert str(path) in said(command, url, option, path)


@pytest.mark.parametrize(
    "setting",
    ["n_neighbors=0", "n_neighbors=99999999", "n_neighbors=nan", "algorithm=[",
     "n_neighbors=" + "[" * 9_999],
)  # fmt: skip
def test_what_an_estimator_refuses_is_said_in_its_name(url, setting):
    assert "KNeighborsClassifier cannot be " in said(
        "bound", url, "--model", "knn", "--set", setting
    )


def test_an_estimator_that_fails_is_named(url):
    with pytest.raises(InvalidOptionError, match="KNeighborsClassifier cannot be fitted: "):
        dr.lipschitz_error(url, KNeighborsClassifier(0))
    few = KNeighborsClassifier(2).fit(np.zeros((2, 9)), [0, 1])
    with pytest.raises(InvalidOptionError, match=r"cannot be asked for predictions: .*features"):
        dr.lipschitz_error(url, few).summary()


def test_predictions_in_which_labels_are_lost_have_a_share(url):
    found = dr.lipschitz_error(url, np.full((ROWS, 3), 1e300)).summary()
    assert found.lipschitz.value == 0 < found.bound.value
    assert found.share == 1
    assert json.dumps(found.facts())
    assert found.words()


def test_rows_that_drawn_folds_lack_are_found_and_drawn_again(url):
    store = dr.open_store(url)
    folds = dr.make_folds(store, 3)
    before = [rows.within(0, ROWS).tolist() for rows in folds.sets]
    records = folds.sets[1].records
    lost = f"{records.path}/rows/fold-2"
    store.objects.drop(f"{lost}/0.blob")
    with pytest.raises(DamagedStoreError, match="fold-2"):
        verify_store(store, sample=2)
    assert verify_store(store, sample=2, repair=True).mended == (lost,)
    assert verify_store(store, sample=2).mended == ()
    again = dr.make_folds(store, 3)
    assert [rows.within(0, ROWS).tolist() for rows in again.sets] == before


def test_a_drawing_that_was_killed_is_no_damage(url):
    store = dr.open_store(url)
    records = dr.make_folds(store, 4).sets[1].records
    store.objects.drop(f"{records.path}/rows/fold-2/counts.blob")
    verify_store(store, sample=2)


def test_predictions_of_complex_numbers_are_refused_from_python_too(url):
    with pytest.raises(InvalidDataError, match="complex128"):
        dr.lipschitz_error(url, np.zeros((ROWS, 3), complex))


def test_a_copy_of_a_store_is_read_from_the_copy(url, tmp_path):
    """Keys of the same name would be computed once, from whichever store comes first."""
    copies = [str(shutil.copytree(url, tmp_path / "a.zarr")), str(tmp_path / "b.zarr")]
    dr.nearest_neighbours(dr.open_store(copies[0]), 2).write()
    dr.instance_hardness(dr.open_store(copies[0]), k=2).write()
    shutil.copytree(*copies)
    keys = []
    for copy in copies:
        store = dr.open_store(copy)
        found = (
            dr.sample_robustness(store).robustness,
            dr.nearest_neighbours(store, 2).distance,
            dr.instance_hardness(store, k=2).kdn,
        )
        keys.append({name for array in found for name in array.dask.layers})
    assert not keys[0] & keys[1]
