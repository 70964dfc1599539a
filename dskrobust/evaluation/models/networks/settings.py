"""How networks are trained: what may be set, and what it is without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ....display import meant
from ....errors import InvalidOptionError
from ....whole_numbers import check_whole, is_whole
from .architectures import NETWORKS
from .optimizers import OPTIMIZERS

_CHOICES = {
    "optimizer": tuple(OPTIMIZERS),
    "precision": ("float32", "tf32", "bfloat16"),
    "strategy": ("auto", "lockstep", "sequential"),
}


_DEFAULTS: dict[str, dict[str, Any]] = {
    "cnn": {"optimizer": "rmsprop", "learning_rate": 1e-4, "decay": 1e-6},
    "resnet56": {"optimizer": "adam", "learning_rate": 1e-3, "decay": 0.0},
}


@dataclass(frozen=True)
class Training:
    """What is trained, and how; plain values only.

    Attributes
    ----------
    network : str
        "cnn", "resnet56", or the import path of a `torch.nn.Module` of your own (or of a function
        that returns one), which is called with (shape, classes) and whose ``forward`` takes images
        (n, C, H, W) of float32 and returns logits (n, classes).
    shape : tuple of int
        Channels, height and width; the order of a stored row's pixels.
    classes : int
    optimizer : str
        "rmsprop" or "adam", with Keras's meaning (`optimizers`).
    learning_rate : float
    decay : float
        Step t = 0, 1, … has the learning rate divided by 1 + decay · t.
    batch_size : int
    scale : float
        Stored features are multiplied by it.
    augment : bool
        Random shifts of up to 10 % and mirroring, new in every epoch. The paper names none.
    precision : str
        "float32"; "tf32" for products in TensorFloat-32 on a GPU; "bfloat16" for convolutions and
        products in bfloat16 (weights and their updates stay float32).
    strategy : str
        "lockstep": all models in one computation. "sequential": one model after another, epoch by
        epoch. "auto": lockstep on a GPU, sequential on the CPU, where grouped convolutions are
        slower than plain ones (notebooks/results/cnn-cpu.json). A network of your own is always
        trained sequentially.

    Raises
    ------
    InvalidOptionError
    """

    network: str
    shape: tuple[int, int, int]
    classes: int
    optimizer: str = "rmsprop"
    learning_rate: float = 1e-4
    decay: float = 1e-6
    batch_size: int = 32
    scale: float = 1.0
    augment: bool = False
    precision: str = "float32"
    strategy: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))  # a list where it comes from JSON
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                value = getattr(self, name)
                raise InvalidOptionError(
                    f"{name} {value!r} is unknown{meant(value, known)}; it is {' or '.join(known)}"
                )
        if self.network not in NETWORKS and "." not in self.network:
            names = ", ".join(NETWORKS)
            raise InvalidOptionError(
                f"network {self.network!r} is unknown{meant(self.network, NETWORKS)}; it is "
                f"{names} or an import path"
            )
        if self.network not in NETWORKS and self.strategy == "lockstep":
            raise InvalidOptionError("strategy 'lockstep' is for cnn and resnet56; take 'auto'")
        self._check_numbers()

    def _check_numbers(self) -> None:
        if len(self.shape) != 3 or not all(is_whole(n, 1) for n in self.shape):
            raise InvalidOptionError(f"shape must be (channels, height, width), not {self.shape!r}")
        for name, least in (("classes", 2), ("batch_size", 1)):
            check_whole(name, getattr(self, name), least)
        for name in ("learning_rate", "scale"):
            if not 0 < getattr(self, name) < np.inf:
                raise InvalidOptionError(f"{name} must be positive, not {getattr(self, name)!r}")
        if not 0 <= self.decay < np.inf:
            raise InvalidOptionError(f"decay must be 0 or more, not {self.decay!r}")


def defaults_of(network: str) -> dict[str, Any]:
    """Return the optimizer, learning rate and decay of the paper (C.1); for own networks none.

    For ResNet-56 the paper names no optimizer: Adam and no decay are the example's.
    """
    return dict(_DEFAULTS.get(network, {}))
