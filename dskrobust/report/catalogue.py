"""Every table and figure of the paper, and what makes it from one's own stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from ..errors import InvalidOptionError

STORE = ".zarr"
OURS = ("plane",)  # data sets that come with dskrobust


@dataclass(frozen=True)
class Entry:
    """A table, figure, algorithm or definition of the paper.

    Attributes
    ----------
    name : str
        As the paper calls it: Table 1, Figure 4.
    what : str
    section : str
    command : str
        The command that makes it, given a store with results.
    function : str
        The Python function or method that does, by its full name.
    needs : str
        The command that has to run before, where results of the store are not enough.
    figure : str
        Of a figure: what `draw` calls it.
    """

    name: str
    what: str
    section: str
    command: str
    function: str
    needs: str = ""
    figure: str = ""

    @property
    def store(self) -> str:
        """Name of the store that the command takes, without .zarr."""
        stores = [w for w in self.command.split() if w.endswith(STORE)]
        return stores[0].removesuffix(STORE)

    @property
    def steps(self) -> tuple[str, ...]:
        """All commands from nothing to it; DIR stands for the folder of the official files."""
        source = "" if self.store in OURS else " --source DIR"
        steps = [f"dskrobust ingest {self.store}{source}", f"dskrobust compute {self.store}{STORE}"]
        return tuple(dict.fromkeys(filter(None, (*steps, self.needs, self.command))))

    def resolve(self) -> Callable[..., Any]:
        """Return the function.

        Raises
        ------
        InvalidOptionError
            Where there is none of that name.
        """
        parts = self.function.split(".")
        modules = [k for k in range(len(parts)) if all(p.islower() for p in parts[: k + 1])]
        for k in reversed(modules):
            try:
                target: Any = import_module(".".join(parts[: k + 1]))
                for name in parts[k + 1 :]:
                    target = getattr(target, name)
            except (ModuleNotFoundError, AttributeError):
                continue
            assert callable(target)
            return target
        raise InvalidOptionError(f"{self.name}: there is no {self.function}")


def _labels(number: int, what: str, section: str, store: str, *sizes: int) -> Entry:
    asked = " ".join(f"--least {size} --most {size}" for size in sizes)
    command = f"dskrobust subsets {store}.zarr {asked}"
    return Entry(f"Table {number}", what, section, command, "dskrobust.class_counts")


def _matrix(
    number: int, what: str, section: str, experiment: str, store: str, options: str = ""
) -> Entry:
    command = f"dskrobust run notebooks/experiments/{experiment}.toml {store}.zarr{options}"
    return Entry(f"Table {number}", what, section, command, "dskrobust.Evaluation.matrices")


def _figure(
    number: int,
    what: str,
    section: str,
    store: str,
    function: str,
    options: str = "",
    experiment: str = "",
) -> Entry:
    asked = f"--figure {number} {options}".strip()
    command = f"dskrobust report {store}.zarr {asked} --out figure{number}.svg"
    name = function.rpartition(".")[2]
    made_by = f"dskrobust.report.{function}"
    run = f"dskrobust run notebooks/experiments/{experiment}.toml {store}.zarr"
    needs = run if experiment else ""
    return Entry(f"Figure {number}", what, section, command, made_by, needs, figure=name)


def _curves(
    number: int, what: str, section: str, store: str, function: str, experiment: str, figure: str
) -> Entry:
    made = _figure(number, what, section, store, function, experiment=experiment)
    return replace(made, figure=figure)


def _computed(name: str, what: str, section: str, command: str) -> Entry:
    return Entry(name, what, section, f"dskrobust {command}", "dskrobust.sample_robustness")


_CNN, _PROTOTYPE, _IMAGES_KNN = "cnn-table-2", "cnn-prototype", "table5-cifar10-knn"
_NEWS_KNN, _NEWS_FOREST = "tables6-7-online-news-knn", "tables8-9-online-news-forest"
_SWEPT, _EPOCHS = "figures.hyperparameter_curves", "figures.learning_curves"
_EXTREMES = "figures.extreme_columns"
# Halves of 7,133 test samples: this copy of the data has 39,133 rows, the paper's had 39,644.
_NEWS_SUBSETS = " ".join(f"--subset {text}" for text in (
    "x=train", "x_L24=train:L24000", "x_M24=train:M24000", "x_L2=train:L2000", "x_M2=train:M2000",
    "t=test", "t_L=test:L3566", "t_M=test:M3567", "t_l=test:L3566:L500", "t_m=test:M3567:M500",
))  # fmt: skip

catalogue: tuple[Entry, ...] = (
    _labels(1, "classes of CIFAR-10 in its subsets", "4.2", "cifar10", 40000, 25000, 5000, 2000),
    _matrix(2, "small CNN, epochs with the lowest LOSS on t", "4.2.1", _CNN, "cifar10"),
    _matrix(3, "LOSS re-weighted by class", "4.2.1", "cnn-table-3", "cifar10", " --balanced"),
    _matrix(4, "ResNet-56, epochs with the lowest LOSS on t", "4.2.1", "cnn-table-4", "cifar10"),
    _matrix(5, "nearest neighbours, K = 1", "4.2.2", _IMAGES_KNN, "cifar10"),
    _matrix(6, "nearest neighbours, K best on t", "4.3.1", _NEWS_KNN, "online-news"),
    _matrix(7, "nearest neighbours, K best on each test subset", "4.3.1", _NEWS_KNN, "online-news"),
    _matrix(8, "random forests, trees best on t", "4.3.2", _NEWS_FOREST, "online-news"),
    _matrix(9, "random forests, trees best on each", "4.3.2", _NEWS_FOREST, "online-news"),
    _labels(10, "digits of MNIST in its subsets", "F", "mnist", 48000, 30000, 5000, 2000),
    _figure(1, "reach and witness in a plane, under two label maps", "1", "plane",
            "figures.reach_circles"),
    _figure(2, "most and least robust samples of some classes", "4.2", "cifar10",
            "figures.extreme_rows", "--class airplane --class ship --class bird --class deer"),
    _figure(3, "labels in the subsets of Online News", "4.3", "online-news",
            "figures.label_histograms", f"--mark 10000 {_NEWS_SUBSETS}"),
    _figure(4, "R of every class", "D.1", "cifar10", "figures.robustness_by_class"),
    _figure(5, "most and least robust sample of every class", "D.2", "cifar10", _EXTREMES,
            experiment=_CNN),
    _curves(6, "LOSS of a small CNN over the epochs", "D.3", "cifar10",
            _EPOCHS, _PROTOTYPE, "loss_by_epoch"),
    _curves(7, "ACC of a small CNN over the epochs", "D.3", "cifar10",
            _EPOCHS, _PROTOTYPE, "acc_by_epoch"),
    _curves(8, "ACC of nearest neighbours over K", "D.4", "cifar10",
            _SWEPT, _IMAGES_KNN, "acc_by_neighbors"),
    _figure(9, "R of training and test set", "E.1", "online-news", "figures.robustness_by_group",
            "--mark 0.65"),
    _curves(10, "LOSS and ACC of nearest neighbours over K", "E.2", "online-news",
            _SWEPT, _NEWS_KNN, "loss_and_acc_by_neighbors"),
    _curves(11, "LOSS and ACC of random forests over the trees", "E.3", "online-news",
            _SWEPT, _NEWS_FOREST, "loss_and_acc_by_trees"),
    _figure(12, "most and least robust image of every digit", "F", "mnist", _EXTREMES,
            experiment="cnn-mnist"),
    _figure(13, "R of one's own digits in MNIST", "F", "mnist", "figures.own_images",
            "--images notebooks/paper/own-digits"),
    _computed("Definition 3.2", "reach r", "3.2", "show mnist.zarr 0"),
    _computed("Definition 3.3", "point-wise Lipschitz constant Q", "3.3", "show mnist.zarr 0"),
    _computed("Definition 3.4", "robustness R", "3.4", "show mnist.zarr 0"),
    _computed("Algorithm 1", "R for labels in any normed space", "B", "compute online-news.zarr"),
    _computed("Algorithm 2", "R for classes", "B", "compute mnist.zarr"),
)  # fmt: skip


def paper_figures() -> dict[int, str]:
    """Return what `draw` calls the paper's figures, by their numbers."""
    return {int(e.name.removeprefix("Figure ")): e.figure for e in catalogue if e.figure}
