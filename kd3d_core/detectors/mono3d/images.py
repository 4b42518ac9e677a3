"""Images as mmdet3d's test pipelines and data preprocessor bring them to a network, in torch.

Theirs are bytes between the steps, and OpenCV knows places to 1/32 of a pixel, so that colours of
scaled images differ from ours by 1 of 255 or so, and by up to 4 where the image ends.
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from kd3d_core.detectors.mono3d.design import ImageSettings
from kd3d_core.geometry.camera import PinholeCamera

_DIVISOR = 32  # of the sides of what a network reads


def prepare(
    image: torch.Tensor, camera: PinholeCamera, settings: ImageSettings
) -> tuple[torch.Tensor, dict[str, Any]]:
    """What the network reads, and what mmdet3d's heads ask about it, under its names.

    Args:
        image: `(1, 3, H, W)` float32 RGB, 0 to 255.
        camera: of that image.
        settings: of the network.

    Returns:
        `(1, 3, h, w)`, both sides multiples of 32, and the image's metadata.
    """
    height, width = image.shape[-2:]
    about: dict[str, Any] = {
        "ori_shape": (height, width),
        "cam2img": _square(camera.projection),
        "lidar2img": _square(camera.image_from_lidar),
        "scale_factor": (1.0, 1.0),
    }
    if settings.resize == "fit":
        image = _fitted(image, settings.size)
        about["scale_factor"] = (image.shape[-1] / width, image.shape[-2] / height)
    elif settings.resize == "warp":
        image = _warped(image, settings.size)
        grid = (settings.size[0] // settings.stride, settings.size[1] // settings.stride)
        about["trans_mat"] = middle_scaled((height, width), grid)
    rows, columns = image.shape[-2:]
    down, right = (-side % _DIVISOR for side in (rows, columns))
    about |= {"img_shape": (rows, columns), "pad_shape": (rows + down, columns + right)}
    return functional.pad(_normalized(image, settings), (0, right, 0, down)), about


def middle_scaled(size: tuple[int, int], wanted: tuple[int, int]) -> np.ndarray:
    """3x3 float32: from pixels of an image to those of one of a wanted size (height, width).

    Scaled to its width, the middle onto the middle.

    >>> middle_scaled((100, 400), (60, 200)).tolist()
    [[0.5, 0.0, 0.0], [0.0, 0.5, 5.0], [0.0, 0.0, 1.0]]
    """
    (height, width), (rows, columns) = size, wanted
    scale = columns / width
    down = (rows - scale * height) / 2
    return np.array([[scale, 0, 0], [0, scale, down], [0, 0, 1]], np.float32)


def _square(matrix: np.ndarray) -> np.ndarray:
    """4x4 float32, with the last row of one that moves nothing."""
    square = np.eye(4, dtype=np.float32)
    square[: len(matrix)] = matrix
    return square


def _fitted(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    height, width = image.shape[-2:]
    short, long = sorted(size)
    scale = min(long / max(height, width), short / min(height, width))
    wanted = int(height * scale + 0.5), int(width * scale + 0.5)
    return functional.interpolate(image, wanted, mode="bilinear")


def _warped(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Pixels have their centres at whole numbers, as in OpenCV; beyond the image all is black."""
    (height, width), (rows, columns) = image.shape[-2:], size
    matrix = middle_scaled((height, width), size).astype(np.float64)
    x, y = (
        (torch.arange(count, dtype=torch.float64) - offset) / matrix[0, 0] * 2 / side + 1 / side - 1
        for count, offset, side in ((columns, 0.0, width), (rows, matrix[1, 2], height))
    )
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).to(image)
    return functional.grid_sample(image, places[None], align_corners=False)


def _normalized(image: torch.Tensor, settings: ImageSettings) -> torch.Tensor:
    colours = settings.normalization
    if colours.bgr:
        image = image.flip(1)
    mean, std = (image.new_tensor(each)[:, None, None] for each in (colours.mean, colours.std))
    return (image - mean) / std
