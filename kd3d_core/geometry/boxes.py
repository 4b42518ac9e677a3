"""3D boxes: the one place that knows how kd3d, KITTI and ROS write them.

kd3d: `(N, 7)` = x, y, z of the *bottom* centre, length, width, height, yaw about +z, in the
detector frame (x forward, y left, z up, metres, radians). Yaw 0 faces +x, pi / 2 faces +y.

KITTI label: height, width, length; bottom centre in the rectified camera frame (x right, y down,
z forward); `rotation_y` about the camera's +y, 0 facing +x.

ROS `vision_msgs/BoundingBox3D`: *geometric* centre, quaternion, size = length, width, height.
"""

import numpy as np
from numpy.typing import ArrayLike

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.points import Array, array_module, matching, transform

# Corner k of a unit box: signs of length and width, and whether it is at the top.
_CORNER_SIGNS = np.array(
    [
        [0.5, 0.5, 0], [0.5, -0.5, 0], [-0.5, -0.5, 0], [-0.5, 0.5, 0],
        [0.5, 0.5, 1], [0.5, -0.5, 1], [-0.5, -0.5, 1], [-0.5, 0.5, 1],
    ]
)  # fmt: skip
EDGES = np.array(
    [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]]
)
"""`(12, 2)` pairs of `corners` that a wireframe joins."""


def wrap_angle(angle: Array) -> Array:
    """Angle in radians brought into [-pi, pi).

    >>> wrap_angle(np.array([0.5, np.pi, 7.0])).round(3).tolist()
    [0.5, -3.142, 0.717]
    """
    return (angle + np.pi) % (2 * np.pi) - np.pi


def from_kitti(
    location: ArrayLike,
    dimensions: ArrayLike,
    rotation_y: ArrayLike,
    lidar_from_camera: np.ndarray,
) -> np.ndarray:
    """KITTI labels as detector-frame boxes, `(N, 7)` float32.

    The heading is rotated by the full rotation between the frames, not by the nominal quarter
    turn: a velodyne is mounted some 0.01 rad off the camera's axes.

    >>> lidar_from_camera = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    >>> location, height_width_length = [2.0, 1.7, 20.0], [1.5, 1.6, 4.0]
    >>> print(from_kitti(location, height_width_length, -np.pi, lidar_from_camera).round(2))
    [[20.   -2.   -1.7   4.    1.6   1.5   1.57]]

    Args:
        location: `(N, 3)` bottom centres in the camera frame, metres.
        dimensions: `(N, 3)` height, width, length, metres.
        rotation_y: `(N,)` radians.
        lidar_from_camera: 4x4; `CalibrationError` if the camera looks straight up or down.
    """
    location = np.asarray(location, np.float64).reshape(-1, 3)
    dimensions = np.asarray(dimensions, np.float64).reshape(-1, 3)
    rotation_y = np.asarray(rotation_y, np.float64).reshape(-1)
    heading_camera = np.stack([np.cos(rotation_y), -np.sin(rotation_y)], -1)
    heading = heading_camera @ _ground_rotation(lidar_from_camera).T
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    center = transform(location, lidar_from_camera)
    return np.column_stack([center, dimensions[:, [2, 1, 0]], yaw]).astype(np.float32)


def to_kitti(
    boxes: np.ndarray, lidar_from_camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inverse of `from_kitti`: location `(N, 3)`, dimensions `(N, 3)`, rotation_y `(N,)`.

    >>> lidar_from_camera = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    >>> box = np.array([[20, -2, -1.7, 4, 1.6, 1.5, 0]])
    >>> location, dimensions, rotation_y = to_kitti(box, lidar_from_camera)
    >>> location.tolist(), dimensions.tolist(), rotation_y.round(3).tolist()
    ([[2.0, 1.7, 20.0]], [[1.5, 1.6, 4.0]], [-1.571])
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    location = transform(boxes[:, :3], np.linalg.inv(lidar_from_camera))
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], -1)
    heading_camera = heading @ np.linalg.inv(_ground_rotation(lidar_from_camera)).T
    rotation_y = np.arctan2(-heading_camera[:, 1], heading_camera[:, 0])
    return location, boxes[:, [5, 4, 3]], rotation_y


def _ground_rotation(lidar_from_camera: np.ndarray) -> np.ndarray:
    """2x2 map from directions in the camera's x-z plane to the detector's x-y plane."""
    plane = np.asarray(lidar_from_camera, np.float64)[:2, [0, 2]]
    if abs(np.linalg.det(plane)) < 1e-3:
        raise CalibrationError(
            "the camera looks straight up or down: KITTI's rotation_y can't be told there"
        )
    return plane


def moved(boxes: np.ndarray, to_from: np.ndarray) -> np.ndarray:
    """Boxes `(N, 7)` in frame `to`, by the 4x4 rigid transform `to_from`; float64.

    Headings are turned by the full rotation and seen from above. Where it tilts, so should the
    boxes, which they can't: they stay upright.

    >>> quarter_turn = np.array([[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    >>> moved(np.array([[10.0, 0, -1.7, 4, 1.6, 1.5, 0]]), quarter_turn).round(2).tolist()
    [[5.0, 10.0, -1.7, 4.0, 1.6, 1.5, 1.57]]
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], -1) @ to_from[:2, :2].T
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    return np.column_stack([transform(boxes[:, :3], to_from), boxes[:, 3:6], yaw])


def to_ros(
    boxes: np.ndarray, frame_from_boxes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Geometric centres `(N, 3)`, quaternions x, y, z, w `(N, 4)` and sizes `(N, 3)`.

    They are in the boxes' own frame, or in another one, which may be tilted, by its 4x4.

    >>> center, quaternion, size = to_ros(np.array([[20, -2, -1.7, 4, 1.6, 1.5, np.pi]]))
    >>> center.round(2).tolist(), quaternion.round(2).tolist(), size.tolist()
    ([[20.0, -2.0, -0.95]], [[0.0, 0.0, 1.0, 0.0]], [[4.0, 1.6, 1.5]])
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    center = boxes[:, :3].copy()
    center[:, 2] += boxes[:, 5] / 2
    zero = np.zeros(len(boxes))
    half = boxes[:, 6] / 2
    quaternion = np.column_stack([zero, zero, np.sin(half), np.cos(half)])
    if frame_from_boxes is not None and len(boxes):
        from scipy.spatial.transform import Rotation

        center = center @ frame_from_boxes[:3, :3].T + frame_from_boxes[:3, 3]
        turn = Rotation.from_matrix(frame_from_boxes[:3, :3])
        quaternion = (turn * Rotation.from_quat(quaternion)).as_quat()
    return center, quaternion, boxes[:, 3:6].copy()


def from_ros(center: ArrayLike, quaternion: ArrayLike, size: ArrayLike) -> np.ndarray:
    """Inverse of `to_ros` for upright boxes; `(N, 7)` float32. Roll and pitch are ignored.

    >>> print(from_ros([20, -2, -0.95], [0, 0, 1, 0], [4, 1.6, 1.5]).round(2))
    [[20.   -2.   -1.7   4.    1.6   1.5   3.14]]
    """
    center = np.array(center, np.float64).reshape(-1, 3)
    x, y, z, w = np.asarray(quaternion, np.float64).reshape(-1, 4).T
    size = np.asarray(size, np.float64).reshape(-1, 3)
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    center[:, 2] -= size[:, 2] / 2
    return np.column_stack([center, size, yaw]).astype(np.float32)


def corners(boxes: Array) -> Array:
    """The eight corners `(N, 8, 3)` of boxes `(N, 7)`: four at the bottom, then those above them.

    Seen from the box, the order is front left, front right, rear right, rear left.

    >>> corners(np.array([[10.0, 0, 0, 4, 2, 1.5, 0]]))[0, [0, 1, 2, 3, 4]].tolist()
    [[12.0, 1.0, 0.0], [12.0, -1.0, 0.0], [8.0, -1.0, 0.0], [8.0, 1.0, 0.0], [12.0, 1.0, 1.5]]
    """
    signs = matching(_CORNER_SIGNS, boxes)
    local = boxes[:, None, 3:6] * signs
    xp = array_module(boxes)
    cos, sin = xp.cos(boxes[:, 6:7]), xp.sin(boxes[:, 6:7])
    x = local[..., 0] * cos - local[..., 1] * sin
    y = local[..., 0] * sin + local[..., 1] * cos
    rotated = xp.stack([x, y, local[..., 2]], -1)
    return rotated + boxes[:, None, :3]


def footprints(boxes: Array) -> Array:
    """Rectangles `(..., 5)` of boxes `(..., 7)` from above: x, y, length, width, yaw.

    The order is that of `kd3d_core.ops.box_iou_rotated`.

    >>> footprints(np.array([[10.0, 0, -1.7, 4, 2, 1.5, 0.3]])).tolist()
    [[10.0, 0.0, 4.0, 2.0, 0.3]]
    """
    # Slices, because a list of columns would be copied to a GPU first, which waits for it.
    parts = [boxes[..., :2], boxes[..., 3:5], boxes[..., 6:7]]
    return array_module(boxes).concatenate(parts, -1)


def points_in_boxes(points: Array, boxes: Array) -> Array:
    """Mask `(P, N)`: whether point p, `(P, 3+)`, is in box n, surface included.

    >>> points = np.array([[10.0, 0, 1], [12, 1, 0], [12.1, 0, 1], [10, 0, -0.1]])
    >>> points_in_boxes(points, np.array([[10.0, 0, 0, 4, 2, 1.5, 0]]))[:, 0].tolist()
    [True, True, False, False]
    """
    xp = array_module(boxes)
    offset = points[:, None, :3] - boxes[None, :, :3]
    cos, sin = xp.cos(boxes[:, 6]), xp.sin(boxes[:, 6])
    along = offset[..., 0] * cos + offset[..., 1] * sin
    across = offset[..., 1] * cos - offset[..., 0] * sin
    up = offset[..., 2]
    beside = (abs(along) <= boxes[:, 3] / 2) & (abs(across) <= boxes[:, 4] / 2)
    return beside & (up >= 0) & (up <= boxes[:, 5])


def image_boxes(
    boxes: np.ndarray, image_from_lidar: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Image rectangles `(N, 4)` = left, top, right, bottom around the projected boxes, pixels.

    Boxes are cut at a plane 0.1 m in front of the camera, so that one beside the camera still has
    a sensible rectangle. A box that is wholly behind that plane has NaN. Rectangles are clipped to
    the image's `size`, height and width.

    >>> image_from_lidar = np.array([[200.0, -100, 0, 0], [100, 0, -100, 0], [1, 0, 0, 0]])
    >>> boxes = np.array([[11.0, 0, -1, 2, 2, 1.5, 0], [-11, 0, -1, 2, 2, 1.5, 0]])
    >>> image_boxes(boxes, image_from_lidar, (200, 400)).tolist()
    [[190.0, 95.0, 210.0, 110.0], [nan, nan, nan, nan]]
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 7)
    height, width = size
    homogeneous = corners(boxes) @ image_from_lidar[:, :3].T + image_from_lidar[:, 3]
    start, end = homogeneous[:, EDGES[:, 0]], homogeneous[:, EDGES[:, 1]]
    near = 0.1
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (near - start[..., 2]) / (end[..., 2] - start[..., 2])
        crossing = start + share[..., None] * (end - start)
        crosses = (start[..., 2] < near) != (end[..., 2] < near)
        in_front = np.where(homogeneous[..., 2:] >= near, homogeneous, np.nan)
        candidates = np.concatenate([in_front, np.where(crosses[..., None], crossing, np.nan)], 1)
        pixels = candidates[..., :2] / candidates[..., 2:]
    seen = ~np.isnan(pixels[..., 0]).all(1)
    rectangles = np.full((len(boxes), 4), np.nan)
    rectangles[seen, :2] = np.nanmin(pixels[seen], 1)
    rectangles[seen, 2:] = np.nanmax(pixels[seen], 1)
    return np.clip(rectangles, 0, [width - 1, height - 1] * 2)
