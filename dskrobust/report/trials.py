"""Stored evaluations as tidy tables of trials, and the matrices they make."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..evaluation import Model
from ..evaluation.experiment import BALANCED
from ..evaluation.matrices import EACH, PerformanceMatrix
from ..evaluation.models import model_class
from ..evaluation.protocol import Choice, performance_matrix
from ..evaluation.table import ModelRecords, grid_of, trials_table
from ..store import EvaluationRecords, Store, find_evaluations
from ..validation import FOLD
from .networks import curves_of, probabilities_of


@dataclass(frozen=True, eq=False)
class ModelTrials:
    """All trials of a model in a store that are tested on the same subsets.

    Attributes
    ----------
    spec : Model
        With the values that occur as its grid.
    sweep : str, optional
        The hyper-parameter that is chosen in performance matrices.
    table : DataFrame
        One row a trial, setting and test subset, as `Evaluation.table` has it.
    loss_high : bool
        Whether a higher LOSS is better.
    by : {"acc", "loss"}
        What chooses the swept hyper-parameter.
    steps : DataFrame
        One row a finished step: seconds, date.
    curves : DataFrame, optional
        Epoch by epoch: train, test, model, trial, epoch, loss, acc.
    probabilities : Series, optional
        Trimmed mean probability of the true class by row, of samples that were trained on.
    """

    spec: Model
    sweep: str | None
    table: pd.DataFrame
    loss_high: bool
    by: str
    steps: pd.DataFrame
    curves: pd.DataFrame | None = None
    probabilities: pd.Series[float] | None = None

    def ways(self, first: str) -> list[str]:
        """Which test subset chooses: the first, then each its own where there is a choice."""
        choice = self.sweep is not None and len(self.spec.grid[self.sweep]) > 1
        return [first, EACH] if choice else [first]

    @property
    def is_curve(self) -> bool:
        """Whether the swept hyper-parameter has three numbers at least, to draw a line."""
        values = self.spec.grid[self.sweep] if self.sweep else ()
        return len(values) > 2 and all(isinstance(v, (int, float)) for v in values)

    @property
    def measures(self) -> list[str]:
        """LOSS and ACC, as far as there are numbers."""
        return [name for name in ("loss", "acc") if self.table[name].notna().any()]

    @property
    def others(self) -> list[str]:
        """Hyper-parameters that are swept beside the chosen one."""
        return [name for name in self.spec.grid if name != self.sweep]

    @property
    def losses(self) -> list[str]:
        """LOSS, and of networks the LOSS re-weighted by class too (Table 3)."""
        known = self.by == "loss" and self.table[BALANCED].notna().any()
        return ["loss", BALANCED] if known else ["loss"]

    @property
    def settings(self) -> list[dict[str, Any]]:
        """Settings of the hyper-parameters beside the chosen one."""
        return [setting for setting, _ in _parts(self.table, self.others)]

    def matrices(self, best: str, loss: str = "loss") -> list[PerformanceMatrix]:
        """Return a matrix for every setting of the other hyper-parameters (Tables 2 to 9)."""
        return [
            performance_matrix(
                self.table,
                loss_high=self.loss_high,
                fixed=setting,
                choice=Choice(self.sweep, best, self.by),
                loss=loss,
            )
            for setting in self.settings
        ]


@dataclass(frozen=True, eq=False)
class StoredEvaluation:
    """What a store knows of models that are tested on the same subsets with the same seed.

    Attributes
    ----------
    records : EvaluationRecords
    facts : mapping
        As the latest experiment left them.
    models : tuple of ModelTrials
    """

    records: EvaluationRecords
    facts: Mapping[str, Any]
    models: tuple[ModelTrials, ...]

    @property
    def tests(self) -> tuple[str, ...]:
        """Names of the test subsets."""
        return tuple(self.facts["subsets"]["test"])

    @property
    def fold(self) -> Mapping[str, Any] | None:
        """Which of how many folds is tested, and how they were drawn; None for one split."""
        fold: Mapping[str, Any] | None = self.facts.get("fold")
        return fold

    def subset_keys(self) -> dict[str, str]:
        """Return the keys of the subsets' row numbers by name, training subsets first."""
        subsets = self.facts["subsets"]
        return {n: s["key"] for part in ("train", "test") for n, s in subsets[part].items()}


def trial_values(
    table: pd.DataFrame, matrix: PerformanceMatrix, measure: str, i: int, j: int
) -> NDArray[np.float64]:
    """Return what every trial of a cell of a matrix made, (k,) float64."""
    own = (table["train"] == matrix.train[j]) & (table["test"] == matrix.test[i])
    if matrix.sweep is not None:
        own &= table[matrix.sweep] == matrix.values[i, j]
    for name, value in matrix.parameters.items():
        own &= table[name] == value
    return table.loc[own, measure].to_numpy(np.float64)


def stored_evaluations(store: Store) -> list[StoredEvaluation]:
    """Return the evaluations of a store's data that have finished steps, the newest last.

    Those that a tailoring measured its options by are not among them: what they come to is told
    where it is.
    """
    categorical = store.spec.label_kind == "categorical"
    evaluations = []
    for records in find_evaluations(store):
        facts = records.facts()
        if str(facts["experiment"].get("name", "")).startswith(FOLD):
            continue
        models = tuple(
            _model_trials(records, facts, steps, categorical=categorical)
            for steps in _by_model(_finished(records))
        )
        if models:
            evaluations.append(StoredEvaluation(records, facts, models))
    return evaluations


def _finished(records: EvaluationRecords) -> list[dict[str, Any]]:
    """Records of all finished steps, the newest first."""
    steps = []
    for name in records.steps():
        record = records.load(name)
        if record is not None:
            steps.append({**record, "step": name})
    return sorted(steps, key=lambda record: str(record["facts"]["date"]), reverse=True)


def _by_model(steps: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Records that belong together: of one model with the same parameters and options."""
    models: dict[str, list[dict[str, Any]]] = {}
    for record in steps:
        identity = [record["facts"][k] for k in ("model", "kind", "parameters", "options")]
        models.setdefault(json.dumps(identity, sort_keys=True), []).append(record)
    return [models[key] for key in sorted(models)]


def _model_trials(
    records: EvaluationRecords,
    facts: Mapping[str, Any],
    steps: Sequence[dict[str, Any]],
    *,
    categorical: bool,
) -> ModelTrials:
    about, subsets = steps[0]["facts"], facts["subsets"]
    asked = {m["name"]: m["grid"] for m in facts["experiment"]["models"]}
    grid = grid_of(steps, asked.get(about["model"], {}))
    spec = Model(about["kind"], grid, about["parameters"], about["options"], about["model"])
    model = model_class(spec.kind)(spec)
    # the same trial may be in the steps of two experiments: the newest counts
    table = trials_table(
        [ModelRecords(spec.name, grid, steps)],
        list(subsets["train"]),
        list(subsets["test"]),
        balanced=categorical,
    )
    return ModelTrials(
        spec,
        model.sweep if model.sweep in grid else None,
        table,
        loss_high=not categorical,
        by=model.chosen_by,
        steps=pd.DataFrame([{k: r["facts"][k] for k in ("seconds", "date")} for r in steps]),
        curves=curves_of(records, steps),
        probabilities=probabilities_of(
            records, steps, {name: subset["key"] for name, subset in subsets["train"].items()}
        ),
    )


def _parts(table: pd.DataFrame, names: Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Rows by their values of some columns, in the table's order."""
    if not names:
        return [({}, table)]
    grouped = table.groupby(list(names), sort=False, dropna=False)
    return [(dict(zip(names, values, strict=True)), part) for values, part in grouped]
