"""What every depth model is: its configuration, and a module from images to metres."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from kd3d_core.errors import ConfigError
from kd3d_core.geometry.window import WindowConfig


@dataclass(frozen=True)
class DepthConfig:
    """A depth model.

    Attributes:
        weights: a name from `config/weights.yaml`, a transformers folder, a hub name `hub:...`,
            or `random` (GLPN only).
        window: what the model sees of the image. GLPN needs it, both sides multiples of 32; for
            `auto` the model's own image processor says it unless it is given.
        type: `glpn`, or `auto` for any other metric model of transformers.
        encoder: GLPN's Mix Transformer size that `random` builds; a folder brings its own.
        max_depth: cap in metres that the weights were trained with.
        depth_scale: factor on the answer, for checkpoints that `max_depth` can't repair.
    """

    weights: str
    window: WindowConfig | None = None
    type: Literal["glpn", "auto"] = "glpn"
    encoder: Literal["b0", "b4"] = "b4"
    max_depth: int = 80
    depth_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.type == "glpn" and self.window is None:
            raise ConfigError("depth.window is missing: GLPN needs the size of its input")
        if self.type == "auto" and self.weights == "random":
            raise ConfigError(
                "depth.weights is random, and type auto takes its architecture from a folder: "
                "give one, or use type glpn"
            )


class DepthModel(nn.Module):
    """Images `(B, 3, H, W)`, RGB in [0, 1], to depth `(B, H, W)` in metres."""

    def __init__(self, network: nn.Module, depth_scale: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.depth_scale = depth_scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        depth = self.network(pixel_values=images).predicted_depth
        return depth if self.depth_scale == 1 else depth * self.depth_scale

    def save(self, folder: Path) -> None:
        """Write a transformers folder, from which the same model can be loaded again."""
        network: Any = self.network
        network.save_pretrained(folder)
