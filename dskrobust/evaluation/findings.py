"""What networks leave beside LOSS and ACC: curves, sessions, probabilities of single samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..errors import InvalidOptionError
from ..store import EvaluationRecords, Store
from .job import Job
from .rows import all_test_rows, read_labels

CURVES = ("train", "test", "model", "trial", "epoch", "loss", "acc")
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
    """Return mean probabilities of single samples; see `Evaluation.true_class_probability`."""
    if of not in ("test", "train"):
        raise InvalidOptionError(f"there are no probabilities of {of!r}; choose test or train")
    known = [
        (job, values)
        for job, _, setting in steps
        if model in (None, job.model.name)
        and job.train[0][0] == train
        and fixed.items() <= setting.items()
        and (values := job.records.array(job.name, f"true_class_{of}")) is not None
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
