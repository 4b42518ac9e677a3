"""The engine's parts of a model, once they are known to be this model's."""

import hashlib
from collections.abc import Mapping
from typing import Protocol

import torch

from kd3d_core.config import settings_digest
from kd3d_core.depth.config import DepthConfig
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.devices import Precision
from kd3d_core.errors import ConfigError, WeightsError
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.engines.config import ANEW, NO_ENGINE, EngineConfig, check_installed
from kd3d_core.models.engines.part import EnginePart
from kd3d_core.weights import resolve
from kd3d_core.weights.download import sha256_of
from kd3d_core.weights.tensors import read_tensors


class ExportedModel(Protocol):
    """What is asked of a model's configuration."""

    @property
    def detector(self) -> DetectorConfig: ...
    @property
    def engine(self) -> EngineConfig | None: ...
    @property
    def seed(self) -> int: ...


def load_parts(
    config: ExportedModel,
    windows: Mapping[str, WindowConfig | None],
    device: torch.device,
    precision: Precision,
) -> dict[str, EnginePart]:
    """Parts of a model by name, each with the window that it reads, if it reads an image.

    Raises:
        ConfigError: the engine isn't installed, can't compute here, or was made for another model.
        WeightsError: a file is missing, damaged, or can't be read.
    """
    engine = config.engine
    assert engine is not None
    if device.type != "cpu":
        raise ConfigError(
            f"engine {engine.name} computes on the CPU, and the device is {device}: {NO_ENGINE}, "
            "or use device cpu"
        )
    if precision not in ("auto", "fp32"):
        raise ConfigError(
            f"precision is {precision}, and that of engine {engine.name} is fixed: use auto, or "
            f"{NO_ENGINE}"
        )
    check_installed(engine.name)
    if fingerprint(config) != engine.made_for:
        raise ConfigError(
            f"{engine.folder} was made for other weights or settings than the model's: {ANEW}, or "
            f"{NO_ENGINE}"
        )
    return {name: _load(engine, name, window) for name, window in windows.items()}


def _load(engine: EngineConfig, name: str, window: WindowConfig | None) -> EnginePart:
    path = engine.file(name)
    if not path.is_file() or sha256_of(path) != engine.files.get(name):
        raise WeightsError(f"{path} is missing or not what was exported: {ANEW}")
    part = EnginePart(engine.name, path)
    if window is not None and window.mode != "fit" and part.shape[2:] != window.size:
        made, wanted = (f"{height} x {width}" for height, width in (part.shape[2:], window.size))
        raise ConfigError(
            f"{path} was made for a window of {made}, and the model's is {wanted}: {ANEW}"
        )
    return part


def fingerprint(config: ExportedModel) -> str:
    """Hexadecimal sha256 of a model's weights, and of those settings that its parts depend on.

    Windows aren't among them: a part itself says the size of its input.
    """
    detector, depth = config.detector, getattr(config, "depth", None)
    encoder = detector.image_side and detector.image_side.encoder
    settings: list[object] = [detector.type, detector.point_cloud_range, encoder]
    settings.append(_weights_digest(detector.weights, config.seed))
    if isinstance(depth, DepthConfig):
        settings += [depth.type, depth.encoder, depth.max_depth, depth.depth_scale]
        settings.append(_weights_digest(depth.weights, config.seed))
    return hashlib.sha256(settings_digest(settings).encode()).hexdigest()


def _weights_digest(weights: str, seed: int) -> str:
    """Of the tensors, whatever file holds them: packing writes another one."""
    if weights == "random":
        return f"random {seed}"
    path = resolve(weights)
    digest = hashlib.sha256()
    for name, tensor in sorted(
        read_tensors(path / "model.safetensors" if path.is_dir() else path).items()
    ):
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
