"""Whether vanishing points tell the focal length or the pitch of a camera that nobody calibrated.

    python benchmarks/vanishing_points.py OBJECT_SET TRACKING_SEQUENCE --model streets

Line segments of each image (OpenCV's LSD) are explained by three directions at right angles, after
Coughlan and Yuille (ICCV 1999): RANSAC over triples of segments for each of several focal lengths,
scored by the length of the segments within a degree and a half of a vanishing point. The best focal
length stands beside the right one. The direction nearest to straight ahead gives the horizon and so
a pitch, which stands beside that of the road under the LiDAR; with `--model` also that of the road
in the model's own depth.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from kd3d_core.cli.app import run
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.photos import GUESSED_DEG, focal_of_view
from kd3d_core.geometry.ground import fit_ground

VIEWS_DEG = np.arange(35.0, 111.0, 5.0)
TRIALS = 300
SHORTEST = 0.025  # of the image's width
NEAR = np.sin(np.radians(1.5))


def measure(folders: list[str], *, model: str = "", every: int = 1) -> None:
    """Print what vanishing points say of frames in KITTI's layout.

    Args:
        folders: data sets.
        model: depth network whose ground is compared as well; a name in config/models or weights,
            or a YAML file.
        every: step between frames.
    """
    frames = [frame for folder in folders for frame in list(KittiDataset(Path(folder)))[::every]]
    roads = _model_roads(frames, model) if model else {}
    focals, pitches, ground = [], [], []
    for number, frame in enumerate(frames):
        image, camera = frame.image(), frame.camera()
        lines = segments(image)
        width = image.shape[1]
        scored = [explain(lines, image.shape[:2], focal_of_view(view, width)) for view in VIEWS_DEG]
        best = VIEWS_DEG[int(np.argmax([score for score, _ in scored]))]
        focals.append(focal_of_view(best, width) / camera.focal_px)
        points = frame.points_in_view()[:, :3]
        pose = camera.camera_from_lidar
        road = fit_ground(points @ pose[:3, :3].T + pose[:3, 3])
        if road is None:
            continue
        _, right = explain(lines, image.shape[:2], camera.focal_px)
        _, guess = explain(lines, image.shape[:2], focal_of_view(GUESSED_DEG, width))
        pitches.append((right - road.pitch_deg, guess - road.pitch_deg, road.pitch_deg))
        if number in roads:
            ground.append(roads[number] - road.pitch_deg)
    shares = np.abs(np.log(focals))
    print(f"{len(frames)} frames; right field of view in between {_views(frames)} degrees")
    guessed = [
        focal_of_view(GUESSED_DEG, frame.camera().width) / frame.camera().focal_px
        for frame in frames
    ]
    print("focal length by the right one: 10 %, median, 90 %; within a tenth")
    for name, values in (("vanishing points", focals), ("the guess", guessed)):
        near = float((np.abs(np.log(values)) < np.log(1.1)).mean())
        print(f"  {name}: {_spread(values)}; {100 * near:.0f} %")
    print(f"  error of a factor, median: {np.exp(np.median(shares)):.2f}")
    print(f"pitch beside that of the road under the LiDAR, degrees, {len(pitches)} frames")
    right, guess, truth = np.array(pitches).T
    rows = [("level", -truth), ("vanishing point, right focal length", right)]
    rows += [("vanishing point, the guess", guess)]
    rows += [(f"road of {model}, right focal length", np.array(ground))] if ground else []
    for name, errors in rows:
        print(f"  {name}: {_spread(errors)}; half within {np.median(np.abs(errors)):.2f}")


def segments(image: np.ndarray) -> np.ndarray:
    """`(N, 4)` long line segments x, y, x, y of `(H, W, 3)` RGB."""
    detector = cv2.createLineSegmentDetector(cv2.LSD_REFINE_STD)
    found = detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]
    lines = np.zeros((0, 4)) if found is None else found.reshape(-1, 4).astype(np.float64)
    length = np.hypot(lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1])
    return lines[length > SHORTEST * image.shape[1]]


def explain(lines: np.ndarray, size: tuple[int, int], focal_px: float) -> tuple[float, float]:
    """Length of the segments that the best three directions explain, and the pitch they mean."""
    height, width = size
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    first, last = ((lines[:, part] - center) / focal_px for part in (slice(0, 2), slice(2, 4)))
    one, two = (np.column_stack([part, np.ones(len(part))]) for part in (first, last))
    planes = np.cross(one, two)  # of the eye and the segment: a vanishing direction lies in it
    planes /= np.linalg.norm(planes, axis=1, keepdims=True)
    triples = np.random.default_rng(0).integers(len(lines), size=(TRIALS, 3))
    a = _unit(np.cross(planes[triples[:, 0]], planes[triples[:, 1]]))
    b = _unit(np.cross(a, planes[triples[:, 2]]))
    frames = np.stack([a, b, np.cross(a, b)], 1)  # (T, 3, 3)
    # How far each segment points past each vanishing point, as an angle in the image.
    middle, along = (one + two) / 2, (two - one)[:, :2]
    toward = frames[:, :, None, :2] - frames[:, :, None, 2:] * middle[:, :2]
    cross = np.abs(toward[..., 0] * along[:, 1] - toward[..., 1] * along[:, 0])
    length = np.hypot(*along.T)
    off = cross / np.maximum(np.hypot(toward[..., 0], toward[..., 1]) * length, 1e-12)
    scores = ((off < NEAR).any(1) * length).sum(1) * focal_px
    best = int(scores.argmax())
    axes = frames[best] * np.where(frames[best][:, 2:] < 0, -1, 1)
    x, y, z = axes[axes[:, 2].argmax()]
    return float(scores[best]), float(np.degrees(np.arctan2(-y, np.hypot(x, z))))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _model_roads(frames: list[KittiFrame], model: str) -> dict[int, float]:
    """By number of the frame, pitch of the camera over the road in a model's depth."""
    from kd3d_core.runtime.pipeline import CameraDetector

    detector, roads = CameraDetector.from_config(model, "cpu"), {}
    for number, frame in enumerate(frames):
        camera = frame.camera()
        points = detector(frame.image(), camera).points[:, :3]
        pose = camera.camera_from_lidar
        road = fit_ground(points @ pose[:3, :3].T + pose[:3, 3])
        if road is not None:
            roads[number] = road.pitch_deg
    return roads


def _views(frames: list[KittiFrame]) -> str:
    cameras = [frame.camera() for frame in frames]
    views = [np.degrees(2 * np.arctan(each.width / 2 / each.focal_px)) for each in cameras]
    return f"{min(views):.1f} and {max(views):.1f}"


def _spread(values: object) -> str:
    low, median, high = np.percentile(np.asarray(values), (10, 50, 90))
    return f"{low:.2f}, {median:.2f}, {high:.2f}"


if __name__ == "__main__":
    sys.exit(
        run(
            measure,
            prog="benchmarks/vanishing_points.py",
            description="Focal length and pitch from vanishing points, beside the right ones.",
            examples=["python benchmarks/vanishing_points.py DATA --every 5"],
        )
    )
