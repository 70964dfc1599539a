"""Adversarial examples of networks: test images, each moved a little so that its loss grows.

FGSM takes one step along the sign of the loss's gradient (Goodfellow, Shlens and Szegedy,
*Explaining and harnessing adversarial examples*, ICLR 2015). PGD takes several from a random start
in the ball, and goes back into the ball after each (Madry, Makelov, Schmidt, Tsipras and Vladu,
*Towards deep learning models resistant to adversarial attacks*, ICLR 2018). Both here in the
∞-norm; no pixel leaves the range of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .draws import start_keys, uniforms
from .lockstep import products

if TYPE_CHECKING:
    from .lockstep import Group

STRIDE = 2.5  # radii that all steps of PGD together may go: it can reach and follow the border


@dataclass(frozen=True)
class Attack:
    """How images are moved.

    Attributes
    ----------
    kind : {"fgsm", "pgd"}
    sizes : tuple of float
        Radii of the balls, as shares of the range of the data; 0 is no attack.
    steps : int
        Of PGD.
    """

    kind: str
    sizes: tuple[float, ...]
    steps: int

    @property
    def strides(self) -> tuple[float, ...]:
        """The length of every step, in radii."""
        return (1.0,) if self.kind == "fgsm" else (STRIDE / self.steps,) * self.steps


class Examples(NamedTuple):
    """Test images that are attacked at once.

    Attributes
    ----------
    pixels : Tensor (B, C, H, W)
        As they are stored.
    labels : Tensor (B,) of int64
    rows : ndarray (B,) int64
        Their row numbers, from which random starts follow.
    box : (float, float)
        The lowest and the highest scaled pixel of the data.
    """

    pixels: Tensor
    labels: Tensor
    rows: NDArray[np.int64]
    box: tuple[float, float]


def right_answers(group: Group, attack: Attack, size: float, examples: Examples) -> Tensor:
    """Return which models (T, B) are right about images that were moved to mislead each of them."""
    labels = examples.labels.expand(group.network.trials, -1)
    group.network.eval()
    with products(group.training.precision, examples.pixels.device):
        moved = adversarial_images(group, attack, size, examples)
        with torch.no_grad():
            return group.logits(moved, _no_keys(group)).argmax(-1) == labels


def adversarial_images(group: Group, attack: Attack, size: float, examples: Examples) -> Tensor:
    """Return the moved images (B, T·C, H, W), scaled: every model has its own.

    Parameters
    ----------
    size : float
        The radius, as a share of the range of the data.
    """
    low, high = examples.box
    radius = size * (high - low)
    images = group.repeated(examples.pixels)
    floor, ceiling = (images - radius).clamp(min=low), (images + radius).clamp(max=high)
    moved = images
    if attack.kind == "pgd":
        start = _noise(group, examples.rows).view(images.shape)
        moved = torch.clamp(images + radius * start, floor, ceiling)
    for stride in attack.strides:
        uphill = _gradient(group, moved, examples.labels).sign()
        moved = torch.clamp(moved + stride * radius * uphill, floor, ceiling)
    return moved


def _gradient(group: Group, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of every model's losses for its own images."""
    images = images.detach().requires_grad_()
    # a module of a user's own may work in place, which a leaf does not allow
    logits = group.logits(images.clone(), _no_keys(group))
    wanted = labels.repeat(group.network.trials)
    loss = F.cross_entropy(logits.flatten(0, 1), wanted, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    return gradient


def _noise(group: Group, rows: NDArray[np.int64]) -> Tensor:
    """Return numbers in [−1, 1) (B, T, C·H·W), each model's of its own seed and the image's row."""
    keys = torch.tensor(start_keys(group.seeds, rows), device=group.data.device)
    drawn = uniforms(keys.flatten(0, 1), int(np.prod(group.training.shape)))
    return (drawn * 2 - 1).view(len(rows), len(group.seeds), -1)


def _no_keys(group: Group) -> Tensor:
    """Return keys for a network that does not train."""
    return torch.zeros(group.network.trials, 2, dtype=torch.int32, device=group.data.device)
