"""ImageWindow: the part of an image that a model sees, and the camera that belongs to it.

A window scales an image by one factor in both directions and then cuts or zero-pads it to a fixed
size. The intrinsics move with it, so that back-projection and projection stay exact.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from kd3d_core.errors import CalibrationError, ConfigError
from kd3d_core.geometry.camera import PinholeCamera

if TYPE_CHECKING:  # takes seconds; settings of windows are read before they are needed
    import torch

# Where the principal point's row falls in the KB crop of KITTI's images: 172.854 - 23 of 352.
_PRINCIPAL_ROW = (172.854 - 23) / 352
# A camera whose focal length is this close to the wanted one is not resampled: KITTI's recording
# days differ by 2 %, and the published models were trained on all of them unscaled.
_FOCAL_TOLERANCE = 0.05
# By how much an image is scaled at most, up or down.
_LARGEST_SCALE = 64
# No network takes larger images: those of 4096 x 4096 have 50 times the pixels of KITTI's.
_LARGEST_SIDE = 4096
# Up to here the whole image is scaled and then cut; beyond, only what the window shows is computed.
_WHOLE_IMAGE_SCALE = 2


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
        if max(*self.size, self.multiple_of) > _LARGEST_SIDE:
            raise ConfigError(
                f"window size {list(self.size)} and multiple_of {self.multiple_of}: at "
                f"most {_LARGEST_SIDE} pixels a side are possible"
            )

    def scaled(self, factor: float) -> "WindowConfig":
        """The same view in another resolution: an object is `factor` times as large in it.

        >>> half = WindowConfig((352, 1216), focal_px=721.5).scaled(0.5)
        >>> half.size, half.focal_px
        ((176, 608), 360.75)
        """
        if factor == 1:
            return self
        if self.mode == "crop" and self.focal_px is None:
            raise ConfigError("a window without focal_px has its image's resolution: give it one")
        height, width = (round(factor * side) for side in self.size)
        focal = None if self.focal_px is None else factor * self.focal_px
        return replace(self, size=(height, width), focal_px=focal)

    def window(self, camera: PinholeCamera) -> "ImageWindow":
        """The window of this configuration for images of `camera`.

        `CalibrationError` if the image would have to be scaled by more than 64, up or down.

        >>> import numpy as np
        >>> projection = np.array([[1443.0, 0, 960, 0], [0, 1443, 540, 0], [0, 0, 1, 0]])
        >>> camera = PinholeCamera(projection, 1920, 1080, np.eye(4))
        >>> WindowConfig((352, 1216), "crop", focal_px=721.5).window(camera)
        ImageWindow(scale=0.5, left=-128, top=120, width=1216, height=352)
        """
        if self.mode == "fit":
            return self._fit(camera)
        height, width = self.size
        if self.mode == "letterbox":
            scale = _bounded(min(width / camera.width, height / camera.height), camera)
            return ImageWindow(scale, 0, 0, width, height)
        scale = 1.0
        if self.focal_px is not None:
            scale = _bounded(self.focal_px / camera.focal_px, camera)
            if abs(scale - 1) < _FOCAL_TOLERANCE:
                scale = 1.0
        scaled = camera.resized(scale)
        left = round((scaled.width - width) / 2)
        wanted_top = round(float(scaled.projection[1, 2]) - _PRINCIPAL_ROW * height)
        spare = scaled.height - height
        top = min(max(wanted_top, min(spare, 0)), max(spare, 0))
        return ImageWindow(scale, left, top, width, height)

    def _fit(self, camera: PinholeCamera) -> "ImageWindow":
        image_height, image_width = camera.height, camera.width
        sides = (image_height, image_width)
        factors = [
            wanted / (side + 2 * int(self.margin * math.sqrt(side / 2)))
            for wanted, side in zip(self.size, sides, strict=True)
        ]
        by_height, by_width = factors
        scale = by_width if abs(1 - by_width) < abs(1 - by_height) else by_height
        scale = _bounded(scale, camera)
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
        """`camera` with its intrinsics moved into the window.

        >>> import numpy as np
        >>> projection = np.array([[1000.0, 0, 959.5, 0], [0, 1000, 539.5, 0], [0, 0, 1, 0]])
        >>> window = ImageWindow(scale=0.5, left=180, top=70, width=600, height=400)
        >>> moved = window.camera(PinholeCamera(projection, 1920, 1080, np.eye(4)))
        >>> moved.focal_px, moved.projection[:2, 2].tolist()
        (500.0, [299.5, 199.5])
        """
        return camera.resized(self.scale).cropped(self.left, self.top, self.width, self.height)

    def inside(self, camera: PinholeCamera) -> tuple[int, int, int, int]:
        """First row, row after the last, first column and column after the last of the image.

        The window shows the image of `camera` there, and padding elsewhere.

        >>> import numpy as np
        >>> projection = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
        >>> window = ImageWindow(scale=1, left=-30, top=100, width=700, height=300)
        >>> window.inside(PinholeCamera(projection, 640, 480, np.eye(4)))
        (0, 300, 30, 670)
        """
        scaled = camera.resized(self.scale)
        return (
            max(0, -self.top),
            min(self.height, scaled.height - self.top),
            max(0, -self.left),
            min(self.width, scaled.width - self.left),
        )

    def extract(self, images: "torch.Tensor") -> "torch.Tensor":
        """Cut the window out of `(B, C, H, W)` floating-point images, zeros beyond their border.

        >>> import torch
        >>> image = torch.arange(12.0).reshape(1, 1, 3, 4)
        >>> ImageWindow(scale=1, left=2, top=1, width=3, height=2).extract(image)[0, 0].tolist()
        [[6.0, 7.0, 0.0], [10.0, 11.0, 0.0]]
        """
        from torch.nn import functional

        if self.scale > _WHOLE_IMAGE_SCALE:
            height, width = images.shape[-2:]
            columns, rows = (
                (_centers(side, images) + start) * 2 / (self.scale * size) - 1
                for side, start, size in (
                    (self.width, self.left, width),
                    (self.height, self.top, height),
                )
            )
            return _sampled(images, columns, rows)
        if self.scale != 1:
            images = functional.interpolate(
                images, scale_factor=self.scale, mode="bilinear", antialias=self.scale < 1,
                recompute_scale_factor=False,
            )  # fmt: skip
        height, width = images.shape[-2:]
        right, bottom = self.left + self.width - width, self.top + self.height - height
        return functional.pad(images, (-self.left, right, -self.top, bottom))

    def restored(self, maps: "torch.Tensor", camera: PinholeCamera) -> "torch.Tensor":
        """The reverse of `extract`: `(B, h, w)` maps of the window as `(B, H, W)` of the image.

        Between pixels of the window it is interpolated, and what the window doesn't show is 0.

        >>> import numpy as np, torch
        >>> projection = np.array([[5.0, 0, 2, 0], [0, 5, 1, 0], [0, 0, 1, 0]])
        >>> window = ImageWindow(scale=1, left=1, top=0, width=2, height=1)
        >>> depth = torch.tensor([[[7.0, 8.0]]])
        >>> window.restored(depth, PinholeCamera(projection, 4, 2, np.eye(4)))[0].tolist()
        [[0.0, 7.0, 8.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
        """
        columns, rows = (
            (_centers(size, maps) * self.scale - start) * 2 / side - 1
            for size, start, side in (
                (camera.width, self.left, self.width),
                (camera.height, self.top, self.height),
            )
        )
        return _sampled(maps[:, None], columns, rows)[:, 0]


def _bounded(scale: float, camera: PinholeCamera) -> float:
    if 1 / _LARGEST_SCALE <= scale <= _LARGEST_SCALE:
        return scale
    raise CalibrationError(
        f"an image of {camera.width} x {camera.height} with focal length {camera.focal_px:g} px "
        f"would be scaled by {scale:.3g} for the model, {_LARGEST_SCALE} is the most: calibrate "
        "the camera, or use another image size"
    )


def _centers(count: int, like: "torch.Tensor") -> "torch.Tensor":
    """Where pixels have their centres, counted from the border of the first."""
    import torch

    return torch.arange(count, device=like.device) + 0.5


def _sampled(
    images: "torch.Tensor", columns: "torch.Tensor", rows: "torch.Tensor"
) -> "torch.Tensor":
    """`(B, C, h, w)` of `(B, C, H, W)` images: what they show at w columns and h rows.

    Places count from -1 at one border of an image to 1 at the other; beyond them there is 0.
    """
    import torch
    from torch.nn import functional

    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).to(images.dtype)
    sampled = functional.grid_sample(
        images,
        places.expand(len(images), -1, -1, -1),
        padding_mode="border",
        align_corners=False,
    )
    return torch.where((places.abs() <= 1).all(-1), sampled, 0)
