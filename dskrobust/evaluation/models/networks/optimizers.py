"""RMSprop and Adam with Keras's meaning of their numbers (C.1).

Both work on one vector with the weights of all models: what they do is elementwise, so models do
not meet, and a step is a handful of operations however many layers there are.

In Keras, the learning rate of step t = 0, 1, … decays to rate / (1 + decay · t), and ε = 10⁻⁷ is
added to the root of the mean square. For RMSprop torch means the same (`torch.optim.RMSprop` with
alpha 0.9 and eps 1e-7), but has no such decay, and another ε and alpha by default. For Adam it
does not: torch adds ε to the root that is already corrected for the bias, Keras to the root before
(the "ε̂" of Kingma and Ba), so that Keras's ε weighs more in the first steps, in step 0 32 times.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

EPSILON = 1e-7


class Optimizer(ABC):
    """Changes a vector of weights by its gradient.

    Parameters
    ----------
    weights : Tensor (n,)
        Changed in place.

    Attributes
    ----------
    slots : dict of str to Tensor (n,)
        What is remembered from step to step.
    """

    remembers: ClassVar[tuple[str, ...]]

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights
        self.slots = {name: torch.zeros_like(weights) for name in self.remembers}

    @staticmethod
    @abstractmethod
    def rate(learning_rate: float, step: int) -> float:
        """Return the number that `update` needs in step 0, 1, …"""

    @abstractmethod
    def update(self, gradient: Tensor, rate: Tensor) -> None:
        """Change the weights.

        Parameters
        ----------
        gradient : Tensor (n,)
            Overwritten.
        rate : Tensor ()
        """

    def reset(self) -> None:
        """Forget all steps so far."""
        for slot in self.slots.values():
            slot.zero_()


class RMSprop(Optimizer):
    """w − rate · g / (√v + ε) with v ← 0.9 v + 0.1 g²."""

    remembers = ("square",)
    RHO = 0.9

    @staticmethod
    def rate(learning_rate: float, step: int) -> float:
        return learning_rate

    def update(self, gradient: Tensor, rate: Tensor) -> None:
        square = self.slots["square"]
        square.mul_(self.RHO).addcmul_(gradient, gradient, value=1 - self.RHO)
        self.weights.sub_(gradient.mul_(rate).div_(square.sqrt().add_(EPSILON)))


class Adam(Optimizer):
    """w − rate · m / (√v + ε) with m ← 0.9 m + 0.1 g, v ← 0.999 v + 0.001 g².

    The rate has the correction of both biases: learning rate · √(1 − 0.999ᵗ) / (1 − 0.9ᵗ), t ≥ 1.
    """

    remembers = ("mean", "square")
    BETA_1, BETA_2 = 0.9, 0.999

    @staticmethod
    def rate(learning_rate: float, step: int) -> float:
        t = step + 1
        return learning_rate * math.sqrt(1 - Adam.BETA_2**t) / (1 - Adam.BETA_1**t)

    def update(self, gradient: Tensor, rate: Tensor) -> None:
        mean, square = self.slots["mean"], self.slots["square"]
        mean.mul_(self.BETA_1).add_(gradient, alpha=1 - self.BETA_1)
        square.mul_(self.BETA_2).addcmul_(gradient, gradient, value=1 - self.BETA_2)
        self.weights.sub_((mean * rate).div_(square.sqrt().add_(EPSILON)))


OPTIMIZERS: dict[str, type[Optimizer]] = {"rmsprop": RMSprop, "adam": Adam}
