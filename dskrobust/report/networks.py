"""What networks leave beside their records: curves over epochs, probabilities of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..evaluation.findings import CURVES, PROBABILITIES, curve
from ..store import EvaluationRecords


def curves_of(
    records: EvaluationRecords, finished: Sequence[Mapping[str, Any]]
) -> pd.DataFrame | None:
    """Return LOSS and ACC of every trial by epoch (paper, D.3), None where none were kept.

    Parameters
    ----------
    records : EvaluationRecords
    finished : sequence of mapping
        Records of a model, each with its step's name as ``step``, the newest first: of a training
        subset that was trained twice the newest counts.
    """
    frames: dict[str, pd.DataFrame] = {}
    for record in finished:
        facts, train = record["facts"], str(record["rows"][0]["train"])
        frame = None if train in frames else curve(records, record["step"], facts)
        if frame is not None:
            frames[train] = frame.assign(train=train, model=facts["model"])
    if not frames:
        return None
    return pd.concat(frames.values(), ignore_index=True)[list(CURVES)]


def probabilities_of(
    records: EvaluationRecords, finished: Sequence[Mapping[str, Any]], keys: Mapping[str, str]
) -> pd.Series[float] | None:
    """Return the trimmed mean probability of the true class by row number (paper, D.2 and F).

    Of the largest training subset whose samples networks were asked about, None without one.

    Parameters
    ----------
    keys : mapping of str to str
        Training subset → key of its row numbers.
    """
    best: pd.Series[float] | None = None
    for record in finished:
        train = str(record["rows"][0]["train"])
        values = records.array(record["step"], PROBABILITIES["train"])
        if values is None or train not in keys or (best is not None and len(best) >= len(values)):
            continue
        rows = records.rows(keys[train])
        if len(rows) == len(values):  # else the name stands for another subset by now
            best = pd.Series(values, pd.Index(rows, name="row"), name="probability")
    return best
