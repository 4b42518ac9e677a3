"""Trained networks as files that models load."""

from dataclasses import replace
from pathlib import Path

from safetensors.torch import save

from kd3d_core.depth.model import DepthModel
from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.files import write_whole
from kd3d_core.models.config import (
    OwnModelConfig,
    PseudoLidarModelConfig,
    save_model_config,
    with_detector_weights,
    without_engine,
)


def export_depth(depth: DepthModel, model: PseudoLidarModelConfig, out: Path) -> None:
    """A transformers folder, `out/depth`, and `out/model.yaml` that names it."""
    save_model_config(without_engine(_with_depth(depth, model, out)), out / "model.yaml")


def export_detector(
    detector: AnchorDetector, model: OwnModelConfig, out: Path, depth: DepthModel | None = None
) -> None:
    """The network's tensors, `out/detector.safetensors`, and `out/model.yaml` that names it.

    A `depth` network that was trained as well goes beside it, as of `export_depth`.
    """
    if depth is not None:
        assert isinstance(model, PseudoLidarModelConfig)
        model = _with_depth(depth, model, out)
    tensors = detector.network.state_dict()
    data = save({name: value.contiguous() for name, value in tensors.items()})
    write_whole(out / "detector.safetensors", data)
    named = with_detector_weights(without_engine(model), "./detector.safetensors")
    save_model_config(named, out / "model.yaml")


def _with_depth(
    depth: DepthModel, model: PseudoLidarModelConfig, out: Path
) -> PseudoLidarModelConfig:
    """Write `out/depth`; the model that reads it there."""
    depth.save(out / "depth")
    return replace(model, depth=replace(model.depth, weights="./depth"))
