"""What a network needs to train: torch, threads, and memory, measured or counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ....errors import EvaluationError, InvalidOptionError

if TYPE_CHECKING:
    from ...experiment import ModelSpec, Setting
    from ..base import Problem
    from .settings import Training


class NetworkModel(Protocol):
    """What a run asks of the model that it trains."""

    spec: ModelSpec

    @property
    def on_gpu(self) -> bool: ...

    def option(self, name: str, default: Any = None) -> Any: ...

    def values(self, setting: Setting) -> dict[str, Any]: ...

    def training(
        self, values: Mapping[str, Any], problem: Problem, scale: float = 1
    ) -> Training: ...

    def refuse(self, what: str) -> InvalidOptionError: ...


def training_module(model: NetworkModel) -> Any:
    """Return the module that trains."""
    try:
        from . import trials as training
    except ImportError as error:
        raise model.refuse("it needs torch; pip install 'dskrobust[cnn]'") from error
    return training


@contextmanager
def memory_in_a_line() -> Iterator[None]:
    """Say what to do where a GPU has no memory left; torch says how much of it is whose."""
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise EvaluationError(
            "the GPU is out of memory; run fewer trials, take a smaller batch_size, or run other "
            f"programs elsewhere ({str(error).strip().splitlines()[0]})"
        ) from error


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads of this task's own, and put it back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=16)
def parameters(training: Training) -> int:
    """Return how many numbers a model has."""
    from .trials import parameter_count

    return parameter_count(training)


@lru_cache(maxsize=16)
def saved_bytes(training: Training) -> float:
    """Return how many bytes of an image one model's backward pass needs, measured on made-up ones.

    For 32 × 32 pixels in colour that is 0.49 MB for the small CNN, 4.4 MB for ResNet-56.
    """
    import torch

    from .trials import Trials, parameter_count

    count, pixels = 8, int(np.prod(training.shape))
    images, labels = np.zeros((count, pixels), np.uint8), np.zeros(count, np.int64)
    alone = replace(training, batch_size=count, strategy="auto")
    saved: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        Trials(alone, images, labels, [0]).train_epoch()
    weights = 4 * parameter_count(training, trainable=True)
    return max(0, sum(saved.values()) - weights) / count
