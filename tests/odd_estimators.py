"""Estimators that fail, for tests; worker processes import them by this module's name."""

import os
import signal
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor


class Mean(RegressorMixin, BaseEstimator):
    """Predicts the mean; fails with `fail`, and kills its process once where `flag` is no file."""

    def __init__(self, fail=False, flag="", random_state=None):
        self.fail, self.flag, self.random_state = fail, flag, random_state

    def fit(self, X, y):
        if self.flag and not Path(self.flag).exists():
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail:
            raise ArithmeticError("it does not\nadd up")
        self.mean_ = y.mean()
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)


def scaled_tree():
    """A pipeline, random in one of its parts."""
    return make_pipeline(StandardScaler(), DecisionTreeRegressor(max_features=1))


class NoEstimator:
    """Has nothing of an estimator."""
