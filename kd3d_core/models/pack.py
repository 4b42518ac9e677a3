"""A model as a folder of its own: configuration and weights that can be copied anywhere."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save

from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.files import write_whole
from kd3d_core.models.config import (
    ExportableConfig,
    ModelConfig,
    PseudoLidarModelConfig,
    save_model_config,
    with_detector_weights,
)
from kd3d_core.weights import resolve
from kd3d_core.weights.tensors import read_tensors


def pack_model(config: ModelConfig, out: Path, half: bool) -> int:
    """Write `out/model.yaml`, `out/depth/` and `out/detector.safetensors`; bytes of the weights.

    A part with random weights has no file and stays random; `ConfigError` if both are. `half`
    stores matrices in fp16; vectors (norms, biases) stay as they are, and whoever loads the file
    computes in single precision as before.
    """
    if half and isinstance(config, ExportableConfig) and config.engine is not None:
        raise ConfigError(
            "the parts of an engine have their weights in them, which aren't halved: pack without "
            "--half"
        )
    size = 0
    packed: ModelConfig = config
    if isinstance(packed, PseudoLidarModelConfig) and packed.depth.weights != "random":
        size += _write_depth(resolve(packed.depth.weights), out / "depth", half)
        packed = replace(packed, depth=replace(packed.depth, weights="./depth"))
    if config.detector.weights != "random":
        source = resolve(config.detector.weights)
        size += _write_tensors(source, out / "detector.safetensors", half)
        packed = with_detector_weights(packed, "./detector.safetensors")
    if isinstance(packed, ExportableConfig) and packed.engine is not None:
        engine = packed.engine
        for name in engine.files:
            write_whole(out / "engine" / f"{name}.onnx", engine.file(name).read_bytes())
        packed = replace(packed, engine=replace(engine, folder="./engine"))
    if not size:
        raise ConfigError("the model has random weights: there is nothing to pack")
    save_model_config(packed, out / "model.yaml")
    return size


def _write_depth(folder: Path, target: Path, half: bool) -> int:
    tensors = folder / "model.safetensors"
    if not tensors.is_file():
        raise WeightsError(f"{folder} has no model.safetensors: only such depth models are packed")
    for path in sorted(folder.glob("*.json")):
        write_whole(target / path.name, path.read_bytes())
    return _write_tensors(tensors, target / "model.safetensors", half)


def _write_tensors(source: Path, target: Path, half: bool) -> int:
    tensors = read_tensors(source)
    if half:
        tensors = {name: _halved(tensor) for name, tensor in tensors.items()}
    # The metadata is what transformers asks of a file that it is to read.
    data = save({name: t.contiguous() for name, t in tensors.items()}, {"format": "pt"})
    write_whole(target, data)
    return len(data)


def _halved(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
