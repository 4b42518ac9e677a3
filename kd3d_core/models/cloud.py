"""From an image to its pseudo-LiDAR: window, depth network, back-projection."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from kd3d_core.depth.config import DepthConfig
from kd3d_core.devices import FixedPrecision, autocast
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.window import ImageWindow
from kd3d_core.models.config import PseudoLidarConfig
from kd3d_core.models.pseudo_lidar import pseudo_lidar

Mark = Callable[[str], None]
"""Is told the name of each stage at its end."""


@dataclass(frozen=True)
class PseudoLidarCloud:
    """What is made of one image.

    Attributes:
        points: `(N, 4)` float32 in the detector frame: x, y, z in metres, intensity.
        valid: `(N,)` bool, the points to use; see `pseudo_lidar`.
        depth: `(h, w)` float32 metres on the depth network's grid.
        image: `(1, 3, h, w)` what the network saw of the image, 0 to 255.
        window: where that lies in the image.
    """

    points: torch.Tensor
    valid: torch.Tensor
    depth: torch.Tensor
    image: torch.Tensor
    window: ImageWindow


class PseudoLidar:
    """From an image to its pseudo-LiDAR: window, depth network, back-projection.

    Attributes:
        network: the depth network, in eval mode: `(1, 3, h, w)` RGB in [0, 1] to `(1, h, w)` m.
        config: what the network is, with its window.
        settings: how depth becomes points.
        precision: of the network.
    """

    def __init__(
        self,
        network: nn.Module,
        config: DepthConfig,
        settings: PseudoLidarConfig,
        precision: FixedPrecision,
    ) -> None:
        assert config.window is not None, "make_depth says which window the network wants"
        self.network = network
        self.config = config
        self.settings = settings
        self.precision = precision
        self._window = config.window

    def depth(
        self, image: torch.Tensor, camera: PinholeCamera
    ) -> tuple[torch.Tensor, torch.Tensor, ImageWindow]:
        """Depth `(h, w)` in metres, what the network saw `(1, 3, h, w)`, and where that lies."""
        window = self._window.window(camera)
        seen = window.extract(image)
        with autocast(self.precision, image.device):
            depth = self.network(seen / 255)[0].float()
        return depth, seen, window

    def __call__(
        self, image: torch.Tensor, camera: PinholeCamera, mark: Mark = lambda stage: None
    ) -> PseudoLidarCloud:
        """The cloud of one image."""
        depth, seen, window = self.depth(image, camera)
        mark("depth")
        points, valid = pseudo_lidar(
            depth, window.camera(camera), self.settings, window.inside(camera)
        )
        mark("pseudo_lidar")
        return PseudoLidarCloud(points, valid, depth, seen, window)
