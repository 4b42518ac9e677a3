"""What a wrong focal length costs: distances with a guess beside those with the right one.

    kd3d-synth --out data/synth/photos --frames 24 --seed 77
    python benchmarks/guessed_focal.py data/synth/photos

The frames are given to the model as photos without calibration, for each of several fields of view.
Points and boxes are compared with those of the right calibration; a box's partner is the one of its
class that is nearest in the image.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.photos import focal_of_view
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.offline.photos import UnknownCamera
from kd3d_core.offline.placing import Placer
from kd3d_core.offline.source import UnknownPlace
from kd3d_core.runtime.detections import Detections
from kd3d_core.runtime.pipeline import CameraDetector

VIEWS_DEG = (50.0, 60.0, 70.0, 81.5, 90.0, 100.0)
_LEAST_SCORE = 0.3
_NEAR_PX = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--frames", type=int, default=8)
    arguments = parser.parse_args()
    detector = CameraDetector.from_config(arguments.model)
    frames = [
        (frame.name, frame.image(), frame.camera())
        for frame in list(KittiDataset(arguments.data))[: arguments.frames]
    ]
    right = [detector(image, camera) for _, image, camera in frames]
    _, image, camera = frames[0]
    view = math.degrees(2 * math.atan(camera.width / 2 / camera.focal_px))
    print(f"{len(frames)} frames of {arguments.data}, {arguments.model}; right: {view:.1f} degrees")
    print("degrees  focal length  depth of points  distance of boxes   10 to 90 %       pairs of")
    boxes = sum(int((found.scores > _LEAST_SCORE).sum()) for found in right)
    for degrees in VIEWS_DEG:
        depths, ratios = [], []
        placer = Placer(detector, None, UnknownPlace())
        unknown = UnknownCamera(hfov_deg=degrees)
        for (name, image, true_camera), expected in zip(frames, right, strict=True):
            photo = unknown.view(image.shape[1], image.shape[0]).frame(name, 0, image)
            photo = placer(photo)
            found = detector(image, photo.camera)
            depths.append(np.median(found.points[:, 0]) / np.median(expected.points[:, 0]))
            ratios += distance_ratios(expected, true_camera, found, photo.camera)
        focal = focal_of_view(degrees, camera.width) / camera.focal_px
        low, median, high = np.percentile(ratios, (10, 50, 90)) if ratios else [math.nan] * 3
        print(
            f"{degrees:7g}  {focal:12.2f}  {np.median(depths):15.2f}  {median:17.2f}   "
            f"{low:4.2f} to {high:4.2f}  {len(ratios):6d} of {boxes}"
        )


def distance_ratios(
    expected: Detections, camera: PinholeCamera, found: Detections, other: PinholeCamera
) -> list[float]:
    """Distance by right distance of each box that was found again."""
    ratios = []
    pixels, _ = other.project(found.boxes[:, :3].astype(np.float64))
    places, _ = camera.project(expected.boxes[:, :3].astype(np.float64))
    for place, box, score, label in zip(
        places, expected.boxes, expected.scores, expected.labels, strict=True
    ):
        off = np.hypot(*(pixels - place).T) + np.where(found.labels == label, 0, np.inf)
        if score > _LEAST_SCORE and len(off) and off.min() < _NEAR_PX:
            partner = found.boxes[off.argmin()]
            ratios.append(float(np.hypot(*partner[:2]) / np.hypot(*box[:2])))
    return ratios


if __name__ == "__main__":
    main()
