"""What a configuration file says about a detector of mmdet3d on one image; it costs nothing."""

from dataclasses import dataclass, replace
from typing import Literal

from kd3d_core.classes import KITTI_CLASSES

Mono3dType = Literal["smoke", "pgd", "fcos3d", "imvoxelnet"]


@dataclass(frozen=True)
class Mono3dConfig:
    """A detector of mmdet3d on one image; sizes, thresholds and NMS are those it is published with.

    Attributes:
        type: name of the network.
        weights: a name from `config/weights.yaml`, a `.safetensors` or mmdet3d `.pth` file, or
            `random`.
    """

    type: Mono3dType
    weights: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels: KITTI's. What a network finds of other classes is left out."""
        return KITTI_CLASSES

    def with_weights(self, weights: str) -> "Mono3dConfig":
        """The same with other weights."""
        return replace(self, weights=weights)
