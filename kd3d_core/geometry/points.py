"""Functions on point clouds: `(N, 3 + C)` arrays or tensors whose first columns are x, y, z."""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:  # takes seconds, and whoever has a tensor has imported it
    import torch

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


def array_module(like: Array) -> Any:
    """The module whose functions take `like`: numpy for an array, torch for a tensor.

    >>> array_module(np.zeros(3)).__name__
    'numpy'
    """
    if isinstance(like, np.ndarray):
        return np
    import torch

    return torch


def matching(matrix: np.ndarray, like: Array) -> Array:
    """`matrix` as an array or tensor of `like`'s kind, dtype and device, to multiply the two.

    >>> matching(np.eye(2), np.zeros(2, np.float32)).dtype
    dtype('float32')
    """
    if isinstance(like, np.ndarray):
        return np.asarray(matrix, dtype=like.dtype)
    # Non-blocking, because a plain copy to a GPU waits for all that is queued there.
    tensor = array_module(like).as_tensor(matrix, dtype=like.dtype)
    return tensor.to(like.device, non_blocking=True)


def transform(points: Array, to_from: np.ndarray) -> Array:
    """`(N, 3)` points in frame `to`, by the 4x4 rigid transform `to_from` of points in `from`.

    >>> camera_from_lidar = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.3], [0, 0, 0, 1]])
    >>> transform(np.array([[20.0, 2.0, -1.0]]), camera_from_lidar).tolist()
    [[-2.0, 1.0, 19.7]]
    """
    matrix = matching(to_from, points)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def depth_map(
    points: np.ndarray, image_from_points: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Sparse depth image of points in a camera; where several fall into a pixel, the nearest.

    `(height, width)` float32 depth in metres, 0 where there is no point.

    >>> points = np.array([[0.0, 0, 8], [0, 0, 5], [2.5, 0, 5]])  # in the camera's frame
    >>> camera = np.array([[2.0, 0, 1, 0], [0, 2, 0, 0], [0, 0, 1, 0]])
    >>> depth_map(points, camera, (1, 4)).tolist()
    [[0.0, 5.0, 5.0, 0.0]]

    Args:
        points: `(N, 3+)`, metres.
        image_from_points: 3x4 projection from the points' frame into the image.
        size: image height and width in pixels.
    """
    height, width = size
    homogeneous = points[:, :3].astype(np.float64) @ image_from_points[:, :3].T
    homogeneous += image_from_points[:, 3]
    depth = homogeneous[:, 2]
    front = depth > 0.1
    depth = depth[front]
    pixel = np.rint(homogeneous[front, :2] / depth[:, None]).astype(np.int64)
    inside = ((pixel >= 0) & (pixel < (width, height))).all(-1)
    flat = np.full(height * width, np.inf, np.float32)
    np.minimum.at(flat, pixel[inside, 1] * width + pixel[inside, 0], depth[inside])
    flat[np.isinf(flat)] = 0
    return flat.reshape(height, width)
