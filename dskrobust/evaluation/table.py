"""Records of finished steps as tidy tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from ..store import EvaluationRecords, Store


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
