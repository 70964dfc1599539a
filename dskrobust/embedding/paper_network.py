"""The small CNN of the paper, trained on the store's own training rows, as a model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cluster.workers import gpu_here
from ..evaluation.experiment import ModelSpec
from ..evaluation.models.base import Problem
from ..evaluation.models.networks.model import Network
from ..evaluation.rows import read_features, read_labels
from ..store import SourceAddress, Store
from .models import EmbeddingModel, LoadedModel, Place, Trained, class_count, versions_of
from .networks import LoadedNetwork, Tap
from .rows import RowForm

if TYPE_CHECKING:
    from ..evaluation.models.networks.settings import Training

KIND = "cnn"
EPOCHS = 20
TRAIN = "train"  # the group that it learns from, where there is one
CLASSES = "classes"  # among the trained weights, how many outputs there are


@dataclass(frozen=True)
class PaperNetwork(EmbeddingModel):
    """The small CNN (paper, C.1); the embedding is the input of its last layer, 512 columns.

    It is trained on the group ``train`` (on all rows where there is none) for `epochs` epochs from
    `seed`, as `evaluate` trains it, by one task of a worker.
    """

    problem: Problem | None = None

    packages = ("torch",)
    extra = "cnn"
    known_options = ("seed", "epochs")
    images_only = True

    @property
    def epochs(self) -> int:
        """For how long it is trained."""
        return EPOCHS if self.options.epochs is None else self.options.epochs

    @property
    def seed(self) -> int:
        """What its weights and batches are drawn from."""
        return self.options.seed or 0

    def check(self, store: Store) -> EmbeddingModel:
        super().check(store)
        counts = store.summary.groups
        code = store.groups.index(TRAIN) if TRAIN in store.groups else None
        rows = store.rows if code is None else counts[code].rows if code in counts else 0
        if not rows:
            raise self.refuse(f"the group {TRAIN} has no rows to learn from")
        problem = Problem(
            store.spec.label_kind == "categorical",
            store.columns,
            {TRAIN: rows},
            {},
            class_count(store),  # the task that trains counts them
            store.spec.image_shape,
            store.row_shape("features")[1].itemsize,
        )
        self.network("cpu").check(problem)
        return replace(self, problem=problem)

    def sees_gpu(self) -> bool:
        return gpu_here()

    def network(self, device: str) -> Network:
        """Return it as `evaluate` knows it."""
        where = "gpu" if device == "cuda" else "cpu"
        return Network(ModelSpec(KIND, {}, {"epochs": self.epochs}, {"device": where}))

    def training_bytes(self, device: str) -> int:
        """Images, models and gradients of `evaluate` with one trial."""
        assert self.problem is not None
        return sum(self.network(device).task_bytes(self.problem.train[TRAIN], self.problem))

    def _training(self, device: str, classes: int, scale: float) -> Training:
        assert self.problem is not None
        network = self.network(device)
        problem = replace(self.problem, classes=classes)
        return network.training(network.values({}), problem, scale)

    # -- on a worker ---------------------------------------------------------------------------

    def train(self, source: SourceAddress, place: Place) -> Trained:
        """Return its weights, trained on the training rows.

        Raises
        ------
        EmbeddingError
            Where it diverges.
        """
        from ..evaluation.models.networks.measuring import memory_in_a_line, torch_threads
        from ..evaluation.models.networks.trials import Trials

        store = source.open()
        rows = _training_rows(store)
        known, codes = np.unique(read_labels(store, rows), return_inverse=True)
        if len(known) < 2:
            raise self.failed("the training rows are of one class; there is nothing to learn")
        training = self._training(place.device, len(known), RowForm.of(store).scale)
        with torch_threads(place.threads), memory_in_a_line():
            trials = Trials(
                training, read_features(store, rows, None), codes, [self.seed], device=place.device
            )
            for epoch in range(self.epochs):
                if not np.isfinite(trials.train_epoch()).all():
                    raise self.failed(f"it diverged in epoch {epoch + 1}; take another seed")
        state = trials.networks[0].state_dict()
        weights = {name: values.cpu().numpy().copy() for name, values in state.items()}
        return {**weights, CLASSES: np.array(len(known))}

    def load(self, place: Place, trained: Trained | None) -> LoadedModel:
        import torch

        from ..evaluation.models.networks.architectures import Penultimate, make_network

        assert trained is not None
        assert self.problem is not None
        classes = int(trained[CLASSES])
        training = self._training(place.device, classes, 1.0)
        network = make_network(KIND, training.shape, classes, [self.seed])
        state = {name: torch.tensor(v) for name, v in trained.items() if name != CLASSES}
        network.load_state_dict(state)
        rows = self.problem.train[TRAIN]
        facts = {
            "layer": "input of layer output",
            "weights": f"trained for {self.epochs} epochs on {rows:,} rows from seed {self.seed}, "
            f"SHA-256 {_digest(trained)}",
            "versions": versions_of(*self.packages),
        }
        return LoadedNetwork(Tap(Penultimate(network), "", ""), place, None, facts)


def _training_rows(store: Store) -> Any:
    """Return the row numbers (k,) of the training rows."""
    if TRAIN not in store.groups:
        return np.arange(store.rows)
    return np.flatnonzero(store.split_codes[:] == store.groups.index(TRAIN))


def _digest(trained: Trained) -> str:
    digest = hashlib.sha256()
    for name in sorted(trained):
        digest.update(name.encode() + np.ascontiguousarray(trained[name]).tobytes())
    return digest.hexdigest()
