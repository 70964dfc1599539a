"""Training of T models on one training subset (paper, C.1 and C.3).

    trials = Trials(Training("cnn", (3, 32, 32), 10), images, labels, seeds=range(25))
    for _ in range(85):
        losses = trials.train_epoch()
    p = trials.probabilities(test_images)

Needs torch (``pip install 'dskrobust[cnn]'``); nothing here knows Dask or Zarr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ....errors import InvalidDataError, InvalidOptionError
from .architectures import NETWORKS, Network, make_network
from .attacks import Attack, Examples, right_answers
from .data import DataSet
from .limits import attacked_at_once
from .lockstep import Group, packed, unpack
from .settings import Training, defaults_of

__all__ = ["Training", "Trials", "defaults_of", "parameter_count"]

# Images of 32 × 32 pixels times models that are worked at once where nothing is trained: some 100
# MiB of the small CNN's activations on the CPU, 1 GiB on a GPU. Of larger images there are fewer.
_EVALUATED = {"cpu": 512, "cuda": 8192}
_PIXELS = 32 * 32


def parameter_count(training: Training, *, trainable: bool = False) -> int:
    """Return the number of parameters of one model, as Keras counts them.

    That is with the running means and variances of batch normalisation, unless only what is
    trained is asked for.
    """
    network = make_network(training.network, training.shape, training.classes, [0])
    count = sum(p.numel() for p in network.parameters() if p.requires_grad or not trainable)
    if not trainable:
        count += sum(b.numel() for b in network.buffers() if b.is_floating_point())
    return count


class Trials:
    """T models that are trained on the same data, each from its own seed.

    First weights, batch order, dropout and augmentation of a trial follow from its seed alone,
    so it is the same model whatever trials it is trained with, but for the rounding of float32.
    The same seeds, device, strategy and number of threads give the same bits.

    Parameters
    ----------
    training : Training
    images : ndarray (n, C·H·W)
        As stored; uint8 stays uint8 on the device.
    labels : ndarray (n,) of int64
        From 0 to classes − 1.
    seeds : sequence of int
        One per trial, not negative.
    device : str
        "cpu", "cuda" or "cuda:1".
    class_weights : ndarray (classes,), optional
        As in Keras: every sample's loss is multiplied by the weight of its class, and the mean is
        over the number of samples.

    Attributes
    ----------
    training : Training
    seeds : tuple of int
    epoch : int
        Finished epochs.

    Raises
    ------
    InvalidOptionError
        For a network that cannot take the images, an unknown device, or no seeds.
    InvalidDataError
        For images or labels that do not fit.
    """

    def __init__(
        self,
        training: Training,
        images: NDArray[Any],
        labels: NDArray[np.int64],
        seeds: Sequence[int],
        *,
        device: str = "cpu",
        class_weights: NDArray[Any] | None = None,
    ) -> None:
        self.training, self.seeds, self.epoch = training, tuple(seeds), 0
        if not self.seeds or min(self.seeds) < 0:
            raise InvalidOptionError("give one seed or more, none of them negative")
        place = _device(device)
        self._data = DataSet(training, images, labels, place, class_weights)
        parts = [self.seeds] if _in_lockstep(training, place) else [(s,) for s in self.seeds]
        self._groups = [self._group(part) for part in parts]

    def _group(self, seeds: Sequence[int]) -> Group:
        t = self.training
        return Group(t, make_network(t.network, t.shape, t.classes, seeds), seeds, self._data)

    def __len__(self) -> int:
        return len(self.seeds)

    def train_epoch(self, learning_rate: float | None = None) -> NDArray[np.float64]:
        """Train every model on every row once; return the mean training losses (T,).

        The loss is the mean over the epoch's samples of the (weighted) cross-entropy as it was
        when they were trained on, with dropout, without the L2 penalty.

        Parameters
        ----------
        learning_rate : float, optional
            Instead of that of `training`, for this epoch.
        """
        rate = self.training.learning_rate if learning_rate is None else learning_rate
        losses = [group.train_epoch(self.epoch, rate) for group in self._groups]
        self.epoch += 1
        return np.concatenate(losses)

    def probabilities(
        self,
        images: NDArray[Any],
        only: Sequence[int] | None = None,
        at_once: int | None = None,
    ) -> NDArray[np.float32]:
        """Return the models' probabilities (T, n, classes) for images (n, C·H·W).

        Nothing is dropped out, and batch normalisation uses its running means.

        Parameters
        ----------
        images : ndarray (n, C·H·W)
        only : sequence of int, optional
            Positions of the trials that are asked; T is their number.
        at_once : int, optional
            Images of 32 × 32 pixels times models; as many as fit the device by default.
        """
        chosen = range(len(self)) if only is None else only
        wide = len(self) // len(self._groups)
        asked = sorted({k // wide for k in chosen})
        answers = np.empty((len(chosen), len(images), self.training.classes), np.float32)
        _, height, width = self.training.shape
        at_once = at_once or _EVALUATED[self._data.device.type]
        step = max(at_once * _PIXELS // max(height * width, _PIXELS) // wide, 1)
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            pixels = self._data.pixels(images[part]).view(-1, *self.training.shape)
            p = {g: self._groups[g].probabilities(pixels).cpu().numpy() for g in asked}
            for place, k in enumerate(chosen):
                answers[place, part] = p[k // wide][k % wide]
        return answers

    def right_under(
        self,
        attack: Attack,
        images: NDArray[Any],
        labels: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Return which models are right about attacked images, (T, sizes, n).

        Every model is misled by images of its own. The range that they stay in is that of the
        given ones.

        Parameters
        ----------
        attack : Attack
        images : ndarray (n, C·H·W)
        labels : ndarray (n,) of int64
            From 0 to classes − 1.
        rows : ndarray (n,) of int64
            Row numbers, from which random starts follow.
        """
        right = np.empty((len(self), len(attack.sizes), len(images)), np.bool_)
        plain = self.probabilities(images).argmax(-1) == labels
        box = tuple(float(end()) * self.training.scale for end in (images.min, images.max))
        wide = len(self) // len(self._groups)
        step = attacked_at_once(self.training.batch_size, wide)
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            pixels = self._data.pixels(images[part]).view(-1, *self.training.shape)
            wanted = torch.tensor(labels[part], device=self._data.device)
            examples = Examples(pixels, wanted, rows[part], (box[0], box[1]))
            for k, size in enumerate(attack.sizes):
                for g, group in enumerate(self._groups):
                    own = slice(g * wide, (g + 1) * wide)
                    if not size:  # to the last bit what is measured elsewhere
                        right[own, k, part] = plain[own, part]
                        continue
                    said = right_answers(group, attack, size, examples)
                    right[own, k, part] = said.cpu().numpy()
        return right

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks: one of all models in lockstep, else one a model."""
        return tuple(group.network for group in self._groups)

    @property
    def captured(self) -> bool:
        """Whether whole steps run as CUDA graphs; said of the epochs trained so far."""
        return any(group.captured for group in self._groups)

    def penalty(self) -> NDArray[np.float64]:
        """Return the L2 penalty (T,) that Keras adds to a model's losses, on test data too."""
        return np.concatenate([group.penalty() for group in self._groups])

    def weights(self) -> dict[str, NDArray[Any]]:
        """Return the models' weights and statistics as arrays (T, numbers).

        Returns
        -------
        dict
            ``parameters`` of float32, and one array per dtype of what else a network has
            (``statistics.float32``: running means and variances).
        """
        return packed([group.weights() for group in self._groups])

    def load_weights(
        self, weights: Mapping[str, NDArray[Any]], optimizer_reset: bool = False
    ) -> None:
        """Give the models these weights: "rebuild the model with these weights" (C.3).

        Parameters
        ----------
        weights : dict of ndarray
            Of `weights`.
        optimizer_reset : bool
            Whether the optimizer forgets its steps, as that of a model that is made anew.

        Raises
        ------
        InvalidDataError
            For weights of other models; then nothing is changed.
        """
        unpack(weights, [group.weights() for group in self._groups])
        if optimizer_reset:
            for group in self._groups:
                group.optimizer.reset()
                group.steps = 0

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that is needed to go on and get the same bits.

        That is `weights`, what the optimizer remembers (``optimizer.…``), ``epoch`` and ``step``.
        """
        memory = packed([group.memory() for group in self._groups])
        numbers = {"epoch": np.array(self.epoch), "step": np.array(self._groups[0].steps)}
        return {**self.weights(), **memory, **numbers}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state, of the same training, data and seeds.

        Raises
        ------
        InvalidDataError
            For the state of other models; then nothing is changed.
        """
        if "epoch" not in state or "step" not in state:
            raise InvalidDataError("these are no trials' state: epoch or step is missing")
        groups = [{**group.weights(), **group.memory()} for group in self._groups]
        unpack(state, groups)
        self.epoch = int(state["epoch"])
        for group in self._groups:
            group.steps = int(state["step"])


def _in_lockstep(training: Training, device: torch.device) -> bool:
    if training.network not in NETWORKS:
        return False
    if training.strategy == "auto":
        return device.type == "cuda"
    return training.strategy == "lockstep"


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidOptionError(f"device {name!r} is unknown; it is cpu or cuda") from error
    if device.type not in _EVALUATED:
        raise InvalidOptionError(f"device {name!r} is not supported; it is cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidOptionError(f"no CUDA device {name!r} is seen here; take device='cpu'")
    return device
