"""What may be wrong with a calibration, told from a frame's image, points and labels.

Each rule needs a wide margin before it says something: unusual rigs are no mistakes. It can't see
a small error, and a LiDAR that looks all around may be turned about its vertical axis unnoticed,
unless there are labels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kd3d_core.geometry.boxes import points_in_boxes
from kd3d_core.geometry.camera import PinholeCamera

FEWEST_POINTS = 200
"""Of a cloud that anything can be told from."""

# Largest distance of the principal point from the image's middle, as shares of width and height:
# images are often cut at the top, seldom at the sides.
_OFF_MIDDLE = (0.12, 0.45)
_ASPECT = 1.1
_FARTHEST_LIDAR_M = 10.0
_HEIGHTS_M = (0.05, 8.0)
_NEAR_M = 30.0
# Median distance of a cloud's points.
_DISTANCES_M = (0.5, 200.0)
# Between the lowest points (0) and the highest (1), half of the points lie below this: on streets
# 0.01 to 0.4, and 0.6 to 0.99 where z is down.
_UPSIDE_DOWN = 0.7


@dataclass(frozen=True, eq=False)
class CalibrationSample:
    """What can be compared with each other in a frame.

    Attributes:
        name: the frame's name.
        camera: the image's camera, for its real size.
        points: `(N, 3+)` true LiDAR points in the detector frame.
        boxes: `(M, 7)` labelled boxes in the detector frame.
        rectangles: `(M, 4)` left, top, right, bottom of labels in the image.
    """

    name: str
    camera: PinholeCamera
    points: np.ndarray | None = None
    boxes: np.ndarray | None = None
    rectangles: np.ndarray | None = None


Rule = Callable[[CalibrationSample], str]
"""Says in one line what is wrong; nothing if all is well."""


def _principal_point(sample: CalibrationSample) -> str:
    size = _size(sample)
    center = sample.camera.projection[:2, 2]
    if (np.abs(center / size - 0.5) <= _OFF_MIDDLE).all():
        return ""
    like = 2 * center + 1
    return (
        f"the principal point ({center[0]:.0f}, {center[1]:.0f}) is far from the middle of the "
        f"image of {size[0]} x {size[1]}, as of one of about {like[0]:.0f} x {like[1]:.0f}: "
        "were images resized or cut after the calibration? Scale and move P accordingly"
    )


def _focal_lengths(sample: CalibrationSample) -> str:
    fx, fy = sample.camera.projection[0, 0], sample.camera.projection[1, 1]
    if 1 / _ASPECT < fx / fy < _ASPECT:
        return ""
    return (
        f"the focal lengths {fx:.0f} and {fy:.0f} px differ: pixels would not be square; were "
        "images stretched? Models learn from square pixels: resize images and P"
    )


def _axes(sample: CalibrationSample) -> str:
    """Detectors see what lies along x; in which direction the camera looks must be that."""
    rotation = sample.camera.lidar_from_camera[:3, :3]
    forward, up = _axis(rotation[:, 2]), _axis(-rotation[:, 1])
    # A camera may look some way to the side or down, as long as x and z are the nearest axes.
    if (forward, up) == ("+x", "+z"):
        return ""
    return (
        f"the camera looks along {forward} of the LiDAR's frame and its top is towards {up}: "
        "detectors need x forward and z up; turn points and extrinsics together"
    )


def _axis(direction: np.ndarray) -> str:
    index = int(np.argmax(np.abs(direction)))
    return f"{'-' if direction[index] < 0 else '+'}{'xyz'[index]}"


def _distance(sample: CalibrationSample) -> str:
    distance = float(np.linalg.norm(sample.camera.lidar_from_camera[:3, 3]))
    if distance <= _FARTHEST_LIDAR_M:
        return ""
    return (
        f"camera and LiDAR would be {distance:.4g} m apart: are the extrinsics in millimetres, or "
        "of another frame? Metres are needed"
    )


def _rectangles(sample: CalibrationSample) -> str:
    if sample.rectangles is None or not len(sample.rectangles):
        return ""
    size, corner = _size(sample), sample.rectangles[:, 2:].max(0)
    if (corner <= 1.02 * size + 1).all():
        return ""
    return (
        f"2D boxes of labels reach to ({corner[0]:.0f}, {corner[1]:.0f}) in an image of "
        f"{size[0]} x {size[1]}: were images resized after they were labelled?"
    )


def _units(sample: CalibrationSample) -> str:
    distance = float(np.median(np.linalg.norm(_xyz(sample), axis=1)))
    if _DISTANCES_M[0] < distance < _DISTANCES_M[1]:
        return ""
    return (
        f"half of the points are farther than {distance:.3g} m: are they in millimetres, or no "
        "points of four float32? Metres are needed"
    )


def _up(sample: CalibrationSample) -> str:
    """Streets are flat: a cloud is thin along the vertical, and most of it lies on the ground."""
    low, middle, high = np.percentile(_xyz(sample), (5, 50, 95), axis=0)
    spread = high - low
    thin = int(np.argmin(spread))
    if spread[2] > 2 * spread[thin]:
        return (
            f"the points spread over {spread[0]:.1f}, {spread[1]:.1f} and {spread[2]:.1f} m along "
            f"x, y and z: {'xyz'[thin]} looks like the vertical, which z must be; turn the points"
        )
    if (middle[2] - low[2]) > _UPSIDE_DOWN * spread[2] and spread[2] > 1:
        return (
            f"half of the points lie between {middle[2]:.1f} and {high[2]:.1f} m, at the upper end "
            "of the cloud: it seems to be upside down; z must be up"
        )
    return ""


def _turned(sample: CalibrationSample) -> str:
    points = _xyz(sample)
    sectors = np.histogram(np.arctan2(points[:, 1], points[:, 0]), 12, (-np.pi, np.pi))[0]
    if (sectors > 0.01 * len(points)).sum() > 9:  # it looks around, and sees as much in any case
        return ""
    quarter_turns = [
        np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1))
    ]
    shares = [float(sample.camera.sees(points @ turn.T).mean()) for turn in quarter_turns]
    best = int(np.argmax(shares))
    if shares[best] <= max(3 * shares[0], 0.1):
        return ""
    return (
        f"{shares[0]:.1%} of the points fall into the image, but {shares[best]:.1%} if they "
        f"are turned by {best * 90} degrees about z: detectors need x forward and y left; turn "
        "the points, or mend the extrinsics"
    )


def _no_points(sample: CalibrationSample) -> str:
    share = float(sample.camera.sees(_xyz(sample)).mean())
    if share >= 0.005:
        return ""
    return (
        f"only {share:.2%} of the points fall into the image: LiDAR, extrinsics and image "
        "can't belong together"
    )


def _road(sample: CalibrationSample) -> str:
    """Where the lowest points near the camera lie: there is the road, or something on it."""
    points = _xyz(sample)
    away = points[sample.camera.sees(points)] - sample.camera.lidar_from_camera[:3, 3]
    heights = away[np.linalg.norm(away[:, :2], axis=1) < _NEAR_M, 2]
    if len(heights) < FEWEST_POINTS:
        return ""
    below = -float(np.percentile(heights, 2))
    if _HEIGHTS_M[0] < below < _HEIGHTS_M[1]:
        return ""
    where = f"{below:.1f} m below" if below > 0 else f"{-below:.1f} m above"
    return (
        f"the lowest points in view lie {where} the camera, where the road can't be: check the "
        "extrinsics between LiDAR and camera"
    )


def _boxes(sample: CalibrationSample) -> str:
    boxes = np.zeros((0, 7)) if sample.boxes is None else sample.boxes
    near = boxes[np.linalg.norm(boxes[:, :2], axis=1) < _NEAR_M].astype(np.float64)
    hit = int(points_in_boxes(_xyz(sample), near).any(0).sum())
    if not len(near) or hit > 0.3 * len(near):
        return ""
    return (
        f"{hit} of {len(near)} labelled objects within {_NEAR_M:.0f} m have a LiDAR point in them: "
        "labels, extrinsics and points don't belong together; is the LiDAR's x forward?"
    )


def _size(sample: CalibrationSample) -> np.ndarray:
    return np.array([sample.camera.width, sample.camera.height])


def _xyz(sample: CalibrationSample) -> np.ndarray:
    assert sample.points is not None
    return sample.points[:, :3].astype(np.float64)


CAMERA_RULES: dict[str, Rule] = {
    "principal_point": _principal_point,
    "focal_lengths": _focal_lengths,
    "axes": _axes,
    "distance": _distance,
    "rectangles": _rectangles,
}
# Of the rules on points the first that finds something says it all.
CLOUD_RULES: dict[str, Rule] = {"units": _units, "up": _up}
VIEW_RULES: dict[str, Rule] = {
    "turned": _turned,
    "no_points": _no_points,
    "road": _road,
    "boxes": _boxes,
}
