"""Random forests of scikit-learn (paper, 4.3.2 and C.2), one Dask task each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..experiment import Setting
from ..job import Job
from ..rows import training_data
from ..scoring import Answer
from .base import Model, Problem
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
        tree more, as the arrays of a growing tree double. What every forest that is read off says
        of a block of test rows is kept until it is summed up. Blocks are scaled in float64 before
        they become float32.
        """
        sizes = {self._given(s)["n_estimators"] for s in self.spec.settings} or {1}
        outputs = max(1, problem.classes)
        trees = rows * 1.26 * (NODE_BYTES + 8 * outputs) * (max(sizes) + 1)
        forests = len(sizes) if self.nested else 1
        predicted = problem.answer_bytes(forests)
        read = min(rows * problem.columns, BLOCK_VALUES) * (8 + 4)
        return rows * problem.columns * 4, int(rows * ROW_BYTES + trees + predicted + read)

    def fit(self, job: Job, client: Client | None) -> Iterator[FittedForests]:
        X, y = training_data(job, np.float32)
        by_trees = {self._given(setting)["n_estimators"]: setting for setting in job.settings}
        parameters = self._given(by_trees[max(by_trees)])
        forest = _estimator(
            bool(job.classes), {**parameters, "random_state": job.seed, "n_jobs": 1}
        )
        forest.fit(X, y)
        sizes = tuple(sorted(by_trees))
        settings = tuple(by_trees[trees] for trees in sizes)
        yield FittedForests(settings, sizes, forest, job.classes)


def _estimator(categorical: bool, parameters: Mapping[str, Any]) -> Any:
    from sklearn import ensemble

    if categorical:
        return ensemble.RandomForestClassifier(**parameters)
    return ensemble.RandomForestRegressor(**parameters)


@dataclass(frozen=True, eq=False)
class FittedForests:
    """A forest, and smaller ones that are read off it.

    Attributes
    ----------
    settings : tuple of Setting
    sizes : tuple of int
        Trees of every forest, rising.
    forest : estimator
        The largest.
    classes : tuple
        All of them; the forest may have seen some only.
    """

    settings: tuple[Setting, ...]
    sizes: tuple[int, ...]
    forest: Any
    classes: tuple[Any, ...]
    dtype: Any = np.float32

    def answers(self, X: NDArray[Any]) -> Sequence[Answer]:
        """Return mean predictions, or probabilities, of the first k trees for each k.

        Sums are in scikit-learn's order, so the last bit is that of its own forests.
        """
        known = self.forest.classes_ if self.classes else None
        total = np.zeros(len(X) if known is None else (len(X), len(known)))
        answers = []
        for k, tree in enumerate(self.forest.estimators_, start=1):
            total += tree.predict(X) if known is None else tree.predict_proba(X)
            if k not in self.sizes:
                continue
            mean = total / k
            if known is None:
                answers.append(Answer(mean))
                continue
            p = spread_columns(mean, known, self.classes)
            answers.append(Answer(known[mean.argmax(axis=1)], p))
        return answers
