"""A warning points at the line of the user that led to it, not at one of this package."""

import warnings

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import dskrobust as dr
from dskrobust import errors
from dskrobust.user_warnings import PACKAGE, warn

RNG = np.random.default_rng(0)
X, Y = RNG.random((90, 3)), np.arange(90) % 3
BAYES = dr.Model("sklearn.naive_bayes.GaussianNB")
HALVES = np.where(np.arange(90) % 2, "train", "test")


def contradict(path):
    dr.sample_robustness(np.zeros((4, 2)), [0, 1, 0, 1]).compute()


def use_an_old_name(path):
    dr.ingest("iris", f"{path}.2", storage={})


def lack_a_class(path):
    lacking = np.where(Y == 2, "train", HALVES)
    store = dr.create_store(f"{path}.2", X, Y, lacking)
    dr.sample_robustness(store).write()
    dr.evaluate(store, dr.Experiment({"x": "train"}, {"t": "test"}, [BAYES])).compute()


def give_labels_as_a_column(path):
    dr.RobustnessRouter(KNeighborsClassifier(1), parts=2, cv=3).fit(X, Y[:, None])


@pytest.mark.parametrize(
    ("run", "category"),
    [
        (contradict, errors.ContradictionWarning),
        (use_an_old_name, FutureWarning),
        (lack_a_class, errors.MissingClassesWarning),
        (give_labels_as_a_column, UserWarning),
    ],
)
def test_it_is_the_users_own_line(tmp_path, run, category):
    path = str(tmp_path / "some.zarr")
    dr.create_store(path, X, Y, HALVES)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(path)
    found = [one.filename for one in caught if issubclass(one.category, category)]
    assert found, [str(one.message) for one in caught]
    assert set(found) == {__file__}


def test_the_outermost_line_where_no_other_is_left():
    """As in a thread of the package's own."""
    scope = {"warn": warn}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile("warn('heard')", f"{PACKAGE}errors.py", "exec"), scope)
    assert [one.filename for one in caught] == [__file__]
