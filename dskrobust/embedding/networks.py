"""Networks of torch as models: modules of a user's own, of torchvision and of timm.

torch is only imported where one is checked or loaded.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlparse

import numpy as np
from numpy.typing import NDArray

from ..cluster.workers import gpu_here
from ..display import error_line, meant
from ..errors import Hint, InvalidOptionError
from ..own_code import no_exit
from ..store import Store
from .models import (
    EmbeddingModel,
    LoadedModel,
    Place,
    Trained,
    class_count,
    file_facts,
    versions_of,
)
from .options import RANDOM
from .rows import RowForm

if TYPE_CHECKING:
    from torch import Tensor, nn

FIRST = 3  # missing weights that are named
WORDS = 200  # characters of what a library says
GIVE_FILE = Hint(
    "name a file with weights=FILE, or put it there",
    "name a file with --weights FILE, or put it there",
)


class TorchModel(EmbeddingModel):
    """What networks of torch have in common."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)
    known_options = ("layer", "weights", "seed")

    def check(self, store: Store) -> EmbeddingModel:
        super().check(store)
        if self.options.seed is not None and self.options.weights != RANDOM:
            raise self.refuse(f"a seed is for weights={RANDOM!r}")
        return self

    def sees_gpu(self) -> bool:
        return gpu_here()

    def is_random(self) -> bool:
        """Whether random weights are asked for."""
        return self.options.weights == RANDOM

    def not_cached(self, path: str) -> InvalidOptionError:
        """Return the error of weights that are not on this machine."""
        return InvalidOptionError(
            f"model {self.name}: its weights are looked for at {path}, where they are not, and "
            "nothing is downloaded",
            GIVE_FILE,
        )

    @abstractmethod
    def made(self) -> nn.Module:
        """Return the network with its weights, on the CPU."""

    def preprocessing(self, module: nn.Module) -> Callable[[Tensor], Tensor] | None:
        """Return what the model does to images in [0, 1] first."""
        return None

    def tapped(self, module: nn.Module) -> Tap:
        """Return where the embedding is taken from."""
        if self.options.layer is None:
            return Tap(module, "", "")
        names = [name for name, _ in module.named_modules() if name]
        if self.options.layer not in names:
            raise self.failed(
                f"it has no layer {self.options.layer!r}{meant(self.options.layer, names)}; its "
                f"layers are {', '.join(names)}"
            )
        return Tap(module, self.options.layer, "output")

    def load(self, place: Place, trained: Trained | None) -> LoadedModel:
        import torch

        with torch.random.fork_rng(devices=[]):
            if self.options.seed is not None:
                torch.default_generator.manual_seed(self.options.seed)
            module = self.made()
        return LoadedNetwork(self.tapped(module), place, self.preprocessing(module), self.facts())

    def facts(self) -> dict[str, Any]:
        """Return which weights and versions the network has."""
        facts: dict[str, Any] = {"versions": versions_of(*self.packages)}
        if self.file is None:
            return {**facts, "weights": f"random weights of seed {self.options.seed}"}
        file = file_facts(self.file)
        return {**facts, "files": [file], "weights": f"weights SHA-256 {file['sha256']}"}

    def filled(self, module: nn.Module) -> nn.Module:
        """Return a network with the weights of the file, every one of them.

        Raises
        ------
        EmbeddingError
            Where the file is no state dict, or that of another network.
        """
        if self.file is None:
            return module
        state = self._state(self.file)
        wanted = module.state_dict()
        for words, names in (
            ("lacks", [name for name in wanted if name not in state]),
            ("has besides", [name for name in state if name not in wanted]),
        ):
            if names:
                more = f" and {len(names) - FIRST:,} more" if len(names) > FIRST else ""
                named = f"{', '.join(names[:FIRST])}{more}"
                raise self.failed(f"{self.file} is of another network: it {words} {named}")
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise self.failed(f"{self.file} is of another network: {error_line(error)}") from error
        return module

    def _state(self, path: str) -> Mapping[str, Any]:
        import torch

        try:
            if path.endswith(".safetensors"):
                from safetensors.torch import load_file

                return dict(load_file(path))
            state = torch.load(path, map_location="cpu", weights_only=True)
        except ImportError as error:
            raise self.failed(f"{path} needs safetensors: pip install safetensors") from error
        except Exception as error:
            raise self.failed(f"{path} cannot be read as weights: {error_line(error)}") from error
        if isinstance(state, Mapping):
            state = next((state[k] for k in ("state_dict", "model") if k in state), state)
        if not isinstance(state, Mapping):
            raise self.failed(f"{path} holds a {type(state).__name__}; save module.state_dict()")
        return state


@dataclass(frozen=True)
class OwnModule(TorchModel):
    """A module of a user's own by its import path, with the weights of a file.

    It is called without arguments, or, as `evaluate` calls such modules, with the shape of an
    image and the number of classes.
    """

    image_shape: tuple[int, int, int] | None = None
    classes: int = 0

    def check(self, store: Store) -> EmbeddingModel:
        super().check(store)
        if self.options.weights is None:
            raise InvalidOptionError(
                f"model {self.name}: its weights are not known",
                Hint(
                    "give a state dict, weights=FILE, or weights='random' with a seed",
                    "give a state dict, --weights FILE, or --weights random with a --seed",
                ),
            )
        shape = RowForm.of(store).image_shape
        found = replace(self, image_shape=shape, classes=class_count(store))
        return found if self.is_random() else found.with_file(self.options.weights)

    def made(self) -> nn.Module:
        from torch import nn

        package, _, name = self.part.rpartition(".")
        make = self.imported(package, name)
        arguments: tuple[Any, ...] = ()
        try:
            inspect.signature(make).bind()
        except (TypeError, ValueError):
            arguments = (self.image_shape, self.classes)
        try:
            with no_exit():
                module = make(*arguments)
        except Exception as error:
            raise self.failed(f"it cannot be made with {arguments}: {error_line(error)}") from error
        if not isinstance(module, nn.Module):
            raise self.failed(f"it gave {type(module).__name__}, not a torch.nn.Module")
        return self.filled(module)


@dataclass(frozen=True)
class TorchvisionModel(TorchModel):
    """A classifier of torchvision, with its own preprocessing.

    Attributes
    ----------
    recipe : str, optional
        The name of its weights in torchvision, whose preprocessing is done.
    """

    recipe: str = "DEFAULT"

    packages = ("torch", "torchvision")
    images_only = True

    def check(self, store: Store) -> EmbeddingModel:
        super().check(store)
        known = self._weights()
        asked = self.options.weights
        if asked is not None and asked in known.__members__:
            return replace(self, recipe=asked).cached(known[asked].url)
        if self.is_random():
            return self
        return self.with_file(asked) if asked else self.cached(known["DEFAULT"].url)

    def _weights(self) -> Any:
        from torchvision.models import get_model_weights

        try:
            return get_model_weights(self.part)
        except ValueError as error:
            raise self.refuse(error_line(error)) from error

    def cached(self, url: str) -> EmbeddingModel:
        """Return the model with the weights that torch has kept of an address."""
        import torch

        path = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
        if not path.is_file():
            raise self.not_cached(str(path))
        return self.with_file(path)

    def made(self) -> nn.Module:
        from torchvision.models import get_model

        # weights only say which network it is: they come from the file
        return self.filled(get_model(self.part, weights=None))

    def preprocessing(self, module: nn.Module) -> Callable[[Tensor], Tensor] | None:
        transforms: Callable[[Tensor], Tensor] = self._weights()[self.recipe].transforms()
        return transforms

    def tapped(self, module: nn.Module) -> Tap:
        from torch import nn

        if self.options.layer is not None:
            return super().tapped(module)
        linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
        if not linear:
            raise InvalidOptionError(
                f"model {self.name}: it has no linear layer whose input would be the embedding",
                Hint("name a layer", "name one with --layer"),
            )
        return Tap(module, linear[-1], "input")


@dataclass(frozen=True)
class TimmModel(TorchModel):
    """A model of timm, with its own preprocessing; without a layer its pooled features."""

    packages = ("torch", "timm")
    images_only = True

    def check(self, store: Store) -> EmbeddingModel:
        super().check(store)
        from timm.models import get_pretrained_cfg, is_model

        if not is_model(self.part):
            raise self.refuse("timm has no model of this name")
        asked = self.options.weights
        if asked is not None:
            return self if self.is_random() else self.with_file(asked)
        known = get_pretrained_cfg(self.part)
        hub, url = getattr(known, "hf_hub_id", None), getattr(known, "url", None)
        if hub:
            return self._in_hub_cache(hub, known.hf_hub_filename)
        if not url:
            raise InvalidOptionError(
                f"model {self.name}: timm knows no weights of it",
                Hint("name a file with weights=FILE", "name a file with --weights FILE"),
            )
        import torch

        path = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
        if not path.is_file():
            raise self.not_cached(str(path))
        return self.with_file(path)

    def _in_hub_cache(self, hub: str, filename: str | None) -> EmbeddingModel:
        from huggingface_hub import constants, try_to_load_from_cache

        names = [filename] if filename else ["model.safetensors", "pytorch_model.bin"]
        for name in names:
            path = try_to_load_from_cache(hub, name)
            if isinstance(path, str):
                return self.with_file(path)
        folder = Path(constants.HF_HUB_CACHE, f"models--{hub.replace('/', '--')}")
        raise self.not_cached(str(folder / "snapshots" / "…" / names[0]))

    def made(self) -> nn.Module:
        import timm

        if self.file is None:
            model: nn.Module = timm.create_model(self.part, pretrained=False)
        else:
            try:
                # of as many classes as the weights have, or timm would not ask for all of them
                overlay = {"file": self.file}
                model = timm.create_model(
                    self.part, pretrained=True, pretrained_cfg_overlay=overlay
                )
            except Exception as error:
                words = error_line(error)[:WORDS]
                raise self.failed(f"{self.file} does not fit: {words}") from error
        if self.options.layer is None:
            model.reset_classifier(0)  # type: ignore[operator]
        return model

    def preprocessing(self, module: nn.Module) -> Callable[[Tensor], Tensor] | None:
        from timm.data import create_transform, resolve_model_data_config

        transforms: Callable[[Tensor], Tensor] = create_transform(
            **resolve_model_data_config(module), is_training=False
        )
        return transforms


# -- applied -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tap:
    """Where in a network the embedding is taken.

    Attributes
    ----------
    module : torch.nn.Module
    layer : str
        Name of a module inside; "" for the network itself.
    side : {"input", "output", ""}
    """

    module: nn.Module
    layer: str
    side: str

    def __str__(self) -> str:
        return f"{self.side} of layer {self.layer}" if self.side else ""

    def hooked(self, take: Callable[[Any], None]) -> AbstractContextManager[Any]:
        """Call take with what goes into, or comes out of, the layer while the block runs."""
        layer = self.module.get_submodule(self.layer)
        if self.side == "input":
            return layer.register_forward_pre_hook(lambda _, given: take(given[0]))
        return layer.register_forward_hook(lambda _, given, made: take(made))


class LoadedNetwork:
    """A network in a worker process, in evaluation mode on its device."""

    def __init__(
        self,
        tap: Tap,
        place: Place,
        preprocess: Callable[[Tensor], Tensor] | None,
        facts: Mapping[str, Any],
    ) -> None:
        import torch

        tap.module.eval().requires_grad_(False)
        tap.module.to(torch.device(place.device), torch.float32)
        self.tap, self.place, self.preprocess = tap, place, preprocess
        self.channels = _channels(tap.module)
        self.facts: Mapping[str, Any] = {"layer": str(tap), **facts}

    def __call__(self, batch: NDArray[np.float32]) -> Any:
        import torch

        from ..evaluation.models.networks.lockstep import products
        from ..evaluation.models.networks.measuring import torch_threads

        device = torch.device(self.place.device)
        taken: list[Any] = []
        exact = products("float32", device)
        with torch.inference_mode(), torch_threads(self.place.threads), exact:
            images = torch.from_numpy(batch).to(device)
            if self.preprocess is not None:
                images = self.preprocess(images)
            with self.tap.hooked(taken.append):
                self.tap.module(images)
            made = taken[-1] if taken else None
            return made.float().cpu().numpy() if isinstance(made, torch.Tensor) else made


def _channels(module: nn.Module) -> int | None:
    """Return how many channels a network's first convolution takes."""
    from torch import nn

    return next((m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)), None)
