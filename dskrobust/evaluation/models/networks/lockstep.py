"""Models that are trained as one: a step, an epoch, what has to be kept to go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ....errors import InvalidDataError
from ....user_warnings import warn
from .draws import DROPOUT, epoch_draws
from .optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from .architectures import Network
    from .data import DataSet
    from .settings import Training

Tensors = Mapping[str, list[Tensor]]  # by name, each with T as first axis


class Group:
    """The models of a network, trained in lockstep; one model is a group too.

    The loss of a step is the sum over the models of each one's mean cross-entropy, so no model's
    gradient sees another model. All weights are pieces of one vector. The L2 penalty is not part
    of the graph: its gradient, 2λw, is added to that of the cross-entropy.

    On a GPU the step of a full batch is captured as a CUDA graph. How fast that is,
    scripts/benchmarks/cnn.py measures.

    Parameters
    ----------
    training : Training
    network : Network
    seeds : sequence of int
        One per model.
    data : DataSet
    """

    def __init__(
        self, training: Training, network: Network, seeds: Sequence[int], data: DataSet
    ) -> None:
        self.training, self.data, self.seeds = training, data, seeds
        self.network = network.to(data.device)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.vector = parameters_to_vector(self.parameters).detach().clone()
        vector_to_parameters(self.vector, self.parameters)  # which are pieces of it from now on
        self.optimizer = OPTIMIZERS[training.optimizer](self.vector)
        self.shrinkage = self._shrinkage()
        self.steps = 0
        self._loss = torch.zeros(len(seeds), dtype=torch.float64, device=data.device)
        self._captured: _Captured | None = None
        self._capturable = network.capturable and data.device.type == "cuda"

    def _shrinkage(self) -> Tensor | None:
        """Return λ of every weight; None where all are 0."""
        known = self.network.shrinkage()
        if not known:
            return None
        return torch.cat([torch.full_like(p, known.get(p, 0)).view(-1) for p in self.parameters])

    # -- a step ----------------------------------------------------------------------------

    def step(self, index: Tensor, keys: Tensor, rate: Tensor) -> None:
        """Train on one batch.

        Parameters
        ----------
        index : Tensor (T, B) of int64
            Every model's rows.
        keys : Tensor (T, 2, 2) of int32
        rate : Tensor ()
        """
        images, labels = self.data.batch(index, keys, self.network.layout)
        losses = self.losses(images, labels, keys)
        self.optimizer.update(self.gradient(losses), rate)
        self._loss.add_(losses.detach(), alpha=index.shape[1])

    def losses(self, images: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
        """Return the mean cross-entropy (T,) of a batch, each sample weighted by its class."""
        logits = self.logits(images, keys[:, DROPOUT])
        weight = self.data.class_weights
        each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weight, reduction="none")
        return each.view(labels.shape).mean(1)

    def gradient(self, losses: Tensor) -> Tensor:
        """Return the gradient (n,) of the losses' sum and the penalty."""
        grads = torch.autograd.grad(losses.sum(), self.parameters, materialize_grads=True)
        gradient = torch.cat([grad.reshape(-1) for grad in grads])
        if self.shrinkage is not None:
            gradient.addcmul_(self.vector, self.shrinkage, value=2)
        return gradient

    def logits(self, images: Tensor, keys: Tensor) -> Tensor:
        """Return logits (T, B, classes) of images (B, T·C, H, W), at least of float32."""
        device, mixed = self.data.device.type, self.training.precision == "bfloat16"
        # a step uses every weight once, and a captured one could not share casts with the next
        with torch.autocast(device, torch.bfloat16, enabled=mixed, cache_enabled=False):
            logits: Tensor = self.network(images, keys)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    # -- an epoch --------------------------------------------------------------------------

    def train_epoch(self, epoch: int, learning_rate: float) -> NDArray[np.float64]:
        """Train on every row once; return the models' mean cross-entropies (T,)."""
        rows, batch = len(self.data), self.training.batch_size
        steps = -(-rows // batch)
        drawn = [epoch_draws(seed, epoch, rows, steps) for seed in self.seeds]
        order = torch.tensor(np.stack([o for o, _ in drawn]), device=self.data.device)
        keys = torch.tensor(np.stack([k for _, k in drawn], axis=1), device=self.data.device)
        rates = torch.tensor(self._rates(learning_rate, steps), device=self.data.device)
        self.network.train()
        self._loss.zero_()
        with products(self.training.precision, self.data.device):
            for k in range(steps):
                index = order[:, k * batch : (k + 1) * batch]
                self._step_for(index)(index, keys[k], rates[k])
        self.steps += steps
        return self._loss.cpu().numpy() / rows

    def _rates(self, learning_rate: float, steps: int) -> NDArray[np.float32]:
        """Return what the optimizer takes for the next steps, Keras's decay included."""
        rate, decay = self.optimizer.rate, self.training.decay
        numbers = range(self.steps, self.steps + steps)
        return np.array([rate(learning_rate / (1 + decay * t), t) for t in numbers], np.float32)

    @property
    def captured(self) -> bool:
        """Whether full batches run as a CUDA graph."""
        return self._captured is not None

    def _step_for(self, index: Tensor) -> Any:
        """Return the captured step for full batches where there is one, otherwise the plain one."""
        if not self._capturable or index.shape[1] < self.training.batch_size:
            return self.step
        if self._captured is None:
            try:
                self._captured = _Captured(self, index)
            except torch.cuda.OutOfMemoryError:
                raise  # a plain step takes as much
            except RuntimeError as error:
                self._capturable = False
                torch.cuda.empty_cache()
                reason = str(error).strip().split("\n")[0]
                warn(f"training without a CUDA graph: {reason}")
                return self.step
        return self._captured

    def probabilities(self, images: Tensor) -> Tensor:
        """Return probabilities (T, B, classes) of images (B, C, H, W), the same for all models."""
        trials, device = self.network.trials, self.data.device
        self.network.eval()
        with torch.inference_mode(), products(self.training.precision, device):
            keys = torch.zeros(trials, 2, dtype=torch.int32, device=device)
            return self.logits(self.repeated(images), keys).softmax(-1)

    def repeated(self, images: Tensor) -> Tensor:
        """Return images (B, C, H, W) as the network takes them, the same for all models."""
        trials = self.network.trials
        repeated = images.unsqueeze(1).expand(-1, trials, -1, -1, -1).flatten(0, 1)
        return self.data.arranged(repeated, trials, self.network.layout)

    def penalty(self) -> NDArray[np.float64]:
        """Return the L2 penalty (T,) of the models' weights, Σ λ‖w‖²."""
        total = torch.zeros_like(self._loss)
        for parameter, weight in self.network.shrinkage().items():
            total += weight * parameter.detach().square().flatten(1).sum(1, dtype=torch.float64)
        return total.cpu().numpy()

    # -- what is kept ----------------------------------------------------------------------

    def weights(self) -> dict[str, list[Tensor]]:
        """Return weights and other numbers of the models, all views with T as first axis."""
        by_trial = self.network.by_trial
        tensors = {"parameters": [by_trial(p.detach()) for p in self.parameters]}
        fixed = [p for p in self.network.parameters() if not p.requires_grad]
        for tensor in (*fixed, *self.network.buffers()):
            name = f"statistics.{str(tensor.dtype).removeprefix('torch.')}"
            tensors.setdefault(name, []).append(by_trial(tensor.detach()))
        return tensors

    def memory(self) -> dict[str, list[Tensor]]:
        """Return what the optimizer remembers, laid out like the weights."""
        sizes = [p.numel() for p in self.parameters]
        tensors = {}
        for name, slot in self.optimizer.slots.items():
            pieces = zip(slot.split(sizes), self.parameters, strict=True)
            shaped = [self.network.by_trial(piece.view(p.shape)) for piece, p in pieces]
            tensors[f"optimizer.{name}"] = shaped
        return tensors

    def changing(self) -> list[Tensor]:
        """Return everything that a step changes."""
        slots = self.optimizer.slots.values()
        return [self.vector, *slots, *self.network.buffers(), self._loss]


class _Captured:
    """The step of a full batch as a CUDA graph: its inputs are copied, then it is replayed.

    Before a capture, steps have to run on a stream of their own; what they change is put back, so
    that every full batch of a training runs the same kernels, also after `load_state`. Where a
    capture fails, all is as before: torch would leave this thread on the capture's stream.
    """

    def __init__(self, group: Group, index: Tensor) -> None:
        trials, device = group.network.trials, group.data.device
        self.inputs = (
            index.clone(),
            torch.zeros(trials, 2, 2, dtype=torch.int32, device=device),
            torch.zeros((), device=device),
        )
        before = [tensor.clone() for tensor in group.changing()]
        try:
            with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
                self._capture(group, torch.cuda.Stream(device))
        finally:
            torch.cuda.synchronize(device)  # steps of a warming-up that failed may still run
            for tensor, value in zip(group.changing(), before, strict=True):
                tensor.copy_(value)

    def _capture(self, group: Group, stream: torch.cuda.Stream) -> None:
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                group.step(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # what other threads of a worker do on the device is none of the capture's business
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            group.step(*self.inputs)

    def __call__(self, *inputs: Tensor) -> None:
        for own, new in zip(self.inputs, inputs, strict=True):
            own.copy_(new)
        self.graph.replay()


@contextmanager
def products(precision: str, device: torch.device) -> Iterator[None]:
    """Let products on a GPU be as precise as asked, and convolutions repeatable.

    "float32" means it: TensorFloat-32 is off, as its 10 bits would make lockstep and single
    training differ by far more than rounding. "tf32" allows it for convolutions and products of
    matrices; "bfloat16" leaves the few float32 products exact. These are settings of the process,
    and are put back.
    """
    if device.type != "cuda":
        yield
        return
    tf32, matrices = precision == "tf32", torch.backends.cuda.matmul
    before = matrices.allow_tf32
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32
    )
    with flags:
        matrices.allow_tf32 = tf32
        try:
            yield
        finally:
            matrices.allow_tf32 = before


# -- arrays ----------------------------------------------------------------------------------


def packed(groups: Sequence[Tensors]) -> dict[str, NDArray[Any]]:
    """Return one array (T, numbers) per name; the groups' models follow each other."""
    numbers = {}
    for name in groups[0]:
        rows = [torch.cat([t.flatten(1) for t in map(_plane, g[name])], dim=1) for g in groups]
        numbers[name] = torch.cat(rows).cpu().numpy()
    return numbers


def unpack(
    arrays: Mapping[str, NDArray[Any]], groups: Sequence[Mapping[str, list[Tensor]]]
) -> None:
    """Copy arrays made by `packed` into the groups' tensors.

    Raises
    ------
    InvalidDataError
        Before anything is changed, where they are not those of such models.
    """
    for name in groups[0]:
        wanted = (sum(len(g[name][0]) for g in groups), sum(t[0].numel() for t in groups[0][name]))
        shape = arrays[name].shape if name in arrays else "no"
        if shape != wanted:
            raise InvalidDataError(
                f"{name} of {shape} numbers are not of these models, which have {wanted}"
            )
    for name in groups[0]:
        first = 0
        for group in groups:
            tensors = group[name]
            last = first + len(tensors[0])
            values = torch.from_numpy(np.array(arrays[name][first:last]))
            pieces = values.split([t[0].numel() for t in tensors], dim=1)
            for tensor, piece in zip(tensors, pieces, strict=True):
                tensor.copy_(piece.reshape(tensor.shape))
            first = last


def _plane(tensor: Tensor) -> Tensor:
    """Return a tensor (T,) as (T, 1), so that all have something to flatten."""
    return tensor.unsqueeze(1) if tensor.ndim == 1 else tensor
