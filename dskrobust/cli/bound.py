"""The command `bound`: how far a model is from the labels, and A.4's lower bound."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from ..errors import Hint
from .memory import say_memory
from .options import (
    File,
    cluster_options,
    json_option,
    metric_option,
    opened_store,
    store_argument,
    where_options,
)

if TYPE_CHECKING:
    from ..error_summary import ErrorSummary
    from ..store import Store

SMALLER = Hint("compare on a part of the rows", "give --train and --test parts of the groups")
MODELS = {  # name → estimators for classes and for numbers
    "knn": ("sklearn.neighbors.KNeighborsClassifier", "sklearn.neighbors.KNeighborsRegressor"),
    "forest": (
        "sklearn.ensemble.RandomForestClassifier",
        "sklearn.ensemble.RandomForestRegressor",
    ),
}


@click.command()
@store_argument
@click.option("--predictions", "-p", type=File(exists=True, dir_okay=False), metavar="FILE",
              help="Classes, values (in the labels' own units) or probabilities of all rows, in "
              "their order: .npy, .csv or .parquet with a column for every class.")  # fmt: skip
@click.option("--model", metavar="MODEL",
              help="Instead of predictions: knn, forest, or the import path of a scikit-learn "
              "estimator; it is fitted on the training set.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
              help="A parameter of the model, such as n_neighbors=1.")  # fmt: skip
@click.option("--train", "-x", default="train", show_default=True, metavar="SET",
              help="Training set: a group or a selection, such as train:L5000.")  # fmt: skip
@click.option("--test", "-t", default="test", show_default=True, metavar="SET",
              help="Test set.")  # fmt: skip
@metric_option
@where_options
@json_option
def bound(
    store: str,
    predictions: str | None,
    model: str | None,
    settings: tuple[str, ...],
    train: str,
    test: str,
    metric: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Compare a model F with the labels y that it extends, and name the rows to look at.

    Over training and test set together: the largest error, ‖F − y‖∞; how fast the error changes,
    L(F − y), and between which two rows; and the bound of the paper's A.4, the largest difference
    between Q of the labels and of the model. Where the labels are steeper, a label may be wrong or
    the model too smooth; where the model is, it is too flexible.

    \b
    Examples:
      dskrobust bound mnist.zarr --model knn --set n_neighbors=1
      dskrobust bound mnist.zarr --predictions probabilities.npy
    """
    from ..memory import projected_peak
    from ..model_error import lipschitz_error
    from .compute import shown_work, workers_for

    if (predictions is None) == (model is None):
        raise click.UsageError("give either --predictions FILE or --model NAME")
    if settings and model is None:
        raise click.UsageError("--set is of a --model")
    options, opened = cluster_options(**where), opened_store(store)
    named = opened.spec.classes is not None
    given = (
        _read(predictions, named) if predictions else named_estimator(opened, model or "", settings)
    )
    with workers_for(opened, options):
        error = lipschitz_error(opened, given, train, test, metric=metric or "euclidean")
        projected = projected_peak("comparing a model with the labels", error.memory, SMALLER)
        with shown_work("Comparing the model with the labels"):
            found = error.summary()
    if as_json:
        click.echo(json.dumps(found.facts(), indent=2))
    else:
        _print(opened, found, store)
        say_memory(projected)


def _read(address: str, named: bool) -> Any:
    """Return the predictions in a file; a single column is text where classes have names."""
    import pandas as pd

    from ..datasets.arrays import mapped_array
    from ..errors import SourceFileError

    end = Path(address).suffix.lower()
    if end == ".npy":
        return mapped_array(address)
    if end not in (".csv", ".parquet"):
        raise SourceFileError(f"{address} must end in .npy, .csv or .parquet")
    try:
        if end == ".parquet":
            return pd.read_parquet(address)
        text = named and len(pd.read_csv(address, nrows=0).columns) == 1
        how: Any = {"dtype": str, "keep_default_na": False} if text else {}
        return pd.read_csv(address, **how)
    except (OSError, EOFError, ValueError) as error:
        said = " ".join(str(error).split())
        raise SourceFileError(f"{address} cannot be read: {said}") from error


def named_estimator(store: Store, name: str, settings: tuple[str, ...]) -> Any:
    """Return an estimator by its name or import path, with its parameters; refuse unknown ones."""
    from ..display import suggestion
    from ..errors import InvalidOptionError
    from ..own_code import imported

    regressor = store.spec.label_kind != "categorical"
    path = MODELS[name][regressor] if name in MODELS else name
    module, _, found = path.rpartition(".")
    if not module:
        raise InvalidOptionError(
            f"there is no model {name!r}; {suggestion(name, tuple(MODELS))} (or give the import "
            "path of an estimator, such as sklearn.svm.SVC)"
        )
    try:
        estimator = imported(module, found)()
    except Exception as error:  # whatever a module does when it is imported
        raise InvalidOptionError(f"model {name!r} cannot be made: {error}") from error
    lacking = [what for what in ("fit", "predict", "get_params") if not hasattr(estimator, what)]
    if lacking:
        raise InvalidOptionError(
            f"model {name!r} is no estimator that predicts: it has no {lacking[0]}"
        )
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    pairs = [text.partition("=") for text in settings]
    try:
        return estimator.set_params(**{key: _value(text) for key, _, text in pairs})
    except ValueError as error:
        raise InvalidOptionError(f"model {name!r}: {' '.join(str(error).split())}") from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def _print(store: Store, found: ErrorSummary, address: str) -> None:
    """Show the numbers, the rows that attain them, and what to do."""
    from ..datasets import label_ends
    from ..show import terminal

    at = found.bound
    rows = [
        ("L(F − y)", found.lipschitz.value, (found.lipschitz.row, found.lipschitz.other)),
        ("‖F − y‖∞", found.deviation.value, (found.deviation.row,)),
        ("their sum", found.norm, ()),
        ("bound (A.4)", at.value, (at.row,)),
        ("  Q of y", at.label_quotient, (at.row, at.label_partner)),
        ("  Q of F", at.model_quotient, (at.row, at.model_partner)),
        ("largest γ", found.gamma.value, (found.gamma.row,)),
    ]
    terminal.heading(f"Model error on {found.x} ∪ {found.t} ({found.sums.rows:,} samples)")
    table = terminal.table("", "value", "attained by", text=(0, 2))
    for name, value, attained in rows:
        there = [row for row in attained if row >= 0]
        terminal.add_row(table, name, terminal.number(value), _named(store, there))
    terminal.show(table)
    for text in found.words():
        terminal.say(text)
    if label_ends(store.spec) is not None:
        terminal.say(
            "The labels were scaled when they came into the store: errors and slopes are of those "
            "in the store, labels of rows and predictions in a file in their own units.",
            style=terminal.QUIET,
        )
    if found.bound.value:
        terminal.fact("next", f"dskrobust show {quote(address)} {at.row}")


def _named(store: Store, rows: list[int]) -> str:
    """Return rows with their ids, where they have some, and labels."""
    from ..datasets import label_ends, restore_labels
    from ..labels import label_name

    labels: Any = store.labels[rows] if rows else []
    if rows and label_ends(store.spec) is not None:
        labels = restore_labels(store.spec, labels)
    ids: Any = store.ids[rows] if rows and store.has_ids else [None] * len(rows)
    said = []
    for row, label, name in zip(rows, labels, ids, strict=True):
        shown = label_name(label, store.spec.classes) if label.ndim == 0 else "vector"
        said.append(f"{row:,} ({shown}{'' if name is None else f', {name}'})")
    return " – ".join(said)
