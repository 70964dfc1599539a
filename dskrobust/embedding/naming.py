"""From what the user names to a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import InvalidOptionError
from .functions import FunctionModel
from .models import EmbeddingModel
from .networks import OwnModule, TimmModel, TorchvisionModel
from .onnx_files import ENDING, OnnxModel
from .options import EmbeddingOptions
from .paper_network import KIND, PaperNetwork

BEGINNINGS: dict[str, type[EmbeddingModel]] = {
    "torchvision:": TorchvisionModel,
    "timm:": TimmModel,
    "torch:": OwnModule,
}
KNOWN = (
    f"{KIND}, torchvision:NAME, timm:NAME, torch:MODULE.CLASS, an {ENDING} file or MODULE:FUNCTION"
)


def model_of(model: str | Callable[..., Any], options: EmbeddingOptions) -> EmbeddingModel:
    """Return the model of a name, or of a function.

    Raises
    ------
    InvalidOptionError
        Where the name is of no kind.
    """
    if not isinstance(model, str):
        if not callable(model):
            raise InvalidOptionError(f"model is a {type(model).__name__}; name it, or a function")
        name = getattr(model, "__qualname__", type(model).__qualname__)
        return FunctionModel(f"{model.__module__}:{name}", options, function=model)
    if model == KIND:
        return PaperNetwork(model, options)
    for beginning, kind in BEGINNINGS.items():
        if model.startswith(beginning) and model != beginning:
            return kind(model, options)
    if model.lower().endswith(ENDING):
        return OnnxModel(model, options)
    module, colon, name = model.partition(":")
    if colon and name.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return FunctionModel(model, options)
    raise InvalidOptionError(f"model {model!r} is unknown; it is {KNOWN}")
