"""From trials to the paper's performance matrices (4.1 and Tables 2 to 9)."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..display import meant, nearest_name
from ..errors import InvalidDataError, InvalidOptionError
from .experiment import BALANCED
from .matrices import (
    BY,
    EACH,
    LOSSES,
    MEASURES,
    PerformanceMatrix,
    SideBySide,
    side_by_side,
    value_text,
)

__all__ = [
    "Choice",
    "PerformanceMatrix",
    "SideBySide",
    "performance_matrix",
    "side_by_side",
    "trimmed_mean",
    "trimmed_means",
]

_KNOWN = ("train", "test", "model", "trial", *MEASURES)
_BESIDE = ("seed", BALANCED)  # may be there too; other columns are hyper-parameters

Key = tuple[str, str, Any]  # training subset, test subset, swept value
Means = tuple[float, float, float]
Runs = dict[Key, dict[int, tuple[float, ...]]]


def trimmed_mean(values: Iterable[float]) -> float:
    """Return the mean without the ⌊0.4 n⌋ highest and as many lowest of n values (paper, 4.1).

    Of 25 values the ten highest and the ten lowest go, and five are averaged. Of one or two
    values none goes; of three or four the middle one or two stay. The order of the values does
    not matter, to the last bit.

    Raises
    ------
    InvalidDataError
        For no values, or NaN among them.
    """
    ordered = np.sort(np.asarray(list(values), np.float64))
    if not len(ordered) or np.isnan(ordered).any():
        raise InvalidDataError(
            f"a trimmed mean needs values that are numbers, not {len(ordered)} with "
            f"{int(np.isnan(ordered).sum())} NaN"
        )
    with np.errstate(invalid="ignore"):  # −∞ and ∞ together
        return float(ordered[_kept(len(ordered))].mean())


def trimmed_means(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the trimmed mean of every column of values (n, k), as of `trimmed_mean`: (k,)."""
    ordered = np.sort(np.asarray(values, np.float64), axis=0)
    means: NDArray[np.float64] = ordered[_kept(len(ordered))].mean(axis=0)
    return means


def _kept(count: int) -> slice:
    """Which of some values in their order are averaged."""
    drop = 2 * count // 5
    return slice(drop, count - drop)


@dataclass(frozen=True)
class Choice:
    """How the value of the swept hyper-parameter is chosen.

    Attributes
    ----------
    sweep : str, optional
        The hyper-parameter; without it, the one that has several values.
    best : str
        A test subset: one value for each training subset, the best on that one (Tables 6 and
        8). "each": one for each cell (Tables 7 and 9).
    by : {"acc", "loss"}
        What chooses: ACC, or LOSS as in Tables 2 to 4 (never the re-weighted one: Table 3 has the
        epochs of Table 2).
    """

    sweep: str | None = None
    best: str = EACH
    by: str = "acc"


def performance_matrix(
    table: pd.DataFrame,
    *,
    loss_high: bool,
    model: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    choice: Choice | None = None,
    loss: str = "loss",
) -> PerformanceMatrix:
    """Return a model's performance matrix from a table of trials.

    Trials are averaged by `trimmed_mean`, LOSS and ACC each by itself. The swept hyper-parameter
    is the one with the highest ACC (or the best LOSS), of equal ones the smallest.

    Parameters
    ----------
    table : DataFrame
        One row a trial: train, test, model, trial, loss, acc, and a column for every
        hyper-parameter (missing where the model does not have it). It may have seed and
        balanced_loss too.
    loss_high : bool
        Whether a higher LOSS is better: for regression (R²) it is, for cross-entropy not.
    model : str, optional
        Needed where the table has several.
    fixed : mapping, optional
        Values of hyper-parameters that are not swept.
    choice : Choice, optional
        Of the swept hyper-parameter's value.
    loss : {"loss", "balanced_loss"}
        Which LOSS is shown; the other is re-weighted by class (Table 3).

    Raises
    ------
    InvalidOptionError
        For an unknown model, hyper-parameter, value, test subset or LOSS, or where a second
        hyper-parameter has several values.
    InvalidDataError
        Where the table lacks columns or rows, has a trial twice, or an ACC that is NaN.
    """
    choice = choice or Choice()
    best, by = choice.best, choice.by
    found = averages(table, choice, model=model, fixed=fixed, loss=loss)
    shape = len(found.test), len(found.train)
    losses, acc = np.full(shape, np.nan), np.full(shape, np.nan)
    values = np.full(shape, None, dtype=object)
    counts = []
    costs = costs_of(found.means, by, loss_high=loss_high)
    for j, x in enumerate(found.train):
        for i, t in enumerate(found.test):
            value = cheapest(costs, x, t if best == EACH else best)
            if (x, t, value) in found.means:
                losses[i, j], acc[i, j], _ = found.means[x, t, value]
                values[i, j] = value
                counts.append(found.counts[x, t, value])
    trials = (min(counts), max(counts)) if counts else (0, 0)
    return PerformanceMatrix(
        found.train, found.test, losses, acc, values, found.model, found.sweep, best, loss_high,
        found.parameters, trials, by=by, balanced=loss == BALANCED,
    )  # fmt: skip


class Averages(NamedTuple):
    """What the trials of a model come to.

    Attributes
    ----------
    model : str
    sweep : str, optional
        The swept hyper-parameter.
    parameters : dict
        The others.
    train, test : tuple of str
    means : dict
        Training subset, test subset and swept value → trimmed means of the LOSS that is shown, of
        ACC, and of the LOSS that chooses.
    counts : dict
        The same → number of trials.
    """

    model: str
    sweep: str | None
    parameters: dict[str, Any]
    train: tuple[str, ...]
    test: tuple[str, ...]
    means: dict[Key, Means]
    counts: dict[Key, int]


def averages(
    table: pd.DataFrame,
    choice: Choice,
    *,
    model: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    loss: str = "loss",
) -> Averages:
    """Return the trimmed means of a model's trials; see `performance_matrix`."""
    for what, asked, known in (("choice by", choice.by, BY), ("LOSS", loss, LOSSES)):
        if asked not in known:
            raise InvalidOptionError(
                f"there is no {what} {asked!r}{meant(asked, known)}; choose {' or '.join(known)}"
            )
    model, rows = _model_rows(table, model, {*(fixed or {}), choice.sweep}, loss)
    rows = _fixed_rows(rows, fixed or {})
    sweep, parameters = _parameters(rows, choice.sweep)
    train, test = (tuple(dict.fromkeys(rows[c])) for c in ("train", "test"))
    if choice.best != EACH:
        _check_known("test subset", choice.best, test)
    runs = _collect(rows, sweep, loss)
    means = {key: _means(key, tuple(trials.values())) for key, trials in runs.items()}
    counts = {key: len(trials) for key, trials in runs.items()}
    return Averages(model, sweep, parameters, train, test, means, counts)


def costs_of(means: Mapping[Key, Means], by: str, *, loss_high: bool) -> dict[Key, float]:
    """Return what chooses, so that what is small is best."""
    return {
        key: -acc if by == "acc" else -own if loss_high else own
        for key, (_, acc, own) in means.items()
    }


def _model_rows(
    table: pd.DataFrame, model: str | None, asked: Container[str | None], loss: str
) -> tuple[str, pd.DataFrame]:
    """Rows of a model, with plain values; hyper-parameters that it has not only where asked for.

    Those it has may all be None too.
    """
    lacking = [name for name in (*_KNOWN, loss) if name not in table.columns]
    if lacking:
        raise InvalidDataError(f"a table of trials needs the column {lacking[0]!r}")
    if table.empty:
        raise InvalidDataError("the table has no trials yet; run the experiment first")
    models = list(dict.fromkeys(table["model"]))
    if model is None:
        if len(models) > 1:
            raise InvalidOptionError(f"the table has several models; name one of {_list(models)}")
        model = str(models[0])
    _check_known("model", model, models)
    rows = table[table["model"] == model]
    extra = [name for name in rows.columns if name not in (*_KNOWN, *_BESIDE)]
    plain = {name: [_plain(value) for value in rows[name]] for name in extra}
    own = {k: v for k, v in plain.items() if k in asked or any(value is not None for value in v)}
    return model, rows[list(dict.fromkeys((*_KNOWN, loss)))].assign(
        **{name: pd.Series(v, index=rows.index, dtype=object) for name, v in own.items()}
    )


def _plain(value: Any) -> Any:
    """A value that can be a key: NaN as None, 5.0 as 5, a list as a tuple, a table as JSON."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else value
    return None if value is pd.NA else value


def _fixed_rows(rows: pd.DataFrame, fixed: Mapping[str, Any]) -> pd.DataFrame:
    names = [name for name in rows.columns if name not in (*_KNOWN, *_BESIDE)]
    for name, asked in fixed.items():
        _check_known("hyper-parameter", name, names)
        known = list(dict.fromkeys(rows[name]))
        value = _plain(asked)
        if value not in known:
            raise InvalidOptionError(
                f"no trial has {name} = {asked!r}; there are {_list(sorted(known, key=_order))}"
            )
        rows = rows[[v == value for v in rows[name]]]
    return rows


def _parameters(rows: pd.DataFrame, sweep: str | None) -> tuple[str | None, dict[str, Any]]:
    """The swept hyper-parameter, and the values of the others."""
    names = [name for name in rows.columns if name not in (*_KNOWN, *_BESIDE)]
    several = {n: v for n in names if len(v := list(dict.fromkeys(rows[n]))) > 1}
    if sweep is not None:
        _check_known("hyper-parameter", sweep, names)
    elif len(several) == 1:
        sweep = next(iter(several))
    for name, values in several.items():
        if name != sweep:
            raise InvalidOptionError(
                f"{name} has several values, {_list(sorted(values, key=_order))}; sweep it or "
                f"give one with fixed={{{name!r}: …}}"
            )
    return sweep, {name: rows[name].iloc[0] for name in names if name != sweep}


def _collect(rows: pd.DataFrame, sweep: str | None, loss: str) -> Runs:
    """LOSS, ACC and the LOSS that chooses of every trial, by both subsets and swept value."""
    runs: Runs = {}
    values = [None] * len(rows) if sweep is None else rows[sweep]
    columns = (rows[name] for name in ("train", "test", "trial", loss, "acc", "loss"))
    for value, train, test, trial, *measured in zip(values, *columns, strict=True):
        trials = runs.setdefault((train, test, value), {})
        if trial in trials:
            raise InvalidDataError(
                f"trial {trial} of {train} on {test}{f', {sweep} = {value}' if sweep else ''} "
                "is in the table twice"
            )
        trials[trial] = tuple(map(float, measured))
    return runs


def _means(key: Key, trials: Sequence[tuple[float, ...]]) -> Means:
    shown, accs, losses = zip(*trials, strict=True)
    try:
        return _mean_loss(shown), trimmed_mean(accs), _mean_loss(losses)
    except InvalidDataError as error:
        raise InvalidDataError(f"trials of {key[0]} on {key[1]}: {error}") from error


def _mean_loss(values: Sequence[float]) -> float:
    """The trimmed mean; NaN for a model without probabilities, which has no LOSS in any trial."""
    return math.nan if all(map(math.isnan, values)) else trimmed_mean(values)


def cheapest(costs: Mapping[Key, float], x: str, t: str) -> Any:
    """Return the value with the lowest cost for x on t, of equal ones the smallest."""
    cost_of = {
        value: cost for (train, test, value), cost in costs.items() if (train, test) == (x, t)
    }
    # equal means of other trials may differ in their last bit; what has no LOSS is never best
    return min(cost_of, key=lambda v: (math.isnan(cost_of[v]), round(cost_of[v], 12), _order(v)),
               default=None)  # fmt: skip


def _order(value: Any) -> tuple[int, float, str]:
    """How values of a hyper-parameter are ordered: numbers, texts, none."""
    if value is None:
        return 2, 0.0, ""
    if isinstance(value, (bool, int, float)):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def _check_known(what: str, name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    near = nearest_name(name, known)
    hint = f"did you mean {near!r}?" if near else f"there are {_list(known) or 'none'}"
    raise InvalidOptionError(f"there is no {what} {name!r} in the table; {hint}")


def _list(values: Iterable[Any]) -> str:
    return ", ".join(value_text(value) for value in values)
