"""How rows are embedded, as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

from ..declared_types import check_types
from ..display import meant
from ..errors import Hint, InvalidOptionError

DEVICES = ("auto", "gpu", "cpu")
RANDOM = "random"  # weights that are asked to be so
SEED = Hint(f"weights={RANDOM!r} needs seed=N", f"--weights {RANDOM} needs --seed N")


@dataclass(frozen=True)
class EmbeddingOptions:
    """How `embed` applies a model, and what the new store is called.

    Attributes
    ----------
    layer : str, optional
        The module whose output is the embedding, by its name in a torch module, or the output of an
        ONNX model. Without it the input of the last linear layer (torchvision), what timm calls
        features, the module's or the model's first output.
    weights : str, optional
        A file of weights (a state dict, or ``.safetensors``), the name of weights of torchvision
        (``IMAGENET1K_V1``), or "random", which needs a seed. Without it what the library has in its
        cache on this machine; nothing is downloaded.
    seed : int, optional
        Of random weights, and of the network that ``cnn`` trains (0).
    epochs : int, optional
        For how long ``cnn`` trains (20).
    batch_rows : int
        Rows that the model gets at once. Batches begin at multiples of it whatever the blocks, so
        neither blocks nor workers change a bit; another number may move the last bits.
    device : {"auto", "gpu", "cpu"}
        Where models compute; "auto" is the GPU where all workers see one.
    name : str, optional
        What the new data set is called in titles; as the store by default.
    anonymous : bool
        Whether the new store's provenance leaves out folders, hosts and users: of the addresses of
        the source and the model the last part stays.

    Raises
    ------
    InvalidOptionError
        For values that mean nothing.
    """

    layer: str | None = None
    weights: str | None = None
    seed: int | None = None
    epochs: int | None = None
    batch_rows: int = 64
    device: str = "auto"
    name: str | None = None
    anonymous: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        if self.device not in DEVICES:
            raise InvalidOptionError(
                f"device {self.device!r} is unknown{meant(self.device, DEVICES)}; it is "
                f"{', '.join(DEVICES)}"
            )
        if self.batch_rows < 1:
            raise InvalidOptionError(f"batch_rows must be 1 or more, not {self.batch_rows}")
        if self.epochs is not None and self.epochs < 1:
            raise InvalidOptionError(f"epochs must be 1 or more, not {self.epochs}")
        if self.seed is not None and self.seed < 0:
            raise InvalidOptionError(f"seed must be 0 or more, not {self.seed}")
        if self.weights == RANDOM and self.seed is None:
            raise InvalidOptionError("random weights are drawn from a seed", SEED)
        if self.weights is not None and self.weights.lower() in ("", "none"):
            raise InvalidOptionError("without weights a model would be a random one", SEED)
