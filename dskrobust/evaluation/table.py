"""Records of finished steps as one tidy table of trials, for evaluations and for reports."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import pandas as pd

from .experiment import BALANCED, Setting

Record = Mapping[str, Any]


class ModelRecords(NamedTuple):
    """The finished steps of a model, and the order of its hyper-parameters' values."""

    name: str
    grid: Mapping[str, Sequence[Any]]
    records: Sequence[Record]


def trials_table(
    models: Sequence[ModelRecords], train: Sequence[str], test: Sequence[str], *, balanced: bool
) -> pd.DataFrame:
    """Return one row per model, training subset, setting, trial and test subset, in this order.

    Columns: train, test, model, one per hyper-parameter (None where a model has it not), trial,
    seed, loss, acc and, if `balanced`, balanced_loss (NaN where a record has none). Of a trial that
    is in several records the first counts.

    Parameters
    ----------
    train, test : sequences of str
        Names of the subsets in their order; training subsets that are not named come last.
    """
    own = [tuple(model.grid) for model in models]
    hyper = list(dict.fromkeys(name for names in own for name in names))
    columns = ["train", "test", "model", *hyper, "trial", "seed", "loss", "acc"]
    columns += [BALANCED] if balanced else []
    rows = [row for model in models for row in _rows_of(model, train, test)]
    lacking = {name for name in hyper if any(name not in names for names in own)}
    values = {name: [row.get(name) for row in rows] for name in columns}
    return pd.DataFrame(
        {k: pd.Series(v, dtype=object if k in lacking else None) for k, v in values.items()}
    )


def _rows_of(
    model: ModelRecords, train: Sequence[str], test: Sequence[str]
) -> list[dict[str, Any]]:
    places = [_places(train), *map(_places, model.grid.values()), _places(test)]
    unique: dict[tuple[Any, ...], tuple[list[Any], dict[str, Any]]] = {}
    for record in model.records:
        for row, setting in settings_of(record):
            facts = {name: record["facts"].get(name) for name in ("trial", "seed")}
            values = {**facts, BALANCED: math.nan, **row, "model": model.name, **setting}
            keys = [values["train"], *map(setting.get, model.grid), values["test"]]
            order = [at.get(key, len(at)) for at, key in zip(places, keys, strict=True)]
            order.insert(-1, values["trial"])
            unique.setdefault((*keys, values["trial"]), (order, values))
    return [values for _, values in sorted(unique.values(), key=lambda pair: pair[0])]


def settings_of(record: Record) -> Iterator[tuple[Mapping[str, Any], Setting]]:
    """Yield the rows of a record with their settings."""
    for row in record["rows"]:
        yield row, {name: _hashable(value) for name, value in row["setting"].items()}


def grid_of(
    records: Iterable[Record], asked: Mapping[str, Sequence[Any]]
) -> dict[str, tuple[Any, ...]]:
    """Return the values that occur of every hyper-parameter: as asked, then numbers ascending."""
    values: dict[str, dict[Any, None]] = {}
    for record in records:
        for _, setting in settings_of(record):
            for name, value in setting.items():
                values.setdefault(name, {})[value] = None
    orders = {name: [_hashable(v) for v in asked.get(name, ())] for name in [*asked, *values]}
    return {
        name: tuple(sorted(values[name], key=partial(_place, order=order)))
        for name, order in orders.items()
        if name in values
    }


def _places(values: Sequence[Any]) -> dict[Any, int]:
    return {value: place for place, value in enumerate(values)}


def _place(value: Any, order: Sequence[Any]) -> tuple[int, int, float]:
    if value in order:
        return 0, order.index(value), 0.0
    return (1, 0, float(value)) if isinstance(value, (int, float)) else (2, 0, 0.0)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
