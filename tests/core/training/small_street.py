"""A data set in KITTI's layout, small enough to train on within a test, and a model of its size."""

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from kd3d_core.data.kitti_calib import kitti_camera
from kd3d_core.data.label_boxes import box_labels
from kd3d_core.data.labels import write_labels

HEIGHT, WIDTH = 96, 320
CALIB = """\
P2: 186 0 160 0 0 186 44 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""
MODEL = {
    "depth": {
        "weights": "random",
        "encoder": "b0",
        "window": {"size": [64, 192], "mode": "crop"},
    },
    "detector": {
        "type": "lite",
        "weights": "random",
        "window": {"size": [64, 192], "mode": "crop"},  # not shared: that would be a YAML alias
        "decoding": {"score_threshold": 0.1, "nms_iou": 0.01, "pre_nms": 100, "max_boxes": 50},
        "point_cloud_range": [0.0, -12.8, -3.0, 25.6, 12.8, 1.0],  # few cells are quick
    },
    "pseudo_lidar": {"keep_fraction": 0.2, "max_jump": 0.0},
}


def write_street(root: Path, cars: list[int]) -> Path:
    """A frame of ground and noise for each number of cars."""
    for part in ("image_2", "calib", "label_2", "velodyne"):
        (root / "training" / part).mkdir(parents=True)
    for index, count in enumerate(cars):
        _write_frame(root / "training", f"{index:06d}", np.random.default_rng(index), count)
    return root


def write_model(path: Path) -> Path:
    """`MODEL` as a file."""
    path.write_text(yaml.safe_dump(MODEL))
    return path


def _write_frame(folder: Path, name: str, rng: np.random.Generator, cars: int) -> None:
    calib = folder / "calib" / f"{name}.txt"
    calib.write_text(CALIB)
    camera = kitti_camera(calib, WIDTH, HEIGHT)
    x = np.linspace(10, 32, cars) if cars else np.zeros(0)
    y = rng.uniform(-0.3, 0.3, cars) * x
    boxes = np.stack(
        [x, y, *np.tile([[-1.73], [3.9], [1.6], [1.5]], cars), rng.uniform(-3, 3, cars)], 1
    ).astype(np.float32)
    labels = box_labels(boxes, [1.0] * cars, ["Car"] * cars, camera)
    assert len(labels) == cars
    write_labels(folder / "label_2" / f"{name}.txt", labels)

    image = rng.integers(0, 120, (HEIGHT, WIDTH, 3), np.uint8)
    clouds = [rng.uniform((4, -14, -1.76, 0), (45, 14, -1.7, 1), (3000, 4))]
    for box, label in zip(boxes, labels, strict=True):
        centre = np.array([box[0], box[1], box[2] + 0.75, 0.5])
        half = np.array([1.6, 0.6, 0.7, 0.5])
        clouds.append(rng.uniform(centre - half, centre + half, (60, 4)))
        left, top, right, bottom = (round(side) for side in label.bbox)
        image[top:bottom, left:right] += 120
    Image.fromarray(image).save(folder / "image_2" / f"{name}.png")
    points = np.concatenate(clouds).astype("<f4")
    (folder / "velodyne" / f"{name}.bin").write_bytes(points.tobytes())
