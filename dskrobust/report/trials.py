"""Stored evaluations as tidy tables of trials, and the matrices they make."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from ..evaluation import Model
from ..evaluation.experiment import BALANCED
from ..evaluation.matrices import PerformanceMatrix
from ..evaluation.models import model_class
from ..evaluation.protocol import performance_matrix
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


def _load(store: Store, records: EvaluationRecords) -> list[dict[str, Any]]:
    """Records of all finished steps, the newest first; damaged ones are left out."""
    try:
        names = list(store.group[f"{records.path}/steps"].array_keys())  # type: ignore[union-attr]
    except KeyError:
        return []
    found = [{**record, "step": name} for name in names if (record := records.load(name))]
    return sorted(found, key=lambda record: str(record["facts"]["date"]), reverse=True)


def _by_model(records: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Records that belong together: of one model with the same parameters and options."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        facts = record["facts"]
        identity = [facts[k] for k in ("model", "kind", "parameters", "options")]
        found.setdefault(json.dumps(identity, sort_keys=True), []).append(record)
    return [found[key] for key in sorted(found)]


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


def _grid(
    settings: Iterable[Mapping[str, Any]], given: Mapping[str, Sequence[Any]]
) -> dict[str, list[Any]]:
    """Hyper-parameters and the values that occur: in the given order, then numbers ascending."""
    found: dict[str, dict[Any, None]] = {}
    for setting in settings:
        for name, value in setting.items():
            found.setdefault(name, {})[_hashable(value)] = None
    orders = {name: [_hashable(v) for v in given.get(name, ())] for name in [*given, *found]}
    return {
        name: sorted(found[name], key=partial(_place, order=order))
        for name, order in orders.items()
        if name in found
    }


def _place(value: Any, order: Sequence[Any]) -> tuple[int, int, float]:
    if value in order:
        return 0, order.index(value), 0.0
    return (1, 0, float(value)) if isinstance(value, (int, float)) else (2, 0, 0.0)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _ordered(
    table: pd.DataFrame, facts: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]
) -> pd.DataFrame:
    """Rows in the order of an evaluation's table: training subset, setting, trial, test subset."""
    places = {k: {n: i for i, n in enumerate(facts["subsets"][k])} for k in ("train", "test")}
    keys = [table["train"].map(places["train"]).fillna(len(places["train"]))]
    keys += [table[k].map({v: i for i, v in enumerate(values)}) for k, values in grid.items()]
    keys += [table["trial"], table["test"].map(places["test"])]
    order = pd.concat(keys, axis=1, keys=range(len(keys)))
    return table.loc[order.sort_values(list(order)).index].reset_index(drop=True)


def _parts(table: pd.DataFrame, names: Sequence[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Rows by their values of some columns, in the table's order."""
    if not names:
        return [({}, table)]
    grouped = table.groupby(list(names), sort=False, dropna=False)
    return [(dict(zip(names, values, strict=True)), part) for values, part in grouped]
