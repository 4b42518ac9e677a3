"""`sensor_msgs/CameraInfo` as a PinholeCamera.

What the fields mean is said by the message's own comments and REP 104, and done by
image_geometry and image_proc:

- K and D are of the raw image; R and P of the rectified one. One CameraInfo goes with both, so that
  it doesn't say which of them an image is.
- `width` and `height` are those of the calibration, normally the full resolution, and K and P
  belong to them. The image shows the region of interest (`roi`, in pixels of the full resolution;
  all zeros mean the whole), of which `binning_x` x `binning_y` pixels became one (0 means 1).
- So both matrices are moved: row 0 becomes (row 0 - x_offset * row 2) / binning_x, row 1 likewise.
  A rectified image covers the same region of the rectified full image; `roi.do_rectify` concerns
  who looks for the region that is free of black borders, and changes neither.

Drivers deviate. `width` and `height` may be the image's or the region's own, which is accepted, and
K or P may be of the image as it is delivered, which is noticed by the principal point.
"""

import re
from typing import Any

import numpy as np

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.checks import finite
from kd3d_core.geometry.lens import Distortion

# A matrix is of the delivered image already if moving it would put the principal point farther from
# the middle than the first share of the image's size, and it is nearer than the second as it is.
_OFF_MIDDLE, _NEAR_MIDDLE = 0.2, 0.1


CameraInfoLike = Any
"""A `sensor_msgs/CameraInfo`: rclpy's, or kd3d's own of a bag. Both have its fields."""


class ImageSizeError(CalibrationError):
    """An image and its CameraInfo are of different sizes."""


def camera_from_info(
    info: CameraInfoLike,
    lidar_from_camera: np.ndarray,
    rectified: bool = True,
    size: tuple[int, int] | None = None,
) -> PinholeCamera:
    """The camera of the images that a CameraInfo comes with.

    Args:
        rectified: whether the images are rectified already. If so only P counts; bags made from
            KITTI carry the unrectified K and D beside rectified images. If not, K, D and R tell how
            to rectify them. A P of zeros (uncalibrated drivers, monocular calibrations) is replaced
            by K.
        size: width and height of the images in pixels; None: what the message says.

    Raises:
        ImageSizeError: images of this size don't belong to the message.
        CalibrationError: the message describes no camera, or one that can't be.

    >>> from types import SimpleNamespace as Message
    >>> info = Message(
    ...     width=1280, height=960, p=[900, 0, 640, 0, 0, 900, 480, 0, 0, 0, 1, 0],
    ...     binning_x=2, binning_y=2, roi=Message(x_offset=0, y_offset=160, width=1280, height=640))
    >>> camera = camera_from_info(info, np.eye(4))
    >>> camera.width, camera.height, camera.focal_px, camera.projection[:2, 2].tolist()
    (640, 320, 450.0, [320.0, 160.0])
    """
    if info.width <= 0 or info.height <= 0:
        raise CalibrationError(f"image size {info.width} x {info.height} is not positive")
    possible = _image_sizes(info)
    size = size or possible[0]
    projection = _of_image(_projection(info), info, size)
    distortion = None
    if not rectified:
        coefficients = np.array(info.d, np.float64).reshape(-1)
        rotation = np.array(info.r, np.float64).reshape(-1)
        raw = Distortion(
            info.distortion_model if coefficients.size else "plumb_bob",
            coefficients if coefficients.size else np.zeros(5),
            _of_image(finite("K", info.k, (3, 3)), info, size),
            rotation if rotation.any() else np.eye(3),
        )
        distortion = None if raw.is_identity(projection) else raw
    camera = PinholeCamera(projection, *size, lidar_from_camera, distortion)
    if size not in possible:
        raise ImageSizeError(_size_mismatch(info, size, possible[0]))
    camera.check_view()
    return camera


def camera_info_doubts(
    info: CameraInfoLike, size: tuple[int, int], rectified: bool, image_topic: str = ""
) -> tuple[str, ...]:
    """What can't be told from a CameraInfo and was therefore assumed: a sentence each.

    Whether images are raw or rectified is a setting. It is certain where there is no distortion
    (then both are the same), and likely where the topic's name says `rect`, as image_proc's do. It
    isn't where a topic says `raw`: bags made from KITTI have rectified images there. P equal to K
    beside a distortion is what drivers of raw images write that were never rectified.

    Args:
        size: width and height of the images in pixels.
        rectified: what the setting says.
        image_topic: where the images come from, if that is a topic.

    >>> from types import SimpleNamespace as Message
    >>> info = Message(
    ...     width=640, height=480, d=[-0.3, 0.1, 0, 0, 0], k=[500, 0, 320, 0, 500, 240, 0, 0, 1],
    ...     p=[500, 0, 320, 0, 0, 500, 240, 0, 0, 0, 1, 0], binning_x=0, binning_y=0,
    ...     roi=Message(x_offset=0, y_offset=0, width=0, height=0))
    >>> camera_info_doubts(info, (640, 480), rectified=False, image_topic="/camera/image_raw")
    ()
    >>> len(camera_info_doubts(info, (640, 480), rectified=True, image_topic="/camera/image_raw"))
    1
    """
    doubts = []
    intrinsics, projection = np.array(info.k, np.float64).reshape(-1), _projection(info)
    named = f" of {image_topic}" if image_topic else ""
    is_named = _is_named_rectified(image_topic)
    if np.array(info.d, np.float64).any() and is_named == (not rectified):
        if rectified:
            same = np.array_equal(projection[:, :3].reshape(-1), intrinsics)
            why = "a distortion D and no P other than K" if same else "a distortion D"
            doubts.append(
                f"images{named} are taken to be rectified, but their calibration has {why}: if "
                "straight edges are bent in them, set image_is_rectified to false (kd3d-detect: "
                "--raw-images)"
            )
        else:
            doubts.append(
                f"images{named} are rectified here, but the topic's name says that they are "
                "already: if so, set image_is_rectified to true (kd3d-detect: no --raw-images)"
            )
    given = {"P": projection} if rectified else {"K": intrinsics.reshape(3, 3), "P": projection}
    kept = [name for name, matrix in given.items() if _of_image(matrix, info, size) is matrix]
    if kept and _is_reduced(info):
        doubts.append(
            f"CameraInfo says {_reduction(info)}, but the principal point of {' and '.join(kept)} "
            f"is that of the image of {size[0]} x {size[1]} already, and is taken for it: publish "
            "the calibration of the full resolution"
        )
    return tuple(doubts)


def looks_rectified(info: CameraInfoLike, image_topic: str = "") -> bool:
    """Whether images are rectified, as far as their calibration and their topic's name tell.

    They are, or it makes no difference, where there is no distortion; else where the name says
    `rect`, as image_proc's do. A guess: see `camera_info_doubts`.

    >>> from types import SimpleNamespace as Message
    >>> info = Message(d=[-0.3, 0.1, 0, 0, 0])
    >>> looks_rectified(info, "/camera/image_raw"), looks_rectified(info, "/camera/image_rect")
    (False, True)
    """
    return not np.array(info.d, np.float64).any() or _is_named_rectified(image_topic)


def camera_info_content(info: CameraInfoLike) -> tuple[Any, ...]:
    """All that a CameraInfo says but its header, to compare two.

    >>> from types import SimpleNamespace as Message
    >>> info = Message(
    ...     width=640, height=480, distortion_model="", d=[], k=[0] * 9, r=[0] * 9, p=[0] * 12,
    ...     binning_x=0, binning_y=0, roi=Message(x_offset=0, y_offset=0, width=0, height=0))
    >>> camera_info_content(info)[:2]
    (640, 480)
    """
    numbers = (
        np.asarray(values, np.float64).tobytes() for values in (info.d, info.k, info.r, info.p)
    )
    roi = info.roi
    return (
        *(info.width, info.height, info.distortion_model, info.binning_x, info.binning_y),
        *(roi.x_offset, roi.y_offset, roi.width, roi.height),
        *numbers,
    )


def _is_named_rectified(image_topic: str) -> bool:
    return bool(re.search("(^|[/_])rect", image_topic))


def _projection(info: CameraInfoLike) -> np.ndarray:
    """3x4 P; K where there is none."""
    projection = np.array(info.p, np.float64).reshape(-1)
    if projection.size == 12 and projection.any():
        return projection.reshape(3, 4)
    return np.column_stack([finite("K", info.k, (3, 3)), np.zeros(3)])


def _binning(info: CameraInfoLike) -> tuple[int, int]:
    return max(info.binning_x, 1), max(info.binning_y, 1)


def _is_reduced(info: CameraInfoLike) -> bool:
    return _binning(info) != (1, 1) or (info.roi.x_offset, info.roi.y_offset) != (0, 0)


def _of_image(matrix: np.ndarray, info: CameraInfoLike, size: tuple[int, int]) -> np.ndarray:
    """K or P moved to region and binning; `matrix` itself if it is of the image already."""
    if not _is_reduced(info):
        return matrix
    offsets = (info.roi.x_offset, info.roi.y_offset)
    moved = matrix.copy()
    for row, (offset, binning) in enumerate(zip(offsets, _binning(info), strict=True)):
        moved[row] = (matrix[row] - offset * matrix[2]) / binning
    was, now = (np.abs(each[:2, 2] / size - 0.5).max() for each in (matrix, moved))
    return matrix if now > _OFF_MIDDLE and was < _NEAR_MIDDLE else moved


def _image_sizes(info: CameraInfoLike) -> list[tuple[int, int]]:
    """Sizes that images of a CameraInfo may have; the first is the one by the book."""
    roi, (binning_x, binning_y) = info.roi, _binning(info)
    full = info.width, info.height
    region = roi.width or info.width - roi.x_offset, roi.height or info.height - roi.y_offset
    down = region[0] // binning_x, region[1] // binning_y
    up = -(-region[0] // binning_x), -(-region[1] // binning_y)
    return [down, up, region, full]


def _reduction(info: CameraInfoLike) -> str:
    roi, (binning_x, binning_y) = info.roi, _binning(info)
    return (
        f"binning {binning_x} x {binning_y} and region of interest {roi.width} x {roi.height} at "
        f"({roi.x_offset}, {roi.y_offset})"
    )


def _size_mismatch(info: CameraInfoLike, size: tuple[int, int], expected: tuple[int, int]) -> str:
    said = f"{info.width} x {info.height}"
    if _is_reduced(info) or expected != (info.width, info.height):
        said += f" with {_reduction(info)}, so {expected[0]} x {expected[1]}"
    hint = "both must be of the same camera at the same size"
    scale = size[0] / max(expected[0], 1)
    if abs(size[1] - scale * expected[1]) <= 1:
        hint += f"; if the image is a copy scaled by {scale:.3g}, publish the copy's CameraInfo"
    return f"image is {size[0]} x {size[1]} but its CameraInfo says {said}: {hint}"
