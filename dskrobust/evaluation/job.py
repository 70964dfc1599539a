"""One step of an experiment, as its task gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..store import EvaluationRecords, RowRange
from .experiment import ModelSpec, Setting


@dataclass(frozen=True)
class Job:
    """One step of an experiment: what is trained and tested at once, and kept as one record.

    Attributes
    ----------
    records : EvaluationRecords
        Where the store is, where the subsets' row numbers lie and the record goes.
    name : str
        Of the record.
    model : ModelSpec
    train, test : tuples of (name, key)
        Subsets, and the keys of their row numbers among the records.
    settings : tuple of Setting
        Hyper-parameters that are swept, one table row each (and per subset).
    trial : int
        From 1 on; 0 where the job is all trials at once.
    seed : int
        Below 2³².
    seeds : tuple of int
        Of the trials 1, 2, …, where the job is all of them.
    threads : int
        That a library of its own threads may use.
    blocks : tuple of RowRange
        The union of the test subsets, cut into what is predicted at once.
    classes : tuple
        Labels in the order of the columns of probabilities; empty for real labels.
    threshold : float, optional
        Of the pseudo-classification (paper, 4.1), in the stored labels' units.
    """

    records: EvaluationRecords
    name: str
    model: ModelSpec
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    settings: tuple[Setting, ...]
    trial: int
    seed: int
    classes: tuple[Any, ...]
    threshold: float | None = None
    seeds: tuple[int, ...] = ()
    threads: int = 1
    blocks: tuple[RowRange, ...] = ()

    def __str__(self) -> str:
        return f"{self.model.name} {' '.join(name for name, _ in self.train)}"
