"""What came out of an experiment: the table of trials, matrices, and what networks leave beside."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..store import EvaluationRecords, Store
from .experiment import BALANCED, Experiment, Setting
from .models.base import Job, Model, Problem

if TYPE_CHECKING:
    import pandas as pd

    from .matrices import PerformanceMatrix, SideBySide


class Results(ABC):
    """The results of an `Evaluation`, which computes them when they are first asked for."""

    store: Store
    experiment: Experiment
    models: list[Model]
    problem: Problem
    _records: dict[str, dict[str, Any]]  # of the jobs that are done, by name
    _ready: bool

    @property
    @abstractmethod
    def jobs(self) -> tuple[Job, ...]:
        """The steps."""

    @property
    @abstractmethod
    def records(self) -> EvaluationRecords:
        """Where the finished steps lie."""

    @abstractmethod
    def compute(self) -> Any:
        """Run the steps that the store does not have."""

    def versions(self) -> dict[str, list[str]]:
        """Return which versions of Python and the libraries the finished steps were made with."""
        found: dict[str, set[str]] = {}
        for record in self._records.values():
            for name, version in record["facts"]["versions"].items():
                found.setdefault(name, set()).add(version)
        return {name: sorted(known) for name, known in found.items()}

    @property
    def is_computed(self) -> bool:
        """Whether `compute` was called."""
        return self._ready

    @property
    def table(self) -> pd.DataFrame:
        """One row per training subset, test subset, model, setting and trial; computed if need be.

        Columns: train, test, model, one per hyper-parameter (None where a model has it not),
        trial, seed, loss, acc and, for classes, balanced_loss. LOSS is that of C.2 for real labels
        (1 is best), the cross-entropy for classes (0 is best), once more re-weighted so that every
        class counts alike (Table 3; NaN in records of before); ACC is the share of right classes,
        or of values on the right side of the threshold.
        """
        if not self._ready:
            self.compute()
        import pandas as pd

        own = [(*m.spec.grid, *m.found) for m in self.models]
        hyper = list(dict.fromkeys(itertools.chain(*own)))
        columns = ["train", "test", "model", *hyper, "trial", "seed", "loss", "acc"]
        columns += [BALANCED] if self.problem.categorical else []
        rows = sorted(self._table_rows(), key=lambda pair: pair[0])
        lacking = {k for k in hyper if any(k not in names for names in own)}
        values = {name: [row.get(name) for _, row in rows] for name in columns}
        return pd.DataFrame(
            {k: pd.Series(v, dtype=object if k in lacking else None) for k, v in values.items()}
        )

    def _table_rows(self) -> list[tuple[tuple[int, ...], dict[str, Any]]]:
        """Rows with their places in the experiment, whatever order they were done in."""
        train = {name: k for k, name in enumerate(self.experiment.train)}
        test = {name: k for k, name in enumerate(self.experiment.test)}
        models = {m.spec.name: (k, m) for k, m in enumerate(self.models)}
        found: list[tuple[tuple[int, ...], dict[str, Any]]] = []
        for job in self.jobs:
            number, model = models[job.model.name]
            for row, setting in self._done_of(job):
                asked = {k: v for k, v in setting.items() if k not in model.found}
                at = [number, train[row["train"]], model.spec.settings.index(asked)]
                at += [setting[name] for name in model.found]
                values = {"trial": job.trial, "seed": job.seed, BALANCED: np.nan, **row}
                values |= {"model": job.model.name, **setting}
                found.append(((*at, values["trial"], test[row["test"]]), values))
        return found

    def _done_of(self, job: Job) -> Iterator[tuple[dict[str, Any], Setting]]:
        """Rows of a finished job's record with their settings; none of a job that failed."""
        for row in self._records.get(job.name, {"rows": ()})["rows"]:
            values = row["setting"].items()
            yield row, {k: tuple(v) if isinstance(v, list) else v for k, v in values}

    def matrix(
        self,
        model: str | None = None,
        *,
        fixed: Mapping[str, Any] | None = None,
        sweep: str | None = None,
        best: str | None = None,
        by: str | None = None,
        loss: str = "loss",
    ) -> PerformanceMatrix:
        """Return a model's performance matrix (paper, Tables 2 to 9); computed if need be.

        Parameters
        ----------
        model : str, optional
            Needed where there are several.
        fixed : mapping, optional
            Values of hyper-parameters that are not swept.
        sweep : str, optional
            The hyper-parameter that is chosen; the model's own by default.
        best : str, optional
            The test subset on which it is chosen (Tables 2 to 4, 6 and 8), the first by default;
            "each" for one value a cell (Tables 7 and 9).
        by : {"acc", "loss"}, optional
            What chooses it: LOSS for networks, ACC for all others by default.
        loss : {"loss", "balanced_loss"}
            Which LOSS is shown; the other is re-weighted by class (Table 3).
        """
        from .protocol import performance_matrix

        table = self.table
        chosen = [m for m in self.models if model in (None, m.spec.name)]
        if len(chosen) == 1:
            own = chosen[0]
            by = by or own.chosen_by
            sweep = sweep or (own.sweep if own.sweep in (*own.spec.grid, *own.found) else None)
        return performance_matrix(
            table,
            loss_high=not self.problem.categorical,
            model=model,
            fixed=fixed or {},
            sweep=sweep,
            best=best or next(iter(self.experiment.test)),
            by=by or "acc",
            loss=loss,
        )

    # -- what networks leave beside --------------------------------------------------------------

    def record_of(self, job: Job) -> dict[str, Any] | None:
        """Return the record of a step, None of one that failed; computed if need be."""
        if not self._ready:
            self.compute()
        return self._records.get(job.name)

    @property
    def curves(self) -> pd.DataFrame:
        """LOSS and ACC of every trial by epoch (paper, D.3), of models with ``curves = true``.

        Columns: train, test, model, trial, epoch, loss, acc, then what else is swept.
        """
        from .findings import curves

        return curves(self)

    @property
    def sessions(self) -> pd.DataFrame:
        """How networks came to their number of epochs (paper, C.3): one row a training subset.

        Columns: model, train, what is swept, way, threshold (epochs after which models overfit),
        best_epochs (of every model of a first session) and their average, epochs (the best ones),
        extra (epochs after that), inside (whether the lowest loss is not at the last check),
        penalty (mean over the trials of Σ λ‖w‖², which Keras adds to every LOSS), device, seconds.
        """
        from .findings import sessions

        return sessions(self)

    def true_class_probability(
        self,
        train: str,
        of: str = "test",
        *,
        model: str | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return each sample's probability of its own class, mean over trials (paper, D.2 and F).

        That is at the number of epochs whose LOSS on the first test subset is lowest.

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
            row (of the store), label, probability.

        Raises
        ------
        InvalidOptionError
            Where there is none, or more than one.
        """
        from .findings import true_class_probability

        return true_class_probability(self, train, of, model, fixed or {})

    # -- matrices --------------------------------------------------------------------------------

    def matrices(
        self, best: str | None = None, loss: str = "loss"
    ) -> list[PerformanceMatrix | SideBySide]:
        """Return all matrices, of every model those of its other hyper-parameters side by side.

        Settings of which every step failed are left out. `best` and `loss` are those of `matrix`.
        """
        from .protocol import side_by_side

        if not self._ready:
            self.compute()

        found: list[PerformanceMatrix | SideBySide] = []
        for model in self.models:
            own = [job for job in self.jobs if job.model.name == model.spec.name]
            done = [setting for job in own for _, setting in self._done_of(job)]
            others = {
                json.dumps(fixed := {k: v for k, v in s.items() if k != model.sweep}): fixed
                for s in model.spec.settings
            }
            made = [
                self.matrix(model.spec.name, fixed=fixed, best=best, loss=loss)
                for fixed in others.values()
                if any(fixed.items() <= setting.items() for setting in done)
            ]
            if made:
                found.append(made[0] if len(made) == 1 else side_by_side(made))
        return found
