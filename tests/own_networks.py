"""Torch modules of a user's own, found by their import paths."""

import os
import signal
from pathlib import Path

import torch

FLAG = "DSKROBUST_TEST_FLAG"  # a file that says that a worker was killed already
steps = 0


class Tiny(torch.nn.Sequential):
    """A few weights, with dropout."""

    def __init__(self, shape, classes):
        channels, height, width = shape
        super().__init__(
            torch.nn.Flatten(),
            torch.nn.Linear(channels * height * width, 12),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.2),
            torch.nn.Linear(12, classes),
        )


class Deadly(Tiny):
    """Kills its process once, in its 14th step of training."""

    def forward(self, images):
        global steps
        steps += self.training
        flag = os.environ.get(FLAG)
        if steps == 14 and flag and not Path(flag).exists():
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


class Encoder(torch.nn.Module):
    """Made without arguments: a convolution, pooled, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, 6, 3)
        self.pool = torch.nn.AdaptiveAvgPool2d(1)
        self.last = torch.nn.Linear(6, 4)

    def forward(self, images):
        return self.last(self.pool(torch.relu(self.first(images))).flatten(1))


class Colours(torch.nn.Module):
    """Wants three channels; its columns are those of the middle row and column of the image."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 2, 8)

    def forward(self, images):
        return self.first(images)


def number():
    """No module."""
    return 7
