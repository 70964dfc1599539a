"""Groups that do not have the same classes: named once, and only where labels are classes."""

import warnings

import numpy as np
import pytest

import dskrobust as dr
from dskrobust import label_sets
from dskrobust.errors import MissingClassesWarning
from dskrobust.label_sets import missing_classes, warn_missing_classes


@pytest.fixture
def store(tmp_path):
    y = np.array(["a", "b", "c", "c", "b", "d"])
    split = np.array(["train", "train", "train", "test", "test", "test"])
    return dr.create_store(str(tmp_path / "s.zarr"), np.eye(6), y, split)


def test_both_groups_are_named_with_what_they_lack(store, monkeypatch):
    monkeypatch.setattr(label_sets, "SPAN", 2)  # several blocks
    with pytest.warns(MissingClassesWarning, match=r"'train' has no sample of d and .*'test'.* a:"):
        found = warn_missing_classes(store)
    assert found == (("d",), ("a",))
    assert missing_classes(store, "test", "train") == (("a",), ("d",))
    monkeypatch.setattr(label_sets, "classes_within", None)  # the store keeps what was found
    assert missing_classes(dr.open_store(store.url)) == found


def test_nothing_is_asked_of_numbers_of_one_group_or_of_equal_classes(tmp_path):
    X, split = np.eye(6), np.array(["train", "test"] * 3)
    for k, (y, groups) in enumerate(
        [
            (np.arange(6) / 7, split),
            (np.arange(12.0).reshape(6, 2), split),
            (np.array([0, 0, 1, 1, 1, 0]), split),
            (np.arange(6), None),
        ]
    ):
        store = dr.create_store(str(tmp_path / f"{k}.zarr"), X, y, groups)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert warn_missing_classes(store) == ((), ())
