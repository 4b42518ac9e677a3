"""Calibrations that don't fit their images and points, found out by looking at frames.

Each check needs a wide margin before it says something: unusual rigs are no mistakes. It can't see
a small error, and a LiDAR that looks all around may be turned about its vertical axis unnoticed,
unless there are labels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.labels import Label, label_boxes
from kd3d_core.errors import Kd3dError
from kd3d_core.geometry.boxes import points_in_boxes
from kd3d_core.geometry.camera import PinholeCamera

FEW = 8
"""How many frames are enough to tell that a whole recording is calibrated wrongly."""

# Largest distance of the principal point from the image's middle, as shares of width and height:
# images are often cut at the top, seldom at the sides.
_OFF_MIDDLE = (0.12, 0.45)
_ASPECT = 1.1
_FARTHEST_LIDAR_M = 10.0
_HEIGHTS_M = (0.05, 8.0)
_NEAR_M = 30.0
_FEWEST_POINTS = 200
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


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong: its kind, and in one line what, with numbers, and what to do."""

    kind: str
    text: str


def kitti_sample(frame: KittiFrame) -> CalibrationSample:
    """The sample of a frame in KITTI's layout, with the points and labels that it has."""
    points = frame.points() if frame.has_lidar else None
    labels = frame.objects() if "label_2" in frame.files else None
    return labelled_sample(frame.name, frame.camera(), points, labels)


def labelled_sample(
    name: str,
    camera: PinholeCamera,
    points: np.ndarray | None = None,
    labels: Sequence[Label] | None = None,
) -> CalibrationSample:
    """The sample of a frame with labels, if it has any; the rest as in `CalibrationSample`."""
    if labels is None:
        return CalibrationSample(name, camera, points)
    boxes = label_boxes(labels, camera.lidar_from_camera)
    rectangles = np.array([label.bbox for label in labels]).reshape(-1, 4)
    return CalibrationSample(name, camera, points, boxes, rectangles)


def check_calibration(sample: CalibrationSample) -> list[Finding]:
    """Everything that looks wrong in a frame; empty if nothing does.

    >>> from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
    >>> projection = np.array([[720.0, 0, 610, 0], [0, 720, 173, 0], [0, 0, 1, 0]])
    >>> camera = PinholeCamera(projection, 621, 187, virtual_lidar_from_camera(1.65))
    >>> [finding.kind for finding in check_calibration(CalibrationSample("000000", camera))]
    ['principal_point']
    """
    found = [_principal_point(sample.camera), _focal_lengths(sample.camera), _axes(sample.camera)]
    found += [_distance(sample.camera), _rectangles(sample)]
    if sample.points is not None and len(sample.points) >= _FEWEST_POINTS:
        points = sample.points[:, :3].astype(np.float64)
        found += [_units(points) or _up(points)]
        if not any(found):  # otherwise these would only repeat it
            found += [_in_view(points, sample.camera), _boxes(points, sample.boxes)]
    return [finding for finding in found if finding is not None]


def common_findings(
    findings: Sequence[Sequence[Finding]], names: Sequence[str], share: float = 0.5
) -> list[str]:
    """Findings of many frames, each kind in one line that says in how many frames it is.

    Left out are kinds that are in less than a `share` of the frames.
    """
    counts = Counter(finding.kind for frame in findings for finding in frame)
    lines = []
    for kind, count in counts.most_common():
        if count >= share * len(findings):
            name, text = next(
                (name, finding.text)
                for name, frame in zip(names, findings, strict=True)
                for finding in frame
                if finding.kind == kind
            )
            lines.append(f"{text} (in {count} of {len(findings)} frames, the first is {name})")
    return lines


def warn_if_calibration_looks_wrong(
    samples: Iterable[CalibrationSample], log: Callable[[str], object]
) -> None:
    """Say through `log` what looks wrong in at least half of some frames, a line for each kind.

    Frames that can't be read are left to whoever reads them next. For a data set:
    `warn_if_calibration_looks_wrong(few_samples(KittiDataset(root)), log.warning)`.
    """
    checked = [(sample.name, check_calibration(sample)) for sample in samples]
    for line in common_findings([found for _, found in checked], [name for name, _ in checked]):
        log(f"the calibration looks wrong: {line}")


def few_samples(frames: KittiDataset) -> Iterator[CalibrationSample]:
    """Samples of up to `FEW` frames, spread evenly; those that can't be read are left out."""
    for index in sorted({round(place) for place in np.linspace(0, len(frames) - 1, FEW)}):
        try:
            yield kitti_sample(frames[index])
        except Kd3dError:
            continue


def _principal_point(camera: PinholeCamera) -> Finding | None:
    size = np.array([camera.width, camera.height])
    center = camera.projection[:2, 2]
    if (np.abs(center / size - 0.5) <= _OFF_MIDDLE).all():
        return None
    like = 2 * center + 1
    return Finding(
        "principal_point",
        f"the principal point ({center[0]:.0f}, {center[1]:.0f}) is far from the middle of the "
        f"image of {size[0]} x {size[1]}, as of one of about {like[0]:.0f} x {like[1]:.0f}: "
        "were images resized or cut after the calibration? Scale and move P accordingly",
    )


def _focal_lengths(camera: PinholeCamera) -> Finding | None:
    fx, fy = camera.projection[0, 0], camera.projection[1, 1]
    if 1 / _ASPECT < fx / fy < _ASPECT:
        return None
    return Finding(
        "focal_lengths",
        f"the focal lengths {fx:.0f} and {fy:.0f} px differ: pixels would not be square; were "
        "images stretched? Models learn from square pixels: resize images and P",
    )


def _axes(camera: PinholeCamera) -> Finding | None:
    """Detectors see what lies along x; in which direction the camera looks must be that."""
    rotation = camera.lidar_from_camera[:3, :3]
    forward, up = rotation[:, 2], -rotation[:, 1]
    # A camera may look some way to the side or down, as long as x and z are the nearest axes.
    if np.argmax(np.abs(forward)) == 0 < forward[0] and np.argmax(np.abs(up)) == 2 and up[2] > 0:
        return None
    return Finding(
        "axes",
        f"the camera looks along {_axis(forward)} of the LiDAR's frame and its top is towards "
        f"{_axis(up)}: detectors need x forward and z up; turn points and extrinsics together",
    )


def _axis(direction: np.ndarray) -> str:
    index = int(np.argmax(np.abs(direction)))
    return f"{'-' if direction[index] < 0 else '+'}{'xyz'[index]}"


def _distance(camera: PinholeCamera) -> Finding | None:
    distance = float(np.linalg.norm(camera.lidar_from_camera[:3, 3]))
    if distance <= _FARTHEST_LIDAR_M:
        return None
    return Finding(
        "distance",
        f"camera and LiDAR would be {distance:.4g} m apart: are the extrinsics in millimetres, or "
        "of another frame? Metres are needed",
    )


def _rectangles(sample: CalibrationSample) -> Finding | None:
    if sample.rectangles is None or not len(sample.rectangles):
        return None
    size = np.array([sample.camera.width, sample.camera.height])
    right, bottom = sample.rectangles[:, 2:].max(0)
    if right <= 1.02 * size[0] + 1 and bottom <= 1.02 * size[1] + 1:
        return None
    return Finding(
        "rectangles",
        f"2D boxes of labels reach to ({right:.0f}, {bottom:.0f}) in an image of {size[0]} x "
        f"{size[1]}: were images resized after they were labelled?",
    )


def _units(points: np.ndarray) -> Finding | None:
    distance = float(np.median(np.linalg.norm(points, axis=1)))
    if _DISTANCES_M[0] < distance < _DISTANCES_M[1]:
        return None
    return Finding(
        "units",
        f"half of the points are farther than {distance:.3g} m: are they in millimetres, or no "
        "points of four float32? Metres are needed",
    )


def _up(points: np.ndarray) -> Finding | None:
    """Streets are flat: a cloud is thin along the vertical, and most of it lies on the ground."""
    low, middle, high = np.percentile(points, (5, 50, 95), axis=0)
    spread = high - low
    thin = int(np.argmin(spread))
    if spread[2] > 2 * spread[thin]:
        return Finding(
            "up",
            f"the points spread over {spread[0]:.1f}, {spread[1]:.1f} and {spread[2]:.1f} m along "
            f"x, y and z: {'xyz'[thin]} looks like the vertical, which z must be; turn the points",
        )
    if (middle[2] - low[2]) > _UPSIDE_DOWN * spread[2] and spread[2] > 1:
        return Finding(
            "up",
            f"half of the points lie between {middle[2]:.1f} and {high[2]:.1f} m, at the upper end "
            "of the cloud: it seems to be upside down; z must be up",
        )
    return None


def _in_view(points: np.ndarray, camera: PinholeCamera) -> Finding | None:
    quarter_turns = [
        np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        for cos, sin in ((1, 0), (0, 1), (-1, 0), (0, -1))
    ]
    seen = [camera.sees(points @ turn.T) for turn in quarter_turns]
    shares = [float(mask.mean()) for mask in seen]
    best = int(np.argmax(shares))
    sectors = np.histogram(np.arctan2(points[:, 1], points[:, 0]), 12, (-np.pi, np.pi))[0]
    looks_around = (sectors > 0.01 * len(points)).sum() > 9
    if not looks_around and shares[best] > 3 * shares[0] and shares[best] > 0.1:
        return Finding(
            "turned",
            f"{shares[0]:.1%} of the points fall into the image, but {shares[best]:.1%} if they "
            f"are turned by {best * 90} degrees about z: detectors need x forward and y left; turn "
            "the points, or mend the extrinsics",
        )
    if shares[0] < 0.005:
        return Finding(
            "no_points",
            f"only {shares[0]:.2%} of the points fall into the image: LiDAR, extrinsics and image "
            "can't belong together",
        )
    return _road(points[seen[0]], camera)


def _road(points: np.ndarray, camera: PinholeCamera) -> Finding | None:
    """Where the lowest points near the camera lie: there is the road, or something on it."""
    away = points - camera.lidar_from_camera[:3, 3]
    heights = away[np.linalg.norm(away[:, :2], axis=1) < _NEAR_M, 2]
    if len(heights) < _FEWEST_POINTS:
        return None
    below = -float(np.percentile(heights, 2))
    if _HEIGHTS_M[0] < below < _HEIGHTS_M[1]:
        return None
    where = f"{below:.1f} m below" if below > 0 else f"{-below:.1f} m above"
    return Finding(
        "road",
        f"the lowest points in view lie {where} the camera, where the road can't be: check the "
        "extrinsics between LiDAR and camera",
    )


def _boxes(points: np.ndarray, boxes: np.ndarray | None) -> Finding | None:
    if boxes is None:
        return None
    near = boxes[np.linalg.norm(boxes[:, :2], axis=1) < _NEAR_M].astype(np.float64)
    hit = int(points_in_boxes(points, near).any(0).sum())
    if not len(near) or hit > 0.3 * len(near):
        return None
    return Finding(
        "boxes",
        f"{hit} of {len(near)} labelled objects within {_NEAR_M:.0f} m have a LiDAR point in them: "
        "labels, extrinsics and points don't belong together; is the LiDAR's x forward?",
    )
