"""Images and labels on the device, and batches of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ....errors import InvalidDataError
from .draws import MOVES, uniforms

if TYPE_CHECKING:
    from .settings import Training

_SHIFT = 0.1  # of the width and height, either way


class DataSet:
    """The training data of all trials, once on the device.

    Pixels of uint8 stay so until they are in a batch; all others become float32 at once.

    Parameters
    ----------
    training : Training
    images : ndarray (n, C·H·W)
    labels : ndarray (n,) of int
        From 0 to classes − 1.
    device : torch.device
    class_weights : ndarray (classes,), optional

    Raises
    ------
    InvalidDataError
    """

    def __init__(
        self,
        training: Training,
        images: NDArray[Any],
        labels: NDArray[np.int64],
        device: torch.device,
        class_weights: NDArray[Any] | None = None,
    ) -> None:
        self.training, self.device = training, device
        self.rows = self.pixels(images)
        _check_labels(labels, len(images), training.classes)
        self.labels = torch.tensor(np.asarray(labels, np.int64), device=device)
        self.class_weights = None
        if class_weights is not None:
            weights = np.asarray(class_weights, np.float32)
            if weights.shape != (training.classes,) or not (weights >= 0).all():
                raise InvalidDataError(
                    f"class weights must be {training.classes} numbers from 0 on, one per class"
                )
            self.class_weights = torch.tensor(weights, device=device)

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, images: NDArray[Any]) -> Tensor:
        """Return images (n, C·H·W) on the device, not scaled yet."""
        size = int(np.prod(self.training.shape))
        if images.ndim != 2 or images.shape[1] != size or not len(images):
            raise InvalidDataError(
                f"images of shape {images.shape} do not fit; give (n, {size}) with n > 0 for "
                f"{self.training.shape}"
            )
        if images.dtype != np.uint8:
            images = images.astype(np.float32)
        # torch cannot share memory that is read-only
        return torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device)

    def batch(
        self, index: Tensor, keys: Tensor, layout: torch.memory_format
    ) -> tuple[Tensor, Tensor]:
        """Return the images (B, T·C, H, W) of float32 and the labels (T, B) of one step.

        Parameters
        ----------
        index : Tensor (T, B) of int64
            Every trial's own rows.
        keys : Tensor (T, 2, 2) of int32
            Of the step.
        layout : torch.memory_format
        """
        trials, batch = index.shape
        rows = self.rows.index_select(0, index.t().reshape(-1))
        images = rows.view(batch * trials, *self.training.shape)
        if self.training.augment:
            drawn = uniforms(keys[:, MOVES], batch * 3).view(trials, batch, 3)
            images = moved(images.to(torch.float32), drawn.transpose(0, 1).reshape(-1, 3))
        return self.arranged(images, trials, layout), self.labels[index]

    def arranged(self, images: Tensor, trials: int, layout: torch.memory_format) -> Tensor:
        """Return images (B·T, C, H, W) as scaled ones (B, T·C, H, W) of float32."""
        _, channels, height, width = images.shape
        if layout == torch.channels_last:
            images = images.view(-1, trials, channels, height, width).permute(0, 3, 4, 1, 2)
            images = images.reshape(-1, height, width, trials * channels).permute(0, 3, 1, 2)
        return images.to(torch.float32) * self.training.scale


def moved(images: Tensor, drawn: Tensor) -> Tensor:
    """Return images (n, C, H, W) shifted by up to 10 % either way, and half of them mirrored.

    As in the Keras examples: shifts are fractions of a pixel too, values between pixels are
    interpolated, and what is beyond the border is like the pixel at the border.

    Parameters
    ----------
    images : Tensor (n, C, H, W) of float32
    drawn : Tensor (n, 3) of float32
        Numbers in [0, 1): for mirroring, the shift along the width and along the height.
    """
    moves = torch.zeros(len(images), 2, 3, device=images.device)
    moves[:, 0, 0] = torch.where(drawn[:, 0] < 0.5, -1.0, 1.0)
    moves[:, 1, 1] = 1
    moves[:, :, 2] = (drawn[:, 1:] * 2 - 1) * (2 * _SHIFT)  # a side is 2 long
    grid = F.affine_grid(moves, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _check_labels(labels: NDArray[Any], rows: int, classes: int) -> None:
    if labels.shape != (rows,):
        raise InvalidDataError(f"{rows} images and labels of shape {labels.shape} do not fit")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise InvalidDataError(f"labels must be whole numbers from 0 to {classes - 1}")
