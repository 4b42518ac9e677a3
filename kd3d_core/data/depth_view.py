"""What a depth network that learns sees of frames, and true depth in place of what it says."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from kd3d_core.data.augment import Augmentation
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.depth_maps import densified
from kd3d_core.geometry.points import depth_map
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import PseudoLidarConfig
from kd3d_core.models.pseudo_lidar import pseudo_lidar


@dataclass(frozen=True)
class ViewConfig:
    """What is to be given of each frame.

    Attributes:
        window: what the depth network sees of the image.
        keep_fraction: share of the pixels that become points, others in each epoch.
        within_px: how far from its pixel a LiDAR return may stand for a pixel of `dense`.
    """

    window: WindowConfig
    keep_fraction: float
    within_px: float


@dataclass(frozen=True)
class DepthView:
    """One frame, or the frames of a batch, with B before all shapes.

    Attributes:
        images: `(3, h, w)` float32 RGB, 0 to 255, cut to the depth network's window.
        image_from_lidar: `(3, 4)` float32 projection into it.
        lidar: `(h, w)` float32 metres that LiDAR measured, 0 elsewhere.
        dense: `(h, w)` the same, also in pixels near to a return; see `densified`.
        pixels: `(K,)` int64 flat indices of the pixels that become points.
        seen: `(h, w)` bool, pixels that show what the camera saw; others become no points.
    """

    images: torch.Tensor
    image_from_lidar: torch.Tensor
    lidar: torch.Tensor
    dense: torch.Tensor
    pixels: torch.Tensor
    seen: torch.Tensor

    def changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "DepthView":
        """The same with `change` of each tensor."""
        return DepthView(**{each.name: change(getattr(self, each.name)) for each in fields(self)})

    @staticmethod
    def stacked(views: "list[DepthView]") -> "DepthView":
        """Those of a batch."""
        names = [field.name for field in fields(DepthView)]
        return DepthView(
            **{name: torch.stack([getattr(view, name) for view in views]) for name in names}
        )


def depth_view(
    image: torch.Tensor,
    camera: PinholeCamera,
    seen: np.ndarray,
    points: np.ndarray,
    config: ViewConfig,
    seed: tuple[int, ...],
) -> DepthView:
    """What the network sees of one frame as it is.

    Args:
        image: `(3, h, w)`, cut to the window.
        camera: of the window.
        seen: `(h, w)` bool, pixels that show what the camera saw; no other is known.
        points: `(N, 4)` of the frame's LiDAR; none is possible.
        config: what to give.
        seed: draws the pixels.
    """
    height, width = image.shape[-2:]
    lidar = np.where(seen, depth_map(points, camera.image_from_lidar, (height, width)), 0)
    # Of all pixels, as `pseudo_lidar` does, so that clouds are as dense as later.
    count = max(1, round(config.keep_fraction * height * width))
    drawn = np.random.default_rng(seed).choice(height * width, count, replace=False, shuffle=False)
    return DepthView(
        image,
        torch.from_numpy(camera.image_from_lidar).float(),
        torch.from_numpy(lidar),
        torch.from_numpy(np.where(seen, densified(lidar, config.within_px), 0)),
        torch.from_numpy(np.sort(drawn)),
        torch.from_numpy(seen),
    )


def augmented(view: DepthView, change: Augmentation) -> DepthView:
    """The view of one frame in the changed world.

    The camera stays where it is: only a mirrored image has other depths.
    """
    image, projection = change.image(view.images, view.image_from_lidar)
    if not change.flip:
        return replace(view, images=image, image_from_lidar=projection)
    return replace(
        view, images=image, image_from_lidar=projection, lidar=view.lidar.flip(-1),
        dense=view.dense.flip(-1), seen=view.seen.flip(-1),
    )  # fmt: skip


def true_depth_cloud(
    points: np.ndarray,
    camera: PinholeCamera,
    window: WindowConfig,
    settings: PseudoLidarConfig,
    within_px: float,
) -> np.ndarray:
    """`(N, 4)` pseudo-LiDAR of the depth that LiDAR measured: a teaching assistant's points.

    The pixels are those of `pseudo_lidar` in the same window, as far as a LiDAR return lies within
    `within_px` of them.

    Args:
        points: `(N, 4)` of the LiDAR.
        camera: of the whole image.
        window: of the model's depth network.
        settings: of its pseudo-LiDAR.
        within_px: see `densified`.
    """
    seen = window.window(camera)
    own = seen.camera(camera)
    lidar = depth_map(points, own.image_from_lidar, (seen.height, seen.width))
    dense = torch.from_numpy(densified(lidar, within_px))
    cloud, valid = pseudo_lidar(dense, own, settings, seen.inside(camera))
    return cloud[valid].numpy()
