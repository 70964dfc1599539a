"""The call `evaluate`: of one split, or of folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..declared_types import checked_arguments
from ..errors import InvalidOptionError
from ..folds import Folds, make_folds
from ..store import Store, open_store
from .evaluation import Evaluation
from .experiment import Experiment, ModelSpec, Selection
from .folds import CrossValidation

if TYPE_CHECKING:
    from distributed import Client


@checked_arguments()
def evaluate(
    store: str | Path | Store,
    experiment: Experiment | None = None,
    *,
    train: Mapping[str, Selection] | None = None,
    test: Mapping[str, Selection] | None = None,
    models: Sequence[ModelSpec] | None = None,
    client: Client | None = None,
    folds: int | Folds | None = None,
    **parts: Any,
) -> Evaluation | CrossValidation:
    """Return an experiment's evaluation: checked, but nothing is read or trained until asked.

    Parameters
    ----------
    store : str or Store
        Its labels are categories or real numbers.
    experiment : Experiment, optional
        In its place its parts can be given.
    train, test : mapping of str to selection, optional
        Training and test subsets, as `Experiment` takes them.
    models : sequence of Model, optional
        What is trained.
    client : distributed.Client, optional
        Where to run; the current client by default, threads of this process without one.
    folds : int or Folds, optional
        Every fold is tested once, and the others together are trained on: in selections those are
        the groups test and train. Folds of the store's split, or as many drawn by the seed; see
        `make_folds`. What comes back is a `CrossValidation`.
    **parts : int, float or str
        Further parts of an experiment: trials, seed, threshold, metric, name.

    Raises
    ------
    InvalidOptionError
        For what does not fit the data: an unknown subset, model or hyper-parameter, more
        neighbours than samples, a threshold beyond the labels.
    StaleResultsError
        Where subsets are chosen by robustness and the store has no results.
    """
    if experiment is None:
        if train is None or test is None or models is None:
            raise InvalidOptionError("evaluate needs an experiment, or train, test and models")
        experiment = Experiment(train, test, models, **parts)
    elif parts or any(part is not None for part in (train, test, models)):
        raise InvalidOptionError("give evaluate either an experiment or its parts, not both")
    wanted = experiment.folds if folds is None else folds
    if wanted is None:
        return Evaluation(open_store(store), experiment, client)
    if not isinstance(wanted, Folds):
        wanted = make_folds(store, wanted, seed=experiment.seed)
    return CrossValidation(wanted, experiment, client)
