"""EnginePart: an ONNX file in an inference engine, called as the module that it was made of."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kd3d_core.errors import ConfigError, WeightsError, first_line
from kd3d_core.models.engines.config import ANEW, EngineName, check_installed

_Run = Callable[[np.ndarray], list[np.ndarray]]


class EnginePart(nn.Module):
    """A tensor of one shape in, a tensor or a tuple of tensors out; on the CPU, without gradients.

    It computes with as many threads as torch has when it is made.

    Attributes:
        shape: of the input.
    """

    def __init__(self, engine: EngineName, path: Path) -> None:
        """
        Raises:
            ConfigError: the engine isn't installed.
            WeightsError: it can't read the file.
        """
        super().__init__()
        check_installed(engine)
        make = {"onnxruntime": _onnxruntime, "openvino": _openvino}[engine]
        try:
            self._run, self.shape = make(path, torch.get_num_threads())
        except Exception as error:  # engines have families of their own
            raise WeightsError(
                f"{path}: {engine} can't load it ({first_line(error)}): {ANEW}"
            ) from None
        self.path = path

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        if tuple(x.shape) != self.shape:
            raise ConfigError(
                f"{self.path} was made for an input of {list(self.shape)}, and it is "
                f"{list(x.shape)} here: {ANEW}"
            )
        answers = [torch.from_numpy(each) for each in self._run(x.detach().contiguous().numpy())]
        return answers[0] if len(answers) == 1 else tuple(answers)


def _onnxruntime(path: Path, threads: int) -> tuple[_Run, tuple[int, ...]]:
    runtime: Any = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # warnings are about optimisations that it didn't find
    options.intra_op_num_threads = threads
    spin = os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE"  # as torch's; see threads.py
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    return lambda x: session.run(None, {images.name: x}), tuple(images.shape)


def _openvino(path: Path, threads: int) -> tuple[_Run, tuple[int, ...]]:
    openvino: Any = importlib.import_module("openvino")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # unasked it takes bf16 where the CPU knows it
        "ENABLE_CPU_PINNING": False,  # others compute here as well
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()

    def run(x: np.ndarray) -> list[np.ndarray]:
        found = request.infer({0: x}, share_inputs=True)  # answers are copies: others keep them
        return [found[output] for output in compiled.outputs]

    return run, tuple(compiled.inputs[0].shape)
