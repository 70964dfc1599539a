"""What `evaluate` takes where nothing is said, and the command that works on a given store."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import join

from ..errors import Hint, InvalidOptionError, StaleResultsError
from ..store import Store, current_results
from .evaluation import Evaluation
from .experiment import Experiment, ModelSpec
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
            f"there is no group {group!r}, the groups are {', '.join(store.groups)}; say what to "
            f"take with --{group} {letter}=SELECTION",
            ONE_GROUP if len(store.groups) == 1 else None,
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
    sides = _sides(store)
    arguments = ["dskrobust", "evaluate", store.url, "--model", kind]
    if sides == {TRAIN: TRAIN, TEST: TEST}:
        named = [default_subsets(store, group) for group in sides.values()]
    else:
        named = [{LETTERS[side]: group} for side, group in sides.items()]
        arguments += [f"--{side}={LETTERS[side]}={group}" for side, group in sides.items()]
    grid: dict[str, list[int]] = {}
    if kind == "knn":
        rows = _group_rows(store, sides[TRAIN])
        fewest = rows if len(named[0]) == 1 else rows // 2
        if fewest < max(NearestNeighbours.default_grid(True)["neighbors"]):
            grid = {"neighbors": list(range(1, fewest + 1))}
            arguments += ["--grid", f"neighbors=1:{fewest}"]
    given = dict(option.split("=", 1) for option in options)
    for option in options:
        arguments += ["--option", option]
    values = {name: {"true": True, "false": False}.get(v, v) for name, v in given.items()}
    models = [ModelSpec(kind, grid, options=values)]
    Evaluation(store, Experiment(named[0], named[1], models))  # which checks it, and runs nothing
    return join(arguments)


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
