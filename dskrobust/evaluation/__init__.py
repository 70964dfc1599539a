"""Experiments: models trained on subsets of the data and tested on others (paper, 4.1)."""

from .evaluation import Evaluation, evaluate
from .experiment import Experiment, read_experiment
from .experiment import ModelSpec as Model
from .scheduling import Failure, summary_of

__all__ = [
    "Evaluation",
    "Experiment",
    "Failure",
    "Model",
    "evaluate",
    "read_experiment",
    "summary_of",
]
