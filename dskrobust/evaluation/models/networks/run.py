"""A job of a network under way: its data, its models, and what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ....errors import EvaluationError
from ...findings import PROBABILITIES
from ...job import Job
from ...measures import class_sums, true_class_probabilities
from ...protocol import trimmed_means
from ...rows import TestRows, all_test_rows, read_features, training_data
from ...scoring import codes_of
from ..base import TOPIC, Outcome, Problem
from .limits import PGD_STEPS
from .measuring import NetworkModel, training_module
from .sessions import ACC, BALANCED, LOSS, STEP, Bench, Look, TrainingLog

if TYPE_CHECKING:
    from ...experiment import Setting
    from .trials import Trials

ROWS = 8192  # training images whose probabilities are asked for at once


class Run:
    """A job under way.

    Attributes
    ----------
    bench : Bench
    """

    def __init__(self, model: NetworkModel, job: Job) -> None:
        self.model, self.job = model, job
        self.side: TestRows = all_test_rows(job)
        self.codes = codes_of(job, self.side.labels)
        self._graph = False
        option = model.option
        self.bench = Bench(
            make=self._make,
            look=self._look,
            more=self._more,
            keeper=job.records.checkpoints(job.name),
            every=option("checkpoint_every", STEP),
            curves=option("curves", False),
            facts={"threads": option("torch_threads", job.threads)},
            tell=self._tell,
        )

    @property
    def _setting(self) -> Setting:
        """The hyper-parameters of all models but epochs."""
        return {k: v for k, v in self.job.settings[0].items() if k != "epochs"}

    @cached_property
    def _data(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        images, labels = training_data(self.job, None)
        return images, codes_of(self.job, labels)

    @cached_property
    def _test_images(self) -> NDArray[Any]:
        return read_features(self.job.records.address.open(), self.side.rows, None)

    def _make(self, seeds: Sequence[int]) -> Trials:
        """Return fresh models on the device."""
        store = self.job.records.address.open()
        problem = Problem(
            True, store.columns, {}, {}, len(self.job.classes), store.spec.image_shape
        )
        values = self.model.values(self._setting)
        images, codes = self._data
        weights = None
        if values["class_weight"] == "balanced":
            counts = np.bincount(codes, minlength=len(self.job.classes))
            weights = len(codes) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        return training_module(self.model).Trials(
            self.model.training(values, problem, store.spec.scale),
            images,
            codes,
            seeds,
            device=self.device,
            class_weights=weights,
        )

    def let_go(self) -> None:
        """Let go of models and images."""
        self.bench.let_go()
        for name in ("_data", "_test_images"):
            self.__dict__.pop(name, None)

    @property
    def device(self) -> str:
        """Where torch computes: the first GPU that the worker sees, or the CPU."""
        return "cuda" if self.model.on_gpu else "cpu"

    def _look(self, models: Trials) -> Look:
        """Return LOSS, LOSS re-weighted and ACC of every model on every test subset."""
        p = models.probabilities(self._test_images)
        self._graph = models.captured
        lost = [k + 1 for k, own in enumerate(p) if not np.isfinite(own).all()]
        if lost:
            raise EvaluationError(
                f"model {lost[0]} of {len(p)} has diverged, its probabilities are NaN; take a "
                "lower learning_rate"
            )
        measures = np.empty((len(p), len(self.side.places), 3))
        for k, places in enumerate(self.side.places.values()):
            codes = self.codes[places]
            for trial, own in enumerate(p[:, places]):
                chosen = true_class_probabilities(codes, own)
                made = class_sums(codes, own.argmax(axis=1), codes, chosen).result()
                for at, name in ((LOSS, "loss"), (BALANCED, "balanced_loss"), (ACC, "acc")):
                    measures[trial, k, at] = made[name]
        return Look(measures, {PROBABILITIES["test"]: _of_true_classes(p, self.codes)})

    def _more(self, models: Trials) -> dict[str, NDArray[Any]]:
        """Return the L2 penalties, right answers under attack, probabilities in training.

        The first where a network has some, the others where they are asked for.
        """
        penalty = models.penalty()
        arrays: dict[str, NDArray[Any]] = {"penalty": penalty} if penalty.any() else {}
        if self.model.option("attack"):
            arrays["attacked"] = self._attacked(models)
        if not self.model.option("train_probabilities", False):
            return arrays
        images, codes = self._data
        parts = [slice(k, k + ROWS) for k in range(0, len(codes), ROWS)]
        means = [
            _of_true_classes(models.probabilities(images[part]), codes[part]) for part in parts
        ]
        return {**arrays, PROBABILITIES["train"]: np.concatenate(means)}

    def _attacked(self, models: Trials) -> NDArray[np.uint8]:
        """Return which models are right about attacked test samples: bits (T, sizes, n / 8)."""
        from .attacks import Attack

        option = self.model.option
        attack = Attack(option("attack"), option("sizes"), option("attack_steps", PGD_STEPS))
        right = models.right_under(attack, self._test_images, self.codes, self.side.rows)
        return np.packbits(right, axis=-1)

    def _tell(self, event: dict[str, Any]) -> None:
        from distributed import get_worker

        seconds = round(self.bench.seconds, 1)
        try:
            get_worker().log_event(TOPIC, {"step": self.job.name, "seconds": seconds, **event})
        except ValueError:
            return  # not on a distributed worker

    def outcome(self, result: TrainingLog) -> Outcome:
        """Return the rows of all trials, test subsets and epochs, and what is kept beside them."""
        rows = [
            {
                "train": self.job.train[0][0],
                "test": test,
                "setting": self._at(epoch),
                "trial": k + 1,
                "seed": self.job.seeds[k],
                "loss": float(measured[k, t, LOSS]),
                "acc": float(measured[k, t, ACC]),
                "balanced_loss": float(measured[k, t, BALANCED]),
            }
            for epoch, measured in result.log.items()
            for k in range(len(self.job.seeds))
            for t, test in enumerate(self.side.places)
        ]
        facts = {"session": result.facts, "device": self._device_name(), **self.bench.facts}
        if self.device == "cuda":  # without one a run is several times slower: to be seen
            facts["cuda_graph"] = self._graph
        arrays = dict(result.means)
        if self.bench.curves:
            epochs = sorted(result.curves)
            facts |= {"curve_epochs": epochs, "curve_tests": list(self.side.places)}
            arrays["curves"] = np.stack([result.curves[e][:, :, [LOSS, ACC]] for e in epochs])
        return Outcome(rows, facts, arrays, self.bench.earlier)

    def _at(self, epoch: int) -> Setting:
        fixed = "epochs" in self.model.spec.parameters
        return self._setting if fixed else {**self._setting, "epochs": epoch}

    def _device_name(self) -> str:
        import torch

        return str(torch.cuda.get_device_name()) if self.device == "cuda" else "cpu"


def _of_true_classes(p: NDArray[Any], codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return trimmed means over trials of the probabilities (T, n, c) of the true classes (n,)."""
    return trimmed_means(p[:, np.arange(len(codes)), codes]).astype(np.float32)
