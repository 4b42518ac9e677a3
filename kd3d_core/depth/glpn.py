"""GLPN (Kim et al., 2022): metric depth from one image.

The network ends in `sigmoid(x) * max_depth`. The checkpoint published for KITTI was trained with
a cap of 80 m and converted with the library's default of 10, so its raw answers are exactly 8
times too small; every GLPN here is therefore built with the `max_depth` of our own configuration.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from kd3d_core.errors import WeightsError
from kd3d_core.geometry.window import WindowConfig

log = logging.getLogger(__name__)

# Encoder sizes of the Mix Transformer: blocks per stage and channels per stage.
_ENCODERS: dict[str, Any] = {
    "b0": {"depths": [2, 2, 2, 2], "hidden_sizes": [32, 64, 160, 256]},
    "b4": {"depths": [3, 8, 27, 3], "hidden_sizes": [64, 128, 320, 512]},
}


@dataclass(frozen=True)
class DepthConfig:
    """A depth model.

    Attributes:
        weights: a name from `config/weights.yaml`, a transformers folder, a hub name `hub:...`,
            or `random`.
        window: what the model sees of the image; both sides multiples of 32.
        encoder: Mix Transformer size that `random` builds; a folder brings its own.
        max_depth: cap in metres that the weights were trained with.
        depth_scale: factor on the answer, for checkpoints that `max_depth` can't repair.
    """

    weights: str
    window: WindowConfig
    encoder: Literal["b0", "b4"] = "b4"
    max_depth: int = 80
    depth_scale: float = 1.0


class DepthModel(nn.Module):
    """Images `(B, 3, H, W)`, RGB in [0, 1], to depth `(B, H, W)` in metres."""

    def __init__(self, network: nn.Module, depth_scale: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.depth_scale = depth_scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        depth = self.network(pixel_values=images).predicted_depth
        return depth if self.depth_scale == 1 else depth * self.depth_scale


def random_glpn(config: DepthConfig, seed: int) -> DepthModel:
    """A GLPN with weights drawn from `seed`; its depth means nothing."""
    from transformers import GLPNConfig, GLPNForDepthEstimation

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = GLPNForDepthEstimation(
            GLPNConfig(max_depth=config.max_depth, **_ENCODERS[config.encoder])
        )
    return DepthModel(network, config.depth_scale).eval()


def load_glpn(source: Path | str, config: DepthConfig) -> DepthModel:
    """A GLPN from a transformers folder, or from the hub if `source` is a hub name.

    Raises:
        WeightsError: there is no such folder, it holds another architecture, a tensor is missing,
            or the answer isn't capped at `config.max_depth`.
    """
    from transformers import GLPNConfig, GLPNForDepthEstimation

    try:
        stored = GLPNConfig.from_pretrained(source)
        loaded: Any = GLPNForDepthEstimation.from_pretrained(
            source, max_depth=config.max_depth, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"GLPN weights {source} can't be loaded: {reason}; "
            "give a transformers folder (config.json, model.safetensors)"
        ) from None
    network, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:
        raise WeightsError(
            f"{source} lacks {len(missing)} of GLPN's tensors, {missing[0]} first: "
            "it is another architecture or a damaged file"
        )
    if network.head.config.max_depth != config.max_depth:
        raise WeightsError(f"{source}: max_depth stayed {network.head.config.max_depth}")
    if stored.max_depth != config.max_depth:
        log.info(
            "%s says max_depth %s; using %s, so depths are %.3g times what it says",
            source, stored.max_depth, config.max_depth, config.max_depth / stored.max_depth,
        )  # fmt: skip
    return DepthModel(network, config.depth_scale).eval()
