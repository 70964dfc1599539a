"""Stored evaluations as tidy tables of trials, and the matrices they make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..evaluation import Model
from ..evaluation.experiment import BALANCED
from ..evaluation.matrices import PerformanceMatrix
from ..evaluation.models.base import model_class
from ..evaluation.protocol import performance_matrix
from ..evaluation.table import _by_model, _grid, _hashable, _load, _ordered, _parts
from ..store import EvaluationRecords, Store, find_evaluations
from .networks import curves_of, probabilities_of

KEYS = ["train", "test", "trial"]


@dataclass(frozen=True, eq=False)
class ModelTrials:
    """All trials of a model in a store that are tested on the same subsets.

    Attributes
    ----------
    spec : Model
        With the grid that was found.
    sweep : str, optional
        The hyper-parameter that is chosen in performance matrices.
    table : DataFrame
        One row a trial and setting: train, test, model, hyper-parameters, trial, loss, acc,
        balanced_loss.
    loss_high : bool
        Whether a higher LOSS is better.
    by : {"acc", "loss"}
        What chooses the swept hyper-parameter.
    steps : DataFrame
        One row a finished step: seconds, date.
    curves : DataFrame, optional
        Epoch by epoch: train, test, model, trial, epoch, loss, acc.
    probabilities : Series, optional
        Mean probability of the true class by row number, of samples that were trained on.
    """

    spec: Model
    sweep: str | None
    table: pd.DataFrame
    loss_high: bool
    by: str
    steps: pd.DataFrame
    curves: pd.DataFrame | None = None
    probabilities: pd.Series[float] | None = None

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

    def matrices(self, best: str, loss: str = "loss") -> list[PerformanceMatrix]:
        """Return a matrix for every setting of the other hyper-parameters (Tables 2 to 9)."""
        found = []
        for setting, _ in _parts(self.table, self.others):
            made = performance_matrix(
                self.table,
                loss_high=self.loss_high,
                fixed=setting,
                sweep=self.sweep,
                best=best,
                by=self.by,
                loss=loss,
            )
            found.append(made)
        return found


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

    def subset_keys(self) -> dict[str, str]:
        """Return the keys of the subsets' row numbers by name, training subsets first."""
        subsets = self.facts["subsets"]
        return {n: s["key"] for part in ("train", "test") for n, s in subsets[part].items()}


def stored_evaluations(store: Store) -> list[StoredEvaluation]:
    """Return the evaluations of a store's data that have finished steps, the newest last."""
    found = []
    for records in find_evaluations(store):
        facts, kept = records.facts(), _load(store, records)
        models = tuple(
            _model_trials(records, steps, loss_high=store.spec.label_kind != "categorical")
            for steps in _by_model(kept)
        )
        if models:
            found.append(StoredEvaluation(records, facts, models))
    return found


def _model_trials(
    records: EvaluationRecords, kept: Sequence[dict[str, Any]], *, loss_high: bool
) -> ModelTrials:
    facts, about = records.facts(), kept[0]["facts"]
    rows = [
        {
            **{k: row[k] for k in ("train", "test")},
            "model": about["model"],
            **{k: _hashable(v) for k, v in row["setting"].items()},
            "trial": row.get("trial", record["facts"].get("trial")),
            "loss": row["loss"],
            "acc": row["acc"],
            BALANCED: row.get(BALANCED, math.nan),
        }
        for record in kept
        for row in record["rows"]
    ]
    known = {m["name"]: m["grid"] for m in facts["experiment"]["models"]}
    settings = (row["setting"] for record in kept for row in record["rows"])
    grid = _grid(settings, known.get(about["model"], {}))
    table = pd.DataFrame(rows)
    # the same trial may be in the steps of two experiments: the newest counts
    table = table.drop_duplicates([*KEYS, *grid]).reset_index(drop=True)
    spec = Model(about["kind"], grid, about["parameters"], about["options"], about["model"])
    model = model_class(spec.kind)(spec)
    sweep = model.sweep if model.sweep in grid else None
    steps = pd.DataFrame([{k: r["facts"][k] for k in ("seconds", "date")} for r in kept])
    table = _ordered(table, facts, grid)
    keys = {name: subset["key"] for name, subset in facts["subsets"]["train"].items()}
    return ModelTrials(
        spec,
        sweep,
        table,
        loss_high,
        model.chosen_by,
        steps,
        curves_of(records, kept),
        probabilities_of(records, kept, keys),
    )
