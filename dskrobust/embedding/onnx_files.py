"""ONNX files as models, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..display import error_line
from ..store import Store
from .models import EmbeddingModel, LoadedModel, Place, Trained, file_facts, versions_of

ENDING = ".onnx"
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class OnnxModel(EmbeddingModel):
    """An ``.onnx`` file with one input; `layer` is one of its outputs, the first by default."""

    packages = ("onnxruntime",)
    known_options = ("layer",)

    def check(self, store: Store) -> EmbeddingModel:
        super().check(store)
        return self.with_file(self.name)

    def sees_gpu(self) -> bool:
        import onnxruntime

        return CUDA in onnxruntime.get_available_providers()

    def load(self, place: Place, trained: Trained | None) -> LoadedModel:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = place.threads
        options.inter_op_num_threads = 1
        gpu = [CUDA] if place.device == "cuda" else []
        assert self.file is not None
        try:
            session = onnxruntime.InferenceSession(
                self.file, options, providers=[*gpu, "CPUExecutionProvider"]
            )
        except Exception as error:
            raise self.failed(f"{self.file} cannot be loaded: {error_line(error)}") from error
        return LoadedOnnx(self, session, file_facts(self.file))


class LoadedOnnx:
    """An ONNX model in a worker process.

    Raises
    ------
    EmbeddingError
        Where it has not one input, or not the output that is asked for.
    """

    def __init__(self, model: OnnxModel, session: Any, file: dict[str, Any]) -> None:
        inputs, outputs = session.get_inputs(), [output.name for output in session.get_outputs()]
        if len(inputs) != 1:
            raise model.failed(f"it has {len(inputs)} inputs; models of one input are taken")
        layer = model.options.layer or outputs[0]
        if layer not in outputs:
            raise model.failed(f"it has no output {layer!r}, but {', '.join(outputs)}")
        self.session, self.input, self.output = session, inputs[0].name, layer
        shape = inputs[0].shape
        self.channels = shape[1] if len(shape) == 4 and isinstance(shape[1], int) else None
        self.facts: Mapping[str, Any] = {
            "layer": f"output {layer}",
            "weights": f"SHA-256 {file['sha256']}",
            "files": [file],
            "versions": versions_of("onnxruntime"),
        }

    def __call__(self, batch: NDArray[np.float32]) -> Any:
        return self.session.run([self.output], {self.input: batch})[0]
