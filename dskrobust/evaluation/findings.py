"""What networks leave beside LOSS and ACC: curves, sessions, probabilities of single samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InvalidOptionError
from .rows import read_labels, test_side

if TYPE_CHECKING:
    from .models.base import Job
    from .results import Results

CURVES = ("train", "test", "model", "trial", "epoch", "loss", "acc")


def curves(evaluation: Results) -> pd.DataFrame:
    """Return LOSS and ACC by epoch; see `Evaluation.curves`."""
    frames = []
    for job, facts, setting in _done(evaluation):
        if "curve_epochs" not in facts:
            continue
        values = evaluation.records.array(job.name, "curves")  # (epochs, trials, tests, 2)
        assert values is not None  # the record would count as damaged
        epochs, tests = facts["curve_epochs"], facts["curve_tests"]
        index = pd.MultiIndex.from_product(
            [epochs, range(1, 1 + len(job.seeds)), tests], names=["epoch", "trial", "test"]
        )
        frame = pd.DataFrame(values.reshape(-1, 2), index, ["loss", "acc"]).reset_index()
        frames.append(frame.assign(train=job.train[0][0], model=job.model.name, **setting))
    if not frames:
        return pd.DataFrame(columns=list(CURVES))
    found = pd.concat(frames, ignore_index=True)
    return found[[*CURVES, *(name for name in found if name not in CURVES)]]


def sessions(evaluation: Results) -> pd.DataFrame:
    """Return how the number of epochs was found; see `Evaluation.sessions`."""
    rows = []
    for job, facts, setting in _done(evaluation):
        if "session" not in facts:
            continue
        penalty = evaluation.records.array(job.name, "penalty")
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


SESSION = ("way", "threshold", "best_epochs", "average", "epochs", "extra", "inside")


def true_class_probability(
    evaluation: Results,
    train: str,
    of: str,
    model: str | None,
    fixed: Mapping[str, Any],
) -> pd.DataFrame:
    """Return mean probabilities of single samples; see `Evaluation.true_class_probability`."""
    if of not in ("test", "train"):
        raise InvalidOptionError(f"there are no probabilities of {of!r}; choose test or train")
    found = [
        (job, values)
        for job, _, setting in _done(evaluation)
        if model in (None, job.model.name)
        and job.train[0][0] == train
        and fixed.items() <= setting.items()
        and (values := evaluation.records.array(job.name, f"true_class_{of}")) is not None
    ]
    if not found:
        more = " with the option train_probabilities = true" if of == "train" else ""
        raise InvalidOptionError(
            f"no model has probabilities of {of} samples for {train!r}; train cnn or resnet56 on "
            f"it{more}"
        )
    if len(found) > 1:
        raise InvalidOptionError(
            f"{len(found)} models were trained on {train!r}; name one with model and fixed"
        )
    return _by_row(evaluation, *found[0], of)


def _by_row(evaluation: Results, job: Job, values: NDArray[Any], of: str) -> pd.DataFrame:
    rows = test_side(job).rows if of == "test" else job.records.rows(job.train[0][1])
    labels = read_labels(evaluation.store, rows)
    return pd.DataFrame({"row": rows, "label": labels, "probability": values})


def _done(evaluation: Results) -> Iterator[tuple[Job, dict[str, Any], dict[str, Any]]]:
    """Finished jobs of all trials at once, their records' facts, and settings but epochs."""
    for job in evaluation.jobs:
        record = evaluation.record_of(job)
        if record is not None and job.seeds:
            setting = {k: v for k, v in job.settings[0].items() if k != "epochs"}
            yield job, record["facts"], setting
