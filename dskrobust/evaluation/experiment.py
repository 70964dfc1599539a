"""What an experiment is, and reading one from a TOML file."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..datasets.containers import refuse_masked
from ..datasets.splits import SplitOptions
from ..declared_types import check_types, checked_arguments
from ..display import suggestion
from ..errors import Hint, InvalidOptionError, SourceFileError
from ..paths import check_regular, expand_path, local_path
from ..subsets import Subset
from ..whole_numbers import check_whole

Setting = dict[str, Any]  # one combination of a grid: hyper-parameter → value

PACKAGE = Path(__file__).parents[1]
OF_THE_PAPER = (PACKAGE / "experiments", PACKAGE.parent / "notebooks" / "experiments")  # or a clone

MOST_STEPS = 1_000_000  # trainings of an experiment
TRIALS = 25  # as in the paper, 4.1
BALANCED = "balanced_loss"  # of classes: re-weighted so that each counts alike (Table 3)
COLUMNS = ("train", "test", "model", "trial", "seed", "loss", "acc", BALANCED)  # of all trials


@dataclass(frozen=True)
class ModelSpec:
    """A model with its hyper-parameters.

    Attributes
    ----------
    kind : str
        knn, forest, xgboost, xgboost-forest, cnn, resnet56, the import path of a scikit-learn
        estimator, incremental: and that of one with partial_fit, or torch: and that of a torch
        module.
    grid : mapping of str to sequence
        Hyper-parameters to sweep: every combination is trained. The kind's own grid (the paper's)
        where nothing is given.
    parameters : mapping
        Hyper-parameters that stay as they are.
    options : mapping
        How the model is run, such as ``nested = true`` of a forest.
    name : str
        What the results call it; the kind by default.
    """

    kind: str
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not self.kind:
            raise InvalidOptionError(f"a model's kind must be its name, not {self.kind!r}")
        check_types(self)
        object.__setattr__(self, "name", self.name or self.kind)
        grid = {}
        for key, values in self.grid.items():
            if key in COLUMNS:
                raise InvalidOptionError(
                    f"model {self.name}: {key} is a column of the results and cannot be swept; "
                    "give a model with a name of its own for every value, among its parameters"
                )
            if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
                raise InvalidOptionError(
                    f"model {self.name}: the grid's {key} must be a list of values, not {values!r}"
                )
            grid[key] = tuple(_plain(v, f"model {self.name}, grid {key}") for v in values)
            if not grid[key] or len(set(map(_identity, grid[key]))) < len(grid[key]):
                raise InvalidOptionError(
                    f"model {self.name}: the grid's {key} needs values, each of them once"
                )
        object.__setattr__(self, "grid", grid)
        for part in ("parameters", "options"):
            given = getattr(self, part)
            where = f"model {self.name}, {part}"
            plain = {key: _plain(value, f"{where} {key}") for key, value in given.items()}
            object.__setattr__(self, part, plain)
        for key in grid:
            if key in self.parameters:
                raise InvalidOptionError(
                    f"model {self.name}: {key} is both swept by the grid and a fixed parameter; "
                    "leave one out"
                )

    @property
    def is_imported(self) -> bool:
        """Whether the kind is an import path: to make the model runs code of that module."""
        return "." in self.kind or ":" in self.kind

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every combination of the grid, the last hyper-parameter fastest."""
        return tuple(
            dict(zip(self.grid, values, strict=True))
            for values in itertools.product(*self.grid.values())
        )

    def identity(self) -> dict[str, Any]:
        """Return what the predictions depend on besides the setting, as plain values."""
        parts = {"parameters": dict(self.parameters), "options": dict(self.options)}
        return {"kind": self.kind, **parts}

    def with_default_grid(self, grid: Mapping[str, Sequence[Any]]) -> ModelSpec:
        """Return the spec with a grid where it has none; what is fixed is not swept."""
        if self.grid:
            return self
        free = {key: values for key, values in grid.items() if key not in self.parameters}
        return replace(self, grid=free)


Selection = Any  # a text such as "train:L500", a Subset, or an array of row numbers


@dataclass(frozen=True)
class Experiment:
    """Models, what they train and are tested on, and how often.

    Attributes
    ----------
    train, test : mapping of str to selection
        Name → a selection such as GROUP:L500 (see `select_subset`), a `Subset`, or an array of
        row numbers. Rows are always taken in the store's order.
    models : sequence of ModelSpec
    trials : int
        How often a model that is not deterministic is trained.
    seed : int
    threshold : float, optional
        For real labels: values from here on are popular (paper, 4.1), in the labels' own units.
    metric : str, optional
        Which stored result's robustness selects; the newest one by default.
    name : str
    store : str, optional
        Address of the data; the caller may give another.
    folds : int, optional
        Every fold is tested once, and the others together are trained on: in selections those are
        the groups test and train (see `evaluate`).
    """

    train: Mapping[str, Selection]
    test: Mapping[str, Selection]
    models: Sequence[ModelSpec]
    trials: int = TRIALS
    seed: int = 0
    threshold: float | None = None
    metric: str | None = None
    name: str = "experiment"
    store: str | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", _checked_models(self.models))
        for what in ("train", "test"):
            given = getattr(self, what)
            if not isinstance(given, Mapping) or not given:
                letter = "x" if what == "train" else "t"
                raise InvalidOptionError(
                    f'an experiment needs {what} subsets by name, such as {{"{letter}": "{what}"}} '
                    f'(in a TOML file [{what}] and {letter} = "{what}"), not {given!r:.60}'
                )
            object.__setattr__(self, what, dict(given))
            for name, selection in given.items():
                _check_selection(what, name, selection)
        for value, name, least in ((self.trials, "trials", 1), (self.seed, "seed", 0)):
            object.__setattr__(self, name, check_whole(name, value, least))
        check_types(self)
        if self.threshold is not None and not np.isfinite(self.threshold):
            raise InvalidOptionError(f"the threshold must be a number, not {self.threshold!r}")
        if self.folds is not None:
            SplitOptions(folds=self.folds)  # which checks it
        steps = self.trials * len(self.train) * sum(_combinations(m) for m in self.models)
        steps *= self.folds or 1
        if steps > MOST_STEPS:
            raise InvalidOptionError(
                f"{steps:,} trainings are asked for, more than {MOST_STEPS:,}: of every trial, "
                "training subset and combination of the grid; sweep fewer values"
            )
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise InvalidOptionError(
                    f"two models are called {name!r}; give one of them another name"
                )

    def facts(self) -> dict[str, Any]:
        """Return the experiment as plain values, for the record; arrays by their size."""
        return {
            "name": self.name,
            "seed": self.seed,
            "trials": self.trials,
            "threshold": self.threshold,
            "metric": self.metric,
            **({} if self.folds is None else {"folds": self.folds}),
            "train": {name: _words(value) for name, value in self.train.items()},
            "test": {name: _words(value) for name, value in self.test.items()},
            "models": [
                {"name": m.name, **m.identity(), "grid": {k: list(v) for k, v in m.grid.items()}}
                for m in self.models
            ],
        }


def _checked_models(value: Any) -> tuple[ModelSpec, ...]:
    """Return the models as a tuple; a name alone, or one model without a list, is refused."""
    how = 'such as [Model("forest")] (in a TOML file [[models]] and kind = "forest")'
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise InvalidOptionError(f"models must be a list of models, {how}, not {value!r:.60}")
    models = tuple(value)
    if not models:
        raise InvalidOptionError(f"an experiment needs a model, {how}")
    for model in models:
        if not isinstance(model, ModelSpec):
            raise InvalidOptionError(f"models must hold models, {how}, not {model!r:.60}")
    return models


def _check_selection(what: str, name: str, selection: Any) -> None:
    if isinstance(selection, (str, Subset)):
        return
    refuse_masked(selection, f"{what} subset {name!r}")
    rows = np.asarray(selection)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
        raise InvalidOptionError(
            f'{what} subset {name!r} must be a selection such as "{what}:L500", a Subset or an '
            "array of row numbers"
        )


def _combinations(model: ModelSpec) -> int:
    return math.prod(len(values) for values in model.grid.values())


def _words(selection: Any) -> str:
    if isinstance(selection, str):
        return selection
    return selection.name if isinstance(selection, Subset) else f"{len(selection)} rows"


def _plain(value: Any, where: str) -> Any:
    """Return a value that JSON can hold exactly; lists become tuples."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (list, tuple)):
        return tuple(_plain(v, where) for v in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InvalidOptionError(f"{where}: {value!r} is no number, text, true, false or list of them")


def _identity(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


# -- files -----------------------------------------------------------------------------------


class _ModelTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    name: str = ""
    grid: dict[str, list[Any]] = {}
    parameters: dict[str, Any] = {}
    options: dict[str, Any] = {}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    name: str | None = None
    store: str | None = None
    seed: int = 0
    trials: int = TRIALS
    threshold: float | None = None
    metric: str | None = None
    folds: int | None = None
    train: dict[str, str]
    test: dict[str, str]
    models: list[_ModelTable]


def paper_experiments() -> dict[str, Path]:
    """Return the files of the paper's experiments by their names; a wheel holds them too."""
    folder = next((folder for folder in OF_THE_PAPER if folder.is_dir()), None)
    return {path.stem: path for path in folder.glob("*.toml")} if folder else {}


def _experiment_path(path: str | Path) -> Path:
    """Return where an experiment lies: a file, or else one of the paper's by its name."""
    own = expand_path(path)
    return own if own.exists() else paper_experiments().get(str(path), own)


@checked_arguments()
def read_experiment(path: str | Path, *, allow_import: bool = False) -> Experiment:
    """Return the experiment that a TOML file describes; a relative store lies beside the file.

    A model that is an import path is code that the experiment runs. A file of somebody else's, or
    one that everybody may write, names code only if that is allowed.

    Parameters
    ----------
    path : str or path
        The file; or the name of one of the paper's experiments, such as table5-cifar10-knn.
    allow_import : bool
        Whether a file that is not this user's own may name import paths.

    Raises
    ------
    SourceFileError
        For a file that is missing or no TOML.
    InvalidOptionError
        For a key that is unknown, missing or of the wrong type; the message names it. For an import
        path that is not allowed.
    """
    path = _experiment_path(path)
    if path.exists():
        check_regular(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = "" if path.suffix else f"; the paper's are {', '.join(sorted(paper_experiments()))}"
        raise SourceFileError(f"there is no experiment file {path}{known}") from error
    except OSError as error:
        raise SourceFileError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise SourceFileError(f"{path} is no TOML: {error}") from error
    _check_keys(path, data, _File, "")
    for k, model in enumerate(data.get("models") or ()):
        if isinstance(model, dict):
            _check_keys(path, model, _ModelTable, f"models {k + 1}: ")
    try:
        file = msgspec.convert(data, _File)
        models = [ModelSpec(m.kind, m.grid, m.parameters, m.options, m.name) for m in file.models]
        if not allow_import:
            _refuse_foreign_imports(path, models)
        return Experiment(
            train=file.train,
            test=file.test,
            models=models,
            trials=file.trials,
            seed=file.seed,
            threshold=file.threshold,
            metric=file.metric,
            name=file.name or path.stem,
            store=_beside(path, file.store),
            folds=file.folds,
        )
    except msgspec.ValidationError as error:
        raise InvalidOptionError(f"{path}: {_reworded(str(error))}") from error
    except InvalidOptionError as error:
        raise InvalidOptionError(f"{path}: {error.args[0]}", error.hint) from error


def _refuse_foreign_imports(path: Path, models: Iterable[ModelSpec]) -> None:
    """Refuse import paths in a file that this user did not write, or that anybody may write."""
    imported = [model.kind for model in models if model.is_imported]
    whose = _other_owner(path)
    if imported and whose:
        raise InvalidOptionError(
            f"{imported[0]} is an import path, whose code would run, and the file {whose}",
            Hint(
                "read it, then give read_experiment(path, allow_import=True)",
                "read it, then give --allow-import",
            ),
        )


def _other_owner(path: Path) -> str:
    """Return why a file is not only this user's; "" where it is, or where files have no owners."""
    if not hasattr(os, "getuid"):
        return ""
    found = path.stat()
    if found.st_uid != os.getuid():
        return f"belongs to the user {found.st_uid}, not to {os.getuid()}"
    return "can be written by everybody" if found.st_mode & stat.S_IWOTH else ""


def _check_keys(path: Path, data: Mapping[str, Any], table: type, where: str) -> None:
    """Refuse keys that mean nothing, with what may have been meant."""
    known = {f.name: f.required for f in msgspec.structs.fields(table)}
    for key in data:
        if key not in known:
            raise InvalidOptionError(
                f"{path}: {where}key {key!r} is unknown; {suggestion(key, list(known))}"
            )
    for key, required in known.items():
        if required and key not in data:
            raise InvalidOptionError(f"{path}: {where}key {key!r} is missing")


def _reworded(message: str) -> str:
    """Return msgspec's message with the place as a key: Expected `int`, got `str` - at `$.seed`."""
    text, _, place = message.partition(" - at ")
    text, place = text.replace(" | null`", "`"), place.strip("`").removeprefix("$.")
    place = re.sub(r"\[(\d+)\]\.?", lambda match: f" {int(match[1]) + 1}: ", place)
    place = place.replace("[...]", "").rstrip(": ")
    words = {"object": "table", "array": "list", "str": "text", "int": "whole number"}
    for name, word in {**words, "float": "number", "bool": "true or false"}.items():
        text = text.replace(f"`{name}`", word)
    text = text.replace("`", "")
    return f"{place}: {text[:1].lower()}{text[1:]}" if place else text


def _beside(path: Path, store: str | None) -> str | None:
    folder = None if store is None else local_path(store)
    return store if folder is None else str(path.parent / folder)
