"""Random forests of scikit-learn (paper, 4.3.2 and C.2), one Dask task each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..experiment import Setting
from ..rows import feature_blocks, test_side, training_data
from .base import Job, Model, Prediction, Problem
from .estimators import check_values, spread_columns

if TYPE_CHECKING:
    from distributed import Client

OURS = ("n_estimators", "random_state", "n_jobs", "verbose", "warm_start")
NODE_BYTES = 64  # of a tree, besides 8 a class
BLOCK_VALUES = 4 * 2**20  # of features read at once: a unit of the store, of bytes at most
ROW_BYTES = 64  # beside the features while a tree grows: labels, weights, indices, targets


class Forest(Model, kind="forest"):
    """scikit-learn's RandomForestRegressor or RandomForestClassifier, by the store's labels.

    Hyper-parameters: ``trees``, and those of scikit-learn but ``n_estimators`` and what is set
    here. With the option ``nested`` one forest of the most trees is grown a trial and 1, 2, … are
    read off it: each is exactly the forest of that many trees with the same seed, for a fifth of
    the work, but they are no longer independent of each other.
    """

    instead = (
        ", use fewer threads a worker, or the model xgboost-forest, which trains on the whole "
        "cluster (and is not scikit-learn's forest)"
    )
    own_parameters = ("trees",)
    known_options = ("nested",)

    @staticmethod
    def default_grid(categorical: bool) -> Mapping[str, Sequence[Any]]:
        """1 to 9 trees; for real labels with both criteria of the paper."""
        trees = {"trees": range(1, 10)}
        return trees if categorical else {**trees, "criterion": ("squared_error", "absolute_error")}

    @property
    def nested(self) -> bool:
        """Whether smaller forests are read off the largest."""
        return bool(self.spec.options.get("nested", False))

    def check(self, problem: Problem) -> None:
        self.check_options()
        if not isinstance(self.spec.options.get("nested", False), bool):
            raise self.refuse("option nested must be true or false")
        estimator = _estimator(problem.categorical, {})
        for name in OURS:
            if name in self.spec.grid or name in self.spec.parameters:
                hint = "it is called trees here" if name == "n_estimators" else "it is set here"
                raise self.refuse(f"{name} cannot be chosen; {hint}")
        self.check_names(name for name in estimator.get_params() if name not in OURS)
        self.check_whole("trees")
        for setting in self.spec.settings:
            check_values(self, _estimator(problem.categorical, self._given(setting)), problem)

    def _given(self, setting: Setting) -> dict[str, Any]:
        """scikit-learn's hyper-parameters of a setting; 100 trees as there where none are given."""
        parameters = {**self.spec.parameters, **setting}
        return {"n_estimators": parameters.pop("trees", 100), **parameters}

    def seeded_by(self, settings: Sequence[Setting]) -> Setting:
        """All of a setting, so that forests of different sizes are independent; else not trees."""
        shared = super().seeded_by(settings)
        return {k: v for k, v in shared.items() if not (self.nested and k == "trees")}

    def task_bytes(self, rows: int, problem: Problem) -> tuple[int, int]:
        """Features as float32 once; each task grows trees of about 1.26 nodes a row.

        A bootstrap sample holds 63 % of the rows, each a leaf of a tree that is fully grown; one
        tree more, as the arrays of a growing tree double. Predictions are kept for every forest
        that is read off, with three more of their size while they are made and measured. Blocks
        are scaled in float64 before they become float32.
        """
        sizes = {self._given(s)["n_estimators"] for s in self.spec.settings} or {1}
        outputs = max(1, problem.classes)
        trees = rows * 1.26 * (NODE_BYTES + 8 * outputs) * (max(sizes) + 1)
        forests = len(sizes) if self.nested else 1
        predicted = (forests + 3) * sum(problem.test.values()) * outputs * 8
        read = min(rows * problem.columns, BLOCK_VALUES) * (8 + 4)
        return rows * problem.columns * 4, int(rows * ROW_BYTES + trees + predicted + read)

    def predict(self, job: Job, client: Client | None) -> Iterator[Prediction]:
        ((train, _),) = job.train
        X, y = training_data(job, np.float32)
        by_trees = {self._given(setting)["n_estimators"]: setting for setting in job.settings}
        parameters = self._given(by_trees[max(by_trees)])
        forest = _estimator(
            bool(job.classes), {**parameters, "random_state": job.seed, "n_jobs": 1}
        )
        forest.fit(X, y)
        by_size = _read_off(forest, job, sorted(by_trees))
        for trees, values in by_size.items():
            if not job.classes:
                yield Prediction(train, by_trees[trees], values)
                continue
            labels = forest.classes_[values.argmax(axis=1)]
            p = spread_columns(values, forest.classes_, job.classes)
            yield Prediction(train, by_trees[trees], labels, p)


def _estimator(categorical: bool, parameters: Mapping[str, Any]) -> Any:
    from sklearn import ensemble

    if categorical:
        return ensemble.RandomForestClassifier(**parameters)
    return ensemble.RandomForestRegressor(**parameters)


def _read_off(forest: Any, job: Job, wanted: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Return mean predictions (n,), or probabilities (n, c), of the first k trees for each k.

    Sums are in scikit-learn's order, so the last bit is that of its own forests.
    """
    rows, store = test_side(job).rows, job.records.address.open()
    shape = (len(rows), len(forest.classes_)) if job.classes else (len(rows),)
    means = {k: np.empty(shape) for k in wanted}
    for part, X in feature_blocks(store, rows, np.float32):
        total = np.zeros((len(X), *shape[1:]))
        for k, tree in enumerate(forest.estimators_, start=1):
            total += tree.predict_proba(X) if job.classes else tree.predict(X)
            if k in means:
                means[k][part] = total / k
    return means
