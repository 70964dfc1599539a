"""What networks leave beside LOSS and ACC: curves, sessions, probabilities of single samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InvalidOptionError
from ..store import EvaluationRecords, Store
from .job import Job
from .rows import all_test_rows, read_labels

CURVES = ("train", "test", "model", "trial", "epoch", "loss", "acc")
# arrays of the trimmed means; those of before, of plain means, had other names
PROBABILITIES = {"test": "probability_test", "train": "probability_train"}
SESSION = ("way", "threshold", "best_epochs", "average", "epochs", "extra", "inside")


class Step(NamedTuple):
    """A finished job of all trials at once: its record's facts, and its setting but epochs."""

    job: Job
    facts: Mapping[str, Any]
    setting: Mapping[str, Any]


def curves(steps: Iterable[Step]) -> pd.DataFrame:
    """Return LOSS and ACC by epoch; see `Evaluation.curves`."""
    frames = []
    for job, facts, setting in steps:
        frame = curve(job.records, job.name, facts)
        if frame is not None:
            frames.append(frame.assign(train=job.train[0][0], model=job.model.name, **setting))
    if not frames:
        return pd.DataFrame(columns=list(CURVES))
    joined = pd.concat(frames, ignore_index=True)
    return joined[[*CURVES, *(name for name in joined if name not in CURVES)]]


def curve(records: EvaluationRecords, step: str, facts: Mapping[str, Any]) -> pd.DataFrame | None:
    """Return epoch, trial, test, loss and acc of a step; None where no curves were kept."""
    if "curve_epochs" not in facts:
        return None
    values = records.array(step, "curves")  # (epochs, trials, tests, 2)
    if values is None:  # damaged since the record was read
        return None
    axes = [facts["curve_epochs"], range(1, 1 + len(facts["seeds"])), facts["curve_tests"]]
    index = pd.MultiIndex.from_product(axes, names=["epoch", "trial", "test"])
    return pd.DataFrame(values.reshape(-1, 2), index, ["loss", "acc"]).reset_index()


def sessions(steps: Iterable[Step]) -> pd.DataFrame:
    """Return how the number of epochs was found; see `Evaluation.sessions`."""
    rows = []
    for job, facts, setting in steps:
        if "session" not in facts:
            continue
        penalty = job.records.array(job.name, "penalty")
        rows.append(
            {
                "model": job.model.name,
                "train": job.train[0][0],
                **setting,
                **{name: facts["session"].get(name) for name in SESSION},
                "penalty": np.nan if penalty is None else float(penalty.mean()),
                "device": facts["device"],
                "seconds": facts["seconds"],
            }
        )
    return pd.DataFrame(rows)


def true_class_probability(
    store: Store,
    steps: Iterable[Step],
    train: str,
    of: str,
    model: str | None,
    fixed: Mapping[str, Any],
) -> pd.DataFrame:
    """Return probabilities of single samples; see `Evaluation.true_class_probability`."""
    if of not in PROBABILITIES:
        raise InvalidOptionError(f"there are no probabilities of {of!r}; choose test or train")
    known = [
        (job, values)
        for job, _, setting in steps
        if model in (None, job.model.name)
        and job.train[0][0] == train
        and fixed.items() <= setting.items()
        and (values := job.records.array(job.name, PROBABILITIES[of])) is not None
    ]
    if not known:
        more = " with the option train_probabilities = true" if of == "train" else ""
        raise InvalidOptionError(
            f"no model has probabilities of {of} samples for {train!r}; train cnn or resnet56 on "
            f"it{more}"
        )
    if len(known) > 1:
        raise InvalidOptionError(
            f"{len(known)} models were trained on {train!r}; name one with model and fixed"
        )
    ((job, values),) = known
    rows = all_test_rows(job).rows if of == "test" else job.records.rows(job.train[0][1])
    return pd.DataFrame({"row": rows, "label": read_labels(store, rows), "probability": values})


class RightAnswers(NamedTuple):
    """What the networks of a training subset say of attacked test samples.

    Attributes
    ----------
    train : str
    right : ndarray (trials, sizes, n) bool
        Which of them are right, of the union of the test subsets.
    places : dict of str to ndarray (k,)
        For every test subset its samples' positions in the union.
    """

    train: str
    right: NDArray[np.bool_]
    places: Mapping[str, NDArray[np.int64]]


def right_answers(steps: Iterable[Step]) -> Iterator[RightAnswers]:
    """Yield what networks say of attacked samples, one training subset at a time."""
    for job, _, _ in steps:
        bits = job.records.array(job.name, "attacked")
        if bits is None:  # of no attack, or damaged since the record was read
            continue
        tested = all_test_rows(job)
        right = np.unpackbits(bits, axis=-1, count=len(tested.rows)).astype(np.bool_)
        yield RightAnswers(job.train[0][0], right, tested.places)


class FindingsMixin(ABC):
    """What an evaluation says of these."""

    store: Store

    @abstractmethod
    def _steps(self) -> Iterable[Step]:
        """Yield the finished steps of networks; computed if need be."""

    @property
    def curves(self) -> pd.DataFrame:
        """LOSS and ACC of every trial by epoch (paper, D.3), of models with ``curves = true``.

        Columns: train, test, model, trial, epoch, loss, acc, then what else is swept.
        """
        return curves(self._steps())

    @property
    def sessions(self) -> pd.DataFrame:
        """How networks came to their number of epochs (paper, C.3): one row a training subset.

        Columns: model, train, what is swept, way, threshold (epochs after which models overfit),
        best_epochs (of every model of a first session) and their average, epochs (the best ones),
        extra (epochs after that), inside (whether the lowest loss is not at the last check),
        penalty (mean over the trials of Σ λ‖w‖², which Keras adds to every LOSS), device, seconds.
        """
        return sessions(self._steps())

    def right_answers(self) -> Iterator[RightAnswers]:
        """Yield which attacked test samples networks get right; see `susceptibility`."""
        return right_answers(self._steps())

    def true_class_probability(
        self,
        train: str,
        of: str = "test",
        *,
        model: str | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return each sample's probability of its own class by the networks (paper, D.2 and F).

        The mean over the trials is trimmed as that of ACC and LOSS (C.3): of 25 the ten highest
        and the ten lowest go, of n trials ⌊0.4 n⌋ each. It is at the number of epochs whose LOSS
        on the first test subset is lowest.

        Parameters
        ----------
        train : str
            The training subset of the networks that are asked.
        of : {"test", "train"}
            Samples of the test subsets, or those they were trained on (only with the option
            ``train_probabilities = true``).
        model, fixed : optional
            Name and hyper-parameters, where there are several.

        Returns
        -------
        DataFrame
            Columns row (of the store), label and probability.

        Raises
        ------
        InvalidOptionError
            Where there is none, or more than one.
        """
        return true_class_probability(self.store, self._steps(), train, of, model, fixed or {})
