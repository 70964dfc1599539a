"""Folds: one pass gives what separate stores of every split give, to the last bit."""

import tempfile

import brute
import numpy as np
import pytest
import strategies as own
from hypothesis import given, settings
from hypothesis import strategies as st

import dskrobust as dr

THREADS = {"scheduler": "threads", "num_workers": 2}
pytestmark = pytest.mark.filterwarnings("ignore::dskrobust.errors.ContradictionWarning")
COUNT = 3


def stored(folder, data, split=None):
    kind, _, norm = data.labels.partition("-")
    spec = dr.StoreSpec("own", kind, label_norm=norm or "l2", scale=data.scale)
    return dr.create_store(f"{folder}/own.zarr", data.X, data.y, split, spec=spec)


def assert_as_separate(folds, scores, data, codes):
    """Compare every fold's scores with those of arrays that are split so."""
    for number in range(1, folds.count + 1):
        view = folds.scores(scores, number).compute(**THREADS)
        inside = codes >= 0
        split = np.where(codes == number - 1, "test", "train")
        rows = np.flatnonzero(inside)
        alone = dr.sample_robustness(
            data.X[rows], data.y[rows], split[rows], labels=data.labels, scale=data.scale
        ).compute(**THREADS)
        order = [alone.groups.index(name) for name in view.groups]
        for name in brute.TABLES:
            got, wanted = np.asarray(getattr(view, name))[rows], getattr(alone, name)
            wanted = wanted[:, order] if wanted.ndim == 2 else wanted
            if "witness" in name or "nearest" in name:
                wanted = np.where(wanted < 0, -1, rows[wanted])
            np.testing.assert_array_equal(got, wanted, err_msg=name)
        assert view.sizes == ((split[rows] == "train").sum(), (split[rows] == "test").sum())


@settings(max_examples=20)
@given(draw=st.data(), data=own.data_sets(groups=(COUNT, COUNT)), as_groups=st.booleans())
def test_a_fold_equals_a_store_of_its_own(draw, data, as_groups):
    codes = np.unique(data.split, return_inverse=True)[1]
    with tempfile.TemporaryDirectory() as folder:
        if as_groups:
            split = np.array([f"fold-{k + 1}" for k in range(COUNT)])[codes]
            folds = dr.make_folds(stored(folder, data, split))
            assert not folds.references
        else:
            store = stored(folder, data)
            folds = dr.make_folds(store, COUNT, seed=draw.draw(st.integers(0, 9)), stratify=False)
            codes = np.concatenate([s.within(0, store.rows) for s in folds.sets])
            codes = np.repeat(np.arange(COUNT), folds.sizes)[np.argsort(codes)]
            sides = [
                set(
                    map(
                        tuple,
                        np.reshape(data.y[codes == k], (-1, np.atleast_2d(data.y.T).shape[0])),
                    )
                )
                for k in range(COUNT)
            ]
            if min(map(len, sides)) < 2:
                return  # a group of one label is refused where it is a split of its own
        asked = {"labels": data.labels, "options": draw.draw(own.options())}
        scores = folds.robustness(**asked)
        lazy = draw.draw(st.booleans())
        assert_as_separate(folds, scores if lazy else scores.compute(**THREADS), data, codes)
