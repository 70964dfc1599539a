"""The networks of the paper (C.1), T models each, and the adapter of a user's own.

Both are as in the examples of the Keras homepage that the paper names; of what these examples do
to the images nothing is taken over but the scaling, as the paper names neither the augmentation
(`Training.augment`) nor the subtraction of the mean image.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....errors import InvalidOptionError
from ....own_code import imported, no_exit
from ....processes import ProcessLock
from .draws import random_bytes, weights_seed
from .layers import BatchNorm, Convolution, Dense, Layer, dropout, he_normal, rows_of

Shape = tuple[int, int, int]

_LEAST = 8  # pixels on a side: below, nothing is left of an image on its way through


class Network(nn.Module):
    """T models that are worked as one.

    Attributes
    ----------
    trials : int
    capturable : bool
        Whether a step can become a CUDA graph.
    layout : torch.memory_format
        In which its images are to lie.
    """

    capturable: ClassVar[bool] = True
    layout: ClassVar[torch.memory_format] = torch.channels_last
    trials: int

    @abstractmethod
    def forward(self, images: Tensor, keys: Tensor) -> Tensor:
        """Return logits (T, B, classes).

        Parameters
        ----------
        images : Tensor (B, T·C, H, W) of float32
            Each model's own channels.
        keys : Tensor (T, 2) of int32
            What this step's random numbers follow from; not looked at outside training.
        """

    @staticmethod
    def by_trial(tensor: Tensor) -> Tensor:
        """Return a parameter or buffer (a view of it) with T as first axis."""
        return tensor

    def shrinkage(self) -> dict[nn.Parameter, float]:
        """Return the weights of squared norms in the loss, of the parameters that have one."""
        return {m.kernel: m.l2 for m in self.modules() if isinstance(m, Convolution) and m.l2}


class BuiltIn(Network):
    """A network of `Layer`s.

    Raises
    ------
    InvalidOptionError
        Where the images are too small.
    """

    def __init__(self, name: str, shape: Shape, trials: int) -> None:
        super().__init__()
        self.trials = trials
        if min(shape[1:]) < _LEAST:
            raise InvalidOptionError(
                f"network {name} needs images of at least {_LEAST} × {_LEAST} pixels, not "
                f"{shape[1]} × {shape[2]}; give the shape (channels, height, width) if it is wrong"
            )

    def initialise(self, seeds: Sequence[int]) -> None:
        """Draw the weights of every model from its own seed, on the CPU."""
        for trial, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(weights_seed(seed))
            for module in self.modules():
                if isinstance(module, Layer):
                    module.initialise(trial, generator)


class SmallCNN(BuiltIn):
    """The small CNN of C.1: two blocks of two convolutions, two dense layers.

    The first convolution of a block keeps the size ('same'), the second loses the border
    ('valid'), as in the example: 1,250,858 weights for CIFAR-10. Where a single pixel is left on
    a side (8 × 8 images) there is nothing left to pool.
    """

    def __init__(self, shape: Shape, classes: int, trials: int) -> None:
        super().__init__("cnn", shape, trials)
        channels, height, width = shape
        self.first = Convolution(trials, channels, 32)
        self.second = Convolution(trials, 32, 32, same=False)
        self.third = Convolution(trials, 32, 64)
        self.fourth = Convolution(trials, 64, 64, same=False)
        between = _pooled(height - 2, width - 2)
        after = _pooled(between[0] - 2, between[1] - 2)
        pixels = 64 * after[0] * after[1]
        self.dense = Dense(trials, pixels, 512)
        self.output = Dense(trials, 512, classes)
        self.dropped = (32 * between[0] * between[1], pixels, 512)

    def forward(self, images: Tensor, keys: Tensor) -> Tensor:
        noise = self._noise(len(images), keys)
        x = F.relu(self.second(F.relu(self.first(images))))
        x = dropout(_pool(x), noise[0], 0.25) if noise else _pool(x)
        x = F.relu(self.fourth(F.relu(self.third(x))))
        x = dropout(_pool(x), noise[1], 0.25) if noise else _pool(x)
        x = F.relu(self.dense(rows_of(x, self.trials)))
        x = dropout(x, noise[2], 0.5) if noise else x
        return self.output(x)

    def _noise(self, batch: int, keys: Tensor) -> Sequence[Tensor]:
        """Return the bytes (T, B, elements) of the three dropouts; none outside training."""
        if not self.training:
            return ()
        drawn = random_bytes(keys, batch * sum(self.dropped))
        return drawn.view(self.trials, batch, -1).split(self.dropped, dim=2)


def _pooled(height: int, width: int) -> tuple[int, int]:
    """Return the sides that `_pool` leaves."""
    return (height // 2, width // 2) if min(height, width) > 1 else (height, width)


def _pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x


class ResNet(BuiltIn):
    """A residual network of depth 6n + 2 (He et al., 2016; C.1 takes n = 9).

    Three stacks of n blocks with 16, 32 and 64 filters; the second and third begin with a step of
    two pixels and a convolution of size 1 on the shortcut. Kernels are he_normal, those of the
    convolutions have an L2 penalty of 10⁻⁴. The last layer averages over all pixels, which for 32
    × 32 images is the example's pool of 8.
    """

    def __init__(self, shape: Shape, classes: int, trials: int, n: int = 9) -> None:
        super().__init__(f"resnet{6 * n + 2}", shape, trials)
        self.begin = _Normalised(trials, shape[0], 16)
        blocks = [
            _Block(trials, 16 << max(stack - (k == 0), 0), 16 << stack, 1 + (stack > 0 and k == 0))
            for stack in range(3)
            for k in range(n)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.output = Dense(trials, 64, classes, initial=he_normal)

    def forward(self, images: Tensor, keys: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.begin(images)))
        return self.output(rows_of(x.mean((2, 3)), self.trials))


class _Normalised(nn.Module):
    """A convolution and its batch normalisation."""

    def __init__(self, trials: int, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = _penalised(trials, inputs, outputs, 3, stride)
        self.norm = BatchNorm(trials, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(x))


class _Block(nn.Module):
    """Two convolutions and the shortcut around them."""

    def __init__(self, trials: int, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _Normalised(trials, inputs, outputs, stride)
        self.second = _Normalised(trials, outputs, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = _penalised(trials, inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.second(F.relu(self.first(x))))


def _penalised(trials: int, inputs: int, outputs: int, size: int, stride: int) -> Convolution:
    layer = Convolution(trials, inputs, outputs, size, stride=stride, initial=he_normal)
    layer.l2 = 1e-4
    return layer


class Penultimate(nn.Module):
    """What goes into the last layer of a built-in network of one model.

    Parameters
    ----------
    network : SmallCNN or ResNet
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) of float32 to features (B, F)."""
        taken: list[Tensor] = []
        keys = torch.zeros(1, 2, dtype=torch.int32, device=images.device)
        layer = self.network.get_submodule("output")
        with layer.register_forward_pre_hook(lambda _, given: taken.append(given[0])):
            self.network(images.contiguous(memory_format=self.network.layout), keys)
        return taken[0][0]


# -- a user's own ----------------------------------------------------------------------------


class Own(Network):
    """One model of a user's own module, which takes (B, C, H, W) and returns logits (B, classes).

    The module draws from torch's global generators, so each of its steps gets them seeded, and
    puts them back; a lock keeps the other threads of a worker off them meanwhile. `manual_seed` of
    torch would seed every kind of device there could be, which takes longer than a small step.

    Raises
    ------
    InvalidOptionError
        Where the path leads to no module, or the module cannot take the images.
    """

    capturable = False
    layout = torch.contiguous_format  # what a module may reshape without thinking
    trials = 1
    _generators = ProcessLock()

    def __init__(self, path: str, shape: Shape, classes: int, seed: int) -> None:
        super().__init__()
        self.path = path
        with self._generators, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(weights_seed(seed))
            self.module = self._made(shape, classes).to(torch.float32)
            self._try(shape, classes)

    def forward(self, images: Tensor, keys: Tensor) -> Tensor:
        if not self.training:
            return self.module(images).unsqueeze(0)
        devices = [images.device.index] if images.device.type == "cuda" else []
        seed = int.from_bytes(keys.cpu().numpy().tobytes())
        with self._generators, torch.random.fork_rng(devices):
            torch.default_generator.manual_seed(seed)
            for index in devices:
                torch.cuda.default_generators[index].manual_seed(seed)
            return self.module(images).unsqueeze(0)

    @staticmethod
    def by_trial(tensor: Tensor) -> Tensor:
        return tensor.unsqueeze(0)

    def _made(self, shape: Shape, classes: int) -> nn.Module:
        package, _, name = self.path.rpartition(".")
        try:
            make = imported(package, name)
        except Exception as error:  # whatever a module does when it is imported
            raise InvalidOptionError(f"{self.path!r} cannot be imported: {error}") from error
        try:
            with no_exit():
                made: Any = make(shape, classes)
        except Exception as error:
            raise self._refuse(f"cannot be made with {(shape, classes)}: {error}") from error
        if not isinstance(made, nn.Module):
            raise self._refuse(f"gave {type(made).__name__}; it must give a torch.nn.Module")
        if not any(p.requires_grad for p in made.parameters()):
            raise self._refuse("has no parameters to train")
        return made

    def _try(self, shape: Shape, classes: int) -> None:
        self.module.eval()
        try:
            with torch.no_grad():
                logits: Any = self.module(torch.zeros(2, *shape))
        except Exception as error:
            raise self._refuse(f"cannot take images of shape {shape}: {error}") from error
        if not isinstance(logits, Tensor) or logits.shape != (2, classes):
            shown = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise self._refuse(f"gave {shown} for 2 images; it must give logits (2, {classes})")

    def _refuse(self, what: str) -> InvalidOptionError:
        return InvalidOptionError(f"{self.path} {' '.join(what.split())}")


# -- by name ---------------------------------------------------------------------------------

NETWORKS: dict[str, type[SmallCNN] | type[ResNet]] = {"cnn": SmallCNN, "resnet56": ResNet}


def make_network(name: str, shape: Shape, classes: int, seeds: Sequence[int]) -> Network:
    """Return a network of one model per seed, on the CPU, with its first weights.

    Parameters
    ----------
    name : str
        Of `NETWORKS`, or the import path of a module or factory, which takes a single seed.

    Raises
    ------
    InvalidOptionError
    """
    if name not in NETWORKS:
        (seed,) = seeds
        return Own(name, shape, classes, seed)
    network = NETWORKS[name](shape, classes, len(seeds))
    network.initialise(seeds)
    return network
