"""Experiments: models trained on subsets of the data and tested on others (paper, 4.1)."""

from .experiment import Experiment, read_experiment
from .experiment import ModelSpec as Model
from .runner import Evaluation, evaluate, summary_of
from .running import Failure

__all__ = [
    "Evaluation",
    "Experiment",
    "Failure",
    "Model",
    "evaluate",
    "read_experiment",
    "summary_of",
]
