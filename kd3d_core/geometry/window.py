"""ImageWindow: the part of an image that a model sees, and the camera that belongs to it.

A window scales an image by one factor in both directions and then cuts or zero-pads it to a fixed
size. The intrinsics move with it, so that back-projection and projection stay exact.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.nn import functional

from kd3d_core.errors import ConfigError
from kd3d_core.geometry.camera import PinholeCamera

# Where the principal point's row falls in the KB crop of KITTI's images: 172.854 - 23 of 352.
_PRINCIPAL_ROW = (172.854 - 23) / 352
# A camera whose focal length is this close to the wanted one is not resampled: KITTI's recording
# days differ by 2 %, and the published models were trained on all of them unscaled.
_FOCAL_TOLERANCE = 0.05


@dataclass(frozen=True)
class WindowConfig:
    """How a model wants its image.

    Attributes:
        size: height and width of the model's input, pixels.
        mode: `crop` keeps pixels and cuts (the KB crop on KITTI images: from the bottom, centred);
            `letterbox` scales the whole image to fit and pads right and below; `fit` brings
            height or width to `size`, whichever changes the image less, as the image processors
            of depth models do, so that the window's shape follows the image's.
        focal_px: with `crop`, the focal length that the model was trained at. Images of other
            cameras are scaled to it first, because monocular depth is only metric at the focal
            length it was learnt with. None never scales.
        multiple_of: with `fit`, both sides of the window are the nearest multiples of this; the
            image covers them, and less than this is cut off, evenly from both ends.
        margin: with `fit`, the image counts as larger by `margin * sqrt(side / 2)` pixels at each
            end of a side, which the model itself adds (ZoeDepth).
    """

    size: tuple[int, int]
    mode: Literal["crop", "letterbox", "fit"] = "crop"
    focal_px: float | None = None
    multiple_of: int = 1
    margin: float = 0.0

    def __post_init__(self) -> None:
        if min(self.size) < 1 or self.multiple_of < 1:
            raise ConfigError(
                f"window size {list(self.size)} and multiple_of {self.multiple_of} must be positive"
            )

    def scaled(self, factor: float) -> "WindowConfig":
        """The same view in another resolution: an object is `factor` times as large in it.

        Raises:
            ConfigError: `focal_px` is None, so that the resolution is the image's own.
        """
        if factor == 1:
            return self
        if self.mode == "crop" and self.focal_px is None:
            raise ConfigError("a window without focal_px has its image's resolution: give it one")
        height, width = (round(factor * side) for side in self.size)
        focal = None if self.focal_px is None else factor * self.focal_px
        return replace(self, size=(height, width), focal_px=focal)

    def window(self, camera: PinholeCamera) -> "ImageWindow":
        """The window of this configuration for images of `camera`."""
        if self.mode == "fit":
            return self._fit(camera.height, camera.width)
        height, width = self.size
        if self.mode == "letterbox":
            scale = min(width / camera.width, height / camera.height)
            return ImageWindow(scale, 0, 0, width, height)
        scale = 1.0
        if self.focal_px is not None:
            scale = self.focal_px / camera.focal_px
            if abs(scale - 1) < _FOCAL_TOLERANCE:
                scale = 1.0
        scaled = camera.resized(scale)
        left = round((scaled.width - width) / 2)
        wanted_top = round(float(scaled.projection[1, 2]) - _PRINCIPAL_ROW * height)
        spare = scaled.height - height
        top = min(max(wanted_top, min(spare, 0)), max(spare, 0))
        return ImageWindow(scale, left, top, width, height)

    def _fit(self, image_height: int, image_width: int) -> "ImageWindow":
        sides = (image_height, image_width)
        factors = [
            wanted / (side + 2 * int(self.margin * math.sqrt(side / 2)))
            for wanted, side in zip(self.size, sides, strict=True)
        ]
        by_height, by_width = factors
        scale = by_width if abs(1 - by_width) < abs(1 - by_height) else by_height
        height, width = (
            max(round(scale * side / self.multiple_of), 1) * self.multiple_of for side in sides
        )
        # The next larger number, so that rounding never leaves the image a pixel short.
        scale = math.nextafter(max(height / image_height, width / image_width), math.inf)
        left, top = int(image_width * scale) - width, int(image_height * scale) - height
        return ImageWindow(scale, left // 2, top // 2, width, height)


@dataclass(frozen=True)
class ImageWindow:
    """A scaled copy of an image, seen from column `left` and row `top`, `width` x `height` big."""

    scale: float
    left: int
    top: int
    width: int
    height: int

    def camera(self, camera: PinholeCamera) -> PinholeCamera:
        """`camera` with its intrinsics moved into the window."""
        return camera.resized(self.scale).cropped(self.left, self.top, self.width, self.height)

    def inside(self, camera: PinholeCamera) -> tuple[int, int, int, int]:
        """Rows and columns of the window that show the image of `camera`, and not padding.

        Returns:
            First row, row after the last, first column, column after the last.
        """
        scaled = camera.resized(self.scale)
        return (
            max(0, -self.top),
            min(self.height, scaled.height - self.top),
            max(0, -self.left),
            min(self.width, scaled.width - self.left),
        )

    def extract(self, images: torch.Tensor) -> torch.Tensor:
        """Cut the window out of `(B, C, H, W)` floating-point images, zeros beyond their border."""
        if self.scale != 1:
            images = functional.interpolate(
                images,
                scale_factor=self.scale,
                mode="bilinear",
                antialias=self.scale < 1,
                recompute_scale_factor=False,
            )
        height, width = images.shape[-2:]
        border = (
            -self.left,
            self.left + self.width - width,
            -self.top,
            self.top + self.height - height,
        )
        return functional.pad(images, border)

    def restored(self, maps: torch.Tensor, camera: PinholeCamera) -> torch.Tensor:
        """The reverse of `extract`: `(B, h, w)` maps of the window at the size of the image.

        Args:
            maps: one number per pixel of the window, for example depth.
            camera: of the image.

        Returns:
            `(B, H, W)`; between pixels of the window it is interpolated, and what the window
            doesn't show is 0.
        """
        columns, rows = (
            ((torch.arange(size, device=maps.device) + 0.5) * self.scale - start) * 2 / side - 1
            for size, start, side in (
                (camera.width, self.left, self.width),
                (camera.height, self.top, self.height),
            )
        )
        places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).to(maps.dtype)
        sampled = functional.grid_sample(
            maps[:, None],
            places.expand(len(maps), -1, -1, -1),
            padding_mode="border",
            align_corners=False,
        )[:, 0]
        return torch.where((places.abs() <= 1).all(-1), sampled, 0)
