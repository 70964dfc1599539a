"""What `evaluate` takes where nothing is said, and the command that works on a given store."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import join
from typing import NamedTuple

from ..display import meant
from ..errors import Hint, InvalidOptionError, StaleResultsError
from ..folds import has_folds, make_folds
from ..store import Store, current_results
from .entry import evaluate
from .experiment import Experiment, ModelSpec
from .folds import fold_subsets
from .models.knn import NearestNeighbours

TRAIN, TEST = "train", "test"
LETTERS = {TRAIN: "x", TEST: "t"}
ONE_GROUP = Hint(
    "ingest the data with test_size=0.2, or create the store with a split",
    "ingest the data with --test-size 0.2, or link it with --split",
)


def default_subsets(store: Store, group: str) -> dict[str, str]:
    """Return a group and, where the store has results, its least and most robust halves.

    Parameters
    ----------
    store : Store
    group : {"train", "test"}

    Raises
    ------
    InvalidOptionError
        Where there is no group of that name.
    """
    letter = LETTERS[group]
    if group not in store.groups:
        raise InvalidOptionError(
            f"there is no group {group!r}{meant(group, store.groups)}, the groups are "
            f"{', '.join(store.groups)}; say what to take with --{group} {letter}=SELECTION",
            _instead(store),
        )
    rows = _group_rows(store, group)
    try:
        current_results(store)
    except StaleResultsError:
        return {letter: group}
    half = rows // 2
    if not half:
        return {letter: group}
    return {
        letter: group,
        f"{letter}_L": f"{group}:L{half}",
        f"{letter}_M": f"{group}:M{rows - half}",
    }


def _instead(store: Store) -> Hint | None:
    """Return what to do where there are no such groups."""
    if has_folds(store):
        count = make_folds(store).count
        return Hint(f"give folds={count}", f"give --folds {count}")
    return ONE_GROUP if len(store.groups) == 1 else None


def evaluate_command(store: Store, kind: str = "knn", options: Sequence[str] = ()) -> str:
    """Return a command that evaluates a model on a store, checked against the store.

    Parameters
    ----------
    store : Store
    kind : str
        Of the model.
    options : sequence of str
        Of the model, each KEY=VALUE with the value true, false or text.

    Raises
    ------
    InvalidOptionError
        Where there is none; the message says why.
    """
    asked = _of_folds(store) if has_folds(store) else _of_groups(store)
    arguments = ["dskrobust", "evaluate", store.url, "--model", kind, *asked.arguments]
    grid: dict[str, list[int]] = {}
    if kind == "knn" and asked.fewest < max(NearestNeighbours.default_grid(True)["neighbors"]):
        grid = {"neighbors": list(range(1, asked.fewest + 1))}
        arguments += ["--grid", f"neighbors=1:{asked.fewest}"]
    given = dict(option.split("=", 1) for option in options)
    for option in options:
        arguments += ["--option", option]
    values = {name: {"true": True, "false": False}.get(v, v) for name, v in given.items()}
    models = [ModelSpec(kind, grid, options=values)]
    experiment = Experiment(asked.train, asked.test, models, folds=asked.folds)
    evaluate(store, experiment)  # which checks it, and runs nothing
    return join(arguments)


class _Asked(NamedTuple):
    """Subsets, how a command names them, the rows of the smallest training subset, and folds."""

    train: dict[str, str]
    test: dict[str, str]
    arguments: list[str]
    fewest: int
    folds: int | None = None


def _of_folds(store: Store) -> _Asked:
    folds = make_folds(store)
    train, test = fold_subsets(folds, None)
    rows = min(folds.train_size(number + 1) for number in range(folds.count))
    fewest = rows if len(train) == 1 else rows // 2
    return _Asked(train, test, ["--folds", str(folds.count)], fewest, folds.count)


def _of_groups(store: Store) -> _Asked:
    sides, arguments = _sides(store), []
    if sides == {TRAIN: TRAIN, TEST: TEST}:
        train, test = (default_subsets(store, group) for group in sides.values())
    else:
        train, test = ({LETTERS[side]: group} for side, group in sides.items())
        arguments = [f"--{side}={LETTERS[side]}={group}" for side, group in sides.items()]
    rows = _group_rows(store, sides[TRAIN])
    return _Asked(train, test, arguments, rows if len(train) == 1 else rows // 2)


def _sides(store: Store) -> dict[str, str]:
    """Return the groups to train and to test on: those of these names, or the two largest."""
    held = [group for group in store.groups if _group_rows(store, group)]
    if {TRAIN, TEST} <= set(held):
        return {TRAIN: TRAIN, TEST: TEST}
    if len(held) < 2:
        raise InvalidOptionError(
            f"{store.url} has one group, and models are trained on one and tested on another",
            ONE_GROUP,
        )
    first, second = sorted(held, key=lambda group: -_group_rows(store, group))[:2]
    return {TRAIN: first, TEST: second}


def _group_rows(store: Store, group: str) -> int:
    known = store.summary.groups.get(store.groups.index(group))
    return known.rows if known else 0
