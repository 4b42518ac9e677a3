"""Mono3dDesign: all that makes one of these detectors, in plain data."""

from dataclasses import dataclass
from typing import Any, Literal

from kd3d_core.detectors.mvxnet import ImageNormalization

NetworkSettings = dict[str, Any]
"""What mmdet3d builds a network from; names are its own."""


@dataclass(frozen=True)
class ImageSettings:
    """What mmdet3d's test pipeline makes of an image.

    Attributes:
        normalization: mean and deviation of the colours.
        resize: `keep` leaves it as it is; `fit` scales it to the largest size within `size`; `warp`
            scales it to the width of `size` and shows its middle.
        size: height and width, pixels.
        stride: with `warp`, pixels of the image per cell of the map that says where objects
            are.
    """

    normalization: ImageNormalization
    resize: Literal["keep", "fit", "warp"] = "keep"
    size: tuple[int, int] = (0, 0)
    stride: int = 1


@dataclass(frozen=True)
class Mono3dDesign:
    """A detector.

    Attributes:
        network: of mmdet3d.
        image: what the network reads.
        classes: KITTI's name of each of its classes; None for those that KITTI's benchmark hasn't.
    """

    network: NetworkSettings
    image: ImageSettings
    classes: tuple[str | None, ...]
