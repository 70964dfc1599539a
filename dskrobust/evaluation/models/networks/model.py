"""Convolutional networks in an experiment: all trials of a training subset are one job.

torch is only imported where something is checked or trained.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ....engine.plan import MIB
from ....errors import InvalidOptionError
from ....whole_numbers import is_whole
from ...experiment import Setting
from ...job import Job
from ..base import GPU, Model, Outcome, Problem
from . import sessions
from .limits import attacked_at_once
from .measuring import memory_in_a_line, parameters, saved_bytes, torch_threads, training_module
from .run import Run
from .sessions import STEP, Bench, TrainingLog

if TYPE_CHECKING:
    from distributed import Client

    from .settings import Training

TORCH = "torch:"  # before the import path of a module
TUNED = ("optimizer", "learning_rate", "decay", "batch_size", "augment", "class_weight")
RUN_ONLY = ("device", "torch_threads", "checkpoint_every", "strategy")  # no record depends on them
WAYS = ("search", "best-weights")
ATTACK_ONLY = ("sizes", "attack_steps")
WAY_ONLY = ("session", "first", "patience", "max_epochs")
SUBSET_EPOCHS = "subset_epochs"
TORCH_BYTES = 400 * MIB  # of a worker: torch itself (measured on the CPU)
CUDA_BYTES = 2048 * MIB  # of a worker: what CUDA's libraries hold in the host's memory
SLOTS = {"rmsprop": 1, "adam": 2}  # numbers an optimizer remembers for each weight
GRADIENTS = 1.5  # of what the backward pass keeps: the gradients that are alive beside it
EVALUATED_BYTES = 2560 * MIB  # of a GPU: widest activations of what `training` evaluates at once

Option = tuple[Callable[[Any], bool], str]


def _is_count(value: Any) -> bool:
    return is_whole(value, 1)


def _are_sizes(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in value)
    )


def _are_counts(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(map(_is_count, value))


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) in (2, 3)
        and all(is_whole(size, 1) for size in value)
    )


def _one_of(*known: str) -> Option:
    return (lambda value: value in known), " or ".join(known)


_YES_NO: Option = (lambda value: isinstance(value, bool)), "true or false"
_COUNT: Option = _is_count, "a whole number from 1 on"
OPTIONS: dict[str, Option] = {
    "session": _one_of(*WAYS),
    "first": _COUNT,
    "patience": _COUNT,
    "max_epochs": ((lambda value: _is_count(value) and value % STEP == 0), f"a multiple of {STEP}"),
    SUBSET_EPOCHS: (_are_counts, "a list of whole numbers from 1 on, one a training subset"),
    "curves": _YES_NO,
    "train_probabilities": _YES_NO,
    "shape": (_is_shape, "[height, width] or [channels, height, width]"),
    "attack": _one_of("fgsm", "pgd"),
    "sizes": (_are_sizes, "a list of shares of the data's range, from 0 to 1"),
    "attack_steps": _COUNT,
    "precision": _one_of("float32", "tf32", "bfloat16"),
    "device": _one_of("gpu", "cpu"),
    "torch_threads": _COUNT,
    "checkpoint_every": _COUNT,
    "strategy": _one_of("auto", "lockstep", "sequential"),
}  # fmt: skip


class Network(Model, kind="cnn", paths=TORCH):
    """The small CNN (paper, C.1), or a torch module of your own by its import path.

    All trials of a training subset train at once, each from its own seed, and every five epochs
    they are measured on all test subsets: five epochs fewer are read off the same training.

    Hyper-parameters: ``epochs``, ``optimizer``, ``learning_rate``, ``decay``, ``batch_size``,
    ``augment`` and ``class_weight`` ("balanced" weighs the classes of the training subset alike).
    Where ``epochs`` is not given, it is found on the first test subset as in C.3, by the option
    ``session``: "search" (`sessions.search`) or "best-weights" (`sessions.best_weights`), with
    ``first`` models in the first session, ``patience`` and ``max_epochs``. The option
    ``subset_epochs`` gives it in their place: a number for each training subset, in their order.

    Other options: ``device`` ("gpu", the default, or "cpu"), ``curves`` (every epoch is measured),
    ``train_probabilities`` (of the true class, of training samples too), ``shape`` (of a row as a
    picture), ``precision``, ``strategy``, ``torch_threads`` and ``checkpoint_every`` (epochs);
    ``attack`` ("fgsm" or "pgd"), ``sizes`` and ``attack_steps``, which `susceptibility` sets.
    """

    lockstep = True
    chosen_by = "loss"
    instead = ", run fewer trials, or train on a GPU"
    own_parameters = ("epochs",)
    known_options = tuple(OPTIONS)
    way: ClassVar[str] = "search"
    most: ClassVar[int] = 200

    # -- what is asked for ---------------------------------------------------------------------

    @property
    def own_sweep(self) -> tuple[str, ...]:
        return () if self._epochs else ("epochs",)

    @property
    def _epochs(self) -> tuple[Any, ...]:
        fixed = self.spec.parameters
        return (fixed["epochs"],) if "epochs" in fixed else tuple(self.spec.grid.get("epochs", ()))

    @property
    def _subset_epochs(self) -> tuple[int, ...]:
        return tuple(self.option(SUBSET_EPOCHS, ()))

    @property
    def _searches(self) -> bool:
        """Whether the number of epochs is to be found."""
        return not (self._epochs or self._subset_epochs)

    def steps(self, trains: Sequence[str]) -> Iterator[tuple[tuple[str, ...], tuple[Setting, ...]]]:
        """Return one subset a job; where each has a number of epochs, that is in its settings."""
        epochs = dict(zip(trains, self._subset_epochs, strict=False))
        for (train,), settings in super().steps(trains):
            own = {"epochs": epochs[train]} if train in epochs else {}
            yield (train,), tuple({**setting, **own} for setting in settings)

    @property
    def _way(self) -> str:
        return str(self.option("session", self.way))

    @property
    def on_gpu(self) -> bool:
        """Whether jobs run on workers with a GPU."""
        return bool(self.option("device", "gpu") == "gpu")

    @property
    def resources(self) -> Mapping[str, int]:
        return {GPU: 1} if self.on_gpu else {}

    def option(self, name: str, default: Any = None) -> Any:
        return self.spec.options.get(name, default)

    def identity(self) -> dict[str, Any]:
        """All but what is in the settings, and where it runs and how fast (the last digits)."""
        parts = self.spec.identity()
        options = {k: v for k, v in parts["options"].items() if k not in (*RUN_ONLY, SUBSET_EPOCHS)}
        return {**parts, "options": options}

    def seed_identity(self) -> dict[str, Any]:
        """Kind and hyper-parameters but epochs: however their number is found, models are alike."""
        parameters = {k: v for k, v in self.spec.parameters.items() if k != "epochs"}
        return {"kind": self.spec.kind, "parameters": parameters}

    def seeded_by(self, settings: Sequence[Setting]) -> Setting:
        """All of a setting but epochs, which are read off one training."""
        return {k: v for k, v in super().seeded_by(settings).items() if k != "epochs"}

    # -- checks --------------------------------------------------------------------------------

    def check(self, problem: Problem) -> None:
        if not problem.categorical:
            raise self.refuse("it needs classes, and the labels of this store are real numbers")
        self.check_options()
        for name, value in self.spec.options.items():
            fits, words = OPTIONS[name]
            if not fits(value):
                raise self.refuse(f"option {name} must be {words}, not {value!r}")
        self._check_way()
        self._check_subset_epochs(len(problem.train))
        self._check_attack()
        self.check_names(TUNED)
        self.check_whole("epochs")
        for values in map(self.values, self.spec.settings):
            if values["class_weight"] not in (None, "balanced"):
                raise self.refuse(
                    f"class_weight {values['class_weight']!r} is unknown; it is balanced"
                )
            if not isinstance(values["augment"], bool):
                raise self.refuse(f"augment must be true or false, not {values['augment']!r}")
            self._parameters(self.training(values, problem))

    def _check_way(self) -> None:
        for name in () if self._searches else WAY_ONLY:
            if name in self.spec.options:
                raise self.refuse(f"option {name} is of a search for epochs; leave out one of both")
        if "patience" in self.spec.options and self._way != "search":
            raise self.refuse("option patience is of session = search")

    def _check_subset_epochs(self, count: int) -> None:
        given = self._subset_epochs
        if given and self._epochs:
            raise self.refuse(f"option {SUBSET_EPOCHS} and epochs are both given; leave out one")
        if given and len(given) != count:
            raise self.refuse(
                f"option {SUBSET_EPOCHS} has {len(given)} numbers for {count} training subsets"
            )

    def _check_attack(self) -> None:
        if "attack" in self.spec.options and "sizes" not in self.spec.options:
            raise self.refuse("option attack needs sizes, such as [0,0.01,0.03]")
        for name in () if "attack" in self.spec.options else ATTACK_ONLY:
            if name in self.spec.options:
                raise self.refuse(f"option {name} is of an attack; give attack=fgsm or attack=pgd")

    def values(self, setting: Setting) -> dict[str, Any]:
        """Return all hyper-parameters of a setting but epochs, with what C.1 has for the rest."""
        defaults_of = training_module(self).defaults_of
        paper = {**defaults_of(self.network), "augment": False, "class_weight": None}
        values = {**paper, **self.spec.parameters, **setting}
        return {k: v for k, v in values.items() if k != "epochs"}

    @property
    def network(self) -> str:
        """What `training.Training` calls it."""
        return self.spec.kind.removeprefix(TORCH)

    def training(self, values: Mapping[str, Any], problem: Problem, scale: float = 1) -> Training:
        named = {k: v for k, v in values.items() if k != "class_weight"}
        more = {k: v for k in ("precision", "strategy") if (v := self.option(k))}
        try:
            return training_module(self).Training(
                self.network, self.shape(problem), max(2, problem.classes), scale=scale, **named,
                **more,
            )  # fmt: skip
        except (InvalidOptionError, TypeError) as error:
            raise self.refuse(" ".join(str(error).split())) from error

    def _parameters(self, training: Training) -> int:
        try:
            return parameters(training)
        except InvalidOptionError as error:
            raise self.refuse(str(error)) from error

    def shape(self, problem: Problem) -> tuple[int, int, int]:
        """Return channels, height and width of a row.

        Raises
        ------
        InvalidOptionError
            Where neither the store nor an option says so, or it does not fit.
        """
        shape = self.option("shape", problem.image_shape)
        if shape is None:
            raise self.refuse(
                "the store does not say how its rows are images; give the option "
                "shape=[height,width] or shape=[channels,height,width]"
            )
        if int(np.prod(shape)) != problem.columns:
            raise self.refuse(
                f"shape {list(shape)} does not fit rows of {problem.columns:,} values"
            )
        channels, height, width = (1, *shape)[-3:]
        return channels, height, width

    # -- what it needs -------------------------------------------------------------------------

    def task_bytes(self, rows: int, problem: Problem) -> tuple[int, int]:
        """Images as they are stored; then torch, test images, predictions, copies of all models.

        There are two while a checkpoint is put together, and a third where best weights are kept.
        On the CPU what is trained lies there too (`_trained_bytes`).
        """
        images = rows * problem.columns * problem.itemsize
        tested = sum(problem.test.values())
        test = tested * (
            problem.columns * problem.itemsize
            + 3 * problem.trials * problem.classes * 4
            + 2 * problem.trials * len(self.option("sizes", ()))  # who is right under attack
        )
        copies = 3 if self._way == "best-weights" and self._searches else 2
        each = TORCH_BYTES + test + copies * self._state_bytes(problem)
        if self.on_gpu:
            return images, each + CUDA_BYTES
        return images, each + self._trained_bytes(rows, problem)

    def _state_bytes(self, problem: Problem) -> int:
        """Bytes of all models' weights and what the optimizer remembers of them."""
        training = self.training(self.values(self.spec.settings[0]), problem)
        numbers = self._parameters(training) * (1 + SLOTS.get(training.optimizer, 2))
        return problem.trials * numbers * 4

    def _trained_bytes(self, rows: int, problem: Problem) -> int:
        """Bytes where the models are: images (floats as float32), weights, gradients, activations.

        What the backward pass needs of an image is measured on a batch of made-up ones. One after
        another only one model's is there at a time.
        """
        training = self.training(self.values(self.spec.settings[0]), problem)
        images = rows * problem.columns * (1 if problem.itemsize == 1 else 4)
        lockstep = self.on_gpu if training.strategy == "auto" else training.strategy == "lockstep"
        lockstep &= not self.spec.kind.startswith(TORCH)
        at_once = problem.trials if lockstep else 1
        images_at_once = training.batch_size
        if self.option("attack"):
            images_at_once = attacked_at_once(images_at_once, at_once)
        step = at_once * images_at_once * saved_bytes(training) * GRADIENTS
        gradients = at_once * self._parameters(training) * 4
        if self.on_gpu:
            # a graph keeps its step's memory while the last, short batch takes its own; gradients
            # lie apart and in a row, with two numbers of the optimizer's beside each
            step, gradients = 2 * step + EVALUATED_BYTES, 4 * gradients
        return int(images + self._state_bytes(problem) + gradients + step)

    def lacks(self, problem: Problem) -> str:
        try:
            import torch
        except ImportError:
            return "has no torch; install it there with pip install 'dskrobust[cnn]'"
        if not self.on_gpu:
            return ""
        if not torch.cuda.is_available():
            seen = os.environ.get("CUDA_VISIBLE_DEVICES")
            hint = "" if seen is None else f" (CUDA_VISIBLE_DEVICES={seen})"
            return f"has a GPU resource but sees no CUDA device{hint}; or take --option device=cpu"
        # what torch has in this process is kept for later, or a job's that is through by then
        free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
        needed = self._trained_bytes(max(problem.train.values()), problem)
        if needed > free:
            return (
                f"has {free / MIB:,.0f} MiB free on its GPU, and training takes about "
                f"{needed / MIB:,.0f} MiB; run fewer trials, or other programs elsewhere"
            )
        return ""

    # -- doing it ------------------------------------------------------------------------------

    def fit(self, job: Job, client: Client | None) -> Iterator[Outcome]:
        run = Run(self, job)
        try:
            with torch_threads(run.bench.facts["threads"]), memory_in_a_line():
                result = self._sessions(run.bench, job)
            outcome = run.outcome(result)
        finally:  # not when garbage is collected: the next job needs the device
            run.let_go()
        yield outcome

    def _sessions(self, bench: Bench, job: Job) -> TrainingLog:
        if not self._searches:
            wanted = [s["epochs"] for s in job.settings if "epochs" in s]
            return sessions.plain(bench, job.seeds, wanted or self._epochs)
        default = len(job.seeds) if self._way == "best-weights" else 5
        count = self.option("first", default)
        first = [int(s) for s in np.random.SeedSequence(job.seed).generate_state(count)]
        most = self.option("max_epochs", self.most)
        if self._way == "best-weights":
            return sessions.best_weights(bench, job.seeds, first, most)
        return sessions.search(bench, job.seeds, first, self.option("patience", 3), most)


class ResNet56(Network, kind="resnet56"):
    """ResNet-56 (paper, C.1); epochs are found with best weights and an epoch more (C.3)."""

    way = "best-weights"
    most = 80
