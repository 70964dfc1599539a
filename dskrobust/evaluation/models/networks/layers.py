"""Layers of T models each, worked as one.

Images are (B, T·C, H, W), the channels of one model after the other's, in channels-last memory;
rows of features are (T, B, F). All weights have T as their first axis. A layer of one model is an
ordinary layer: training alone runs the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Initial = Callable[[Tensor, int, int, torch.Generator], Tensor]

# The standard deviation of a standard normal variable that is cut off at ±2.
_TRUNCATED = 0.87962566103423978


def glorot_uniform(kernel: Tensor, inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    """Fill a kernel as Keras does by default: U(±√(6 / (fan in + fan out)))."""
    limit = math.sqrt(6 / (inputs + outputs))
    return nn.init.uniform_(kernel, -limit, limit, generator)


def he_normal(kernel: Tensor, inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    """Fill a kernel as Keras's he_normal: variance 2 / fan in, cut off at two deviations."""
    deviation = math.sqrt(2 / inputs) / _TRUNCATED
    return nn.init.trunc_normal_(kernel, 0, deviation, -2 * deviation, 2 * deviation, generator)


class Layer(nn.Module):
    """A layer with kernels (T, …) and biases (T, outputs), which start at zero."""

    kernel: nn.Parameter
    bias: nn.Parameter

    def __init__(self, shape: tuple[int, ...], fans: tuple[int, int], initial: Initial) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(shape))
        self.fans, self.initial = fans, initial

    def initialise(self, trial: int, generator: torch.Generator) -> None:
        """Draw one model's kernel."""
        self.initial(self.kernel.data[trial], *self.fans, generator)


class Convolution(Layer):
    """T convolutions with square kernels, as one grouped convolution.

    Attributes
    ----------
    kernel : Parameter (T, outputs, inputs, size, size)
    bias : Parameter (T, outputs)
    l2 : float
        Weight of the kernel's squared norm in the loss.
    """

    def __init__(
        self,
        trials: int,
        inputs: int,
        outputs: int,
        size: int = 3,
        *,
        stride: int = 1,
        same: bool = True,
        initial: Initial = glorot_uniform,
    ) -> None:
        area = size * size
        shape = (trials, outputs, inputs, size, size)
        super().__init__(shape, (area * inputs, area * outputs), initial)
        self.bias = nn.Parameter(torch.zeros(trials, outputs))
        self.stride, self.same, self.l2 = stride, same, 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(B, T·inputs, H, W) to (B, T·outputs, H', W')."""
        trials, _, _, size, _ = self.kernel.shape
        padding = (0, 0)
        if self.same:
            x, padding = _padded(x, size, self.stride)
        kernel, bias = self.kernel.flatten(0, 1), self.bias.flatten()
        return F.conv2d(x, kernel, bias, self.stride, padding, groups=trials)


def _padded(x: Tensor, size: int, stride: int) -> tuple[Tensor, tuple[int, int]]:
    """Return x and the padding that is still due on both sides, for Keras's padding 'same'.

    Of an odd number of rows Keras adds the larger half behind, where torch only knows equal halves.
    """
    total = [max((math.ceil(n / stride) - 1) * stride + size - n, 0) for n in x.shape[2:]]
    if total[0] % 2 or total[1] % 2:
        (top, left), (high, wide) = (total[0] // 2, total[1] // 2), total
        return F.pad(x, (left, wide - left, top, high - top)), (0, 0)
    return x, (total[0] // 2, total[1] // 2)


class Dense(Layer):
    """T dense layers, as one batched product of matrices.

    Attributes
    ----------
    kernel : Parameter (T, inputs, outputs)
    bias : Parameter (T, outputs)
    """

    def __init__(
        self, trials: int, inputs: int, outputs: int, *, initial: Initial = glorot_uniform
    ) -> None:
        super().__init__((trials, inputs, outputs), (inputs, outputs), initial)
        self.bias = nn.Parameter(torch.zeros(trials, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, inputs) to (T, B, outputs)."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.kernel)


class BatchNorm(nn.Module):
    """T batch normalisations with Keras's ε of 10⁻³ and momentum of 0.99.

    Statistics are per channel, so models do not meet. As in Keras's fused layer the variance that
    normalises is biased, the one that goes into the running mean is not.

    Attributes
    ----------
    gamma, beta : Parameter (T, channels)
    mean, variance : buffer (T, channels)
        Running means, used instead of the batch's when the network does not train.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, trials: int, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(trials, channels))
        self.beta = nn.Parameter(torch.zeros(trials, channels))
        self.register_buffer("mean", torch.zeros(trials, channels))
        self.register_buffer("variance", torch.ones(trials, channels))

    def forward(self, x: Tensor) -> Tensor:
        running = self.mean.view(-1), self.variance.view(-1)
        gamma, beta = self.gamma.flatten(), self.beta.flatten()
        # torch's momentum is the weight of the new value, Keras's that of the old one.
        return F.batch_norm(x, *running, gamma, beta, self.training, momentum=0.01, eps=1e-3)


def dropout(x: Tensor, noise: Tensor, rate: float) -> Tensor:
    """Return x with a share of its elements set to 0 and the others divided by 1 − rate.

    Parameters
    ----------
    x : Tensor (B, T·C, H, W) or (T, B, F)
    noise : Tensor (T, B, elements) of uint8
        Random bytes, for images in the order H, W, C.
    rate : float
        A multiple of 1/256.
    """
    if x.ndim == 4:
        trials, (batch, channels, height, width) = len(noise), x.shape
        noise = noise.view(trials, batch, height, width, channels // trials)
        noise = noise.permute(1, 2, 3, 0, 4).reshape(batch, height, width, channels)
        noise = noise.permute(0, 3, 1, 2)
    return x * (1 / (1 - rate)) * (noise >= round(rate * 256))


def rows_of(x: Tensor, trials: int) -> Tensor:
    """Return images (B, T·C, H, W) as rows (T, B, C·H·W)."""
    return x.reshape(len(x), trials, -1).transpose(0, 1)
