"""Experiments: models trained on subsets of the data and tested on others (paper, 4.1)."""

from .entry import evaluate
from .evaluation import Evaluation
from .experiment import Experiment, read_experiment
from .experiment import ModelSpec as Model
from .folds import CrossValidation
from .scheduling import Failure, summary_of

__all__ = [
    "CrossValidation",
    "Evaluation",
    "Experiment",
    "Failure",
    "Model",
    "evaluate",
    "read_experiment",
    "summary_of",
]
