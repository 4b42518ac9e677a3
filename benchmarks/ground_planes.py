"""Where a depth network believes the road to be: its slope and height against LiDAR's.

    .venv/bin/python benchmarks/ground_planes.py --model demo --data ROOT

One wrong degree of slope is a wrong horizon: it leaves near ground where it is, and puts a car that
is 30 m away 7 m too near, or 14 m too far. Frames whose road isn't found are left out and counted.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from kd3d_core.cli.app import run
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.evaluation.depth import model_depth
from kd3d_core.geometry.points import depth_map

_ROAD = 4.0, 40.0, 8.0
"""Nearest and farthest metres ahead, and how far to each side, of what is looked at."""
_BELOW_M = 0.7
_STEEPEST, _MOST_TILTED = 0.12, 0.2
_TRIES, _FEWEST = 300, 100


def fitted_road(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The plane y = slope z + tilt x + height through most of `(N, 3)` points of a camera's frame.

    By RANSAC; gives the three numbers, and `(N,)` bool of the points on it.
    """
    columns = np.column_stack([points[:, 2], points[:, 0], np.ones(len(points))])
    near = 0.08 + 0.004 * points[:, 2]
    best = np.zeros(len(points), bool)
    for _ in range(_TRIES):
        three = rng.choice(len(points), 3, replace=False)
        plane = np.linalg.lstsq(columns[three], points[three, 1], rcond=None)[0]
        if abs(plane[0]) > _STEEPEST or abs(plane[1]) > _MOST_TILTED:
            continue
        on_it = np.abs(columns @ plane - points[:, 1]) < near
        best = on_it if on_it.sum() > best.sum() else best
    return np.linalg.lstsq(columns[best], points[best, 1], rcond=None)[0], best


def measure(*, model: str, data: Path, every: int = 1) -> None:
    """Print slope and height of the road, by LiDAR and by the model's depth network.

    Args:
        model: name in config/models, or a YAML file.
        data: folder in KITTI's layout.
        every: take every Nth frame.
    """
    answer = model_depth(model, torch.device("cpu"))
    rng = np.random.default_rng(0)
    frames = KittiDataset(data)
    rows = []
    for index in range(0, len(frames), every):
        frame = frames[index]
        predicted = answer(frame)
        camera = frame.camera(predicted.shape)
        measured = depth_map(frame.points(), camera.image_from_lidar, predicted.shape)
        rows_px, columns_px = np.nonzero((measured > 0) & (predicted > 0))
        pixels = np.column_stack([columns_px, rows_px, np.ones(len(rows_px))])
        rays = pixels @ np.linalg.inv(camera.projection[:, :3]).T
        depth = measured[rows_px, columns_px]
        points = rays * depth[:, None]
        ahead, side = points[:, 2], np.abs(points[:, 0])
        road = (ahead > _ROAD[0]) & (ahead < _ROAD[1]) & (side < _ROAD[2])
        road &= points[:, 1] > _BELOW_M
        if road.sum() < _FEWEST:
            continue
        true, on_it = fitted_road(points[road], rng)
        theirs = (rays * predicted[rows_px, columns_px][:, None])[road][on_it]
        columns = np.column_stack([theirs[:, 2], theirs[:, 0], np.ones(len(theirs))])
        even = np.sqrt(theirs[:, 2])[:, None]  # LiDAR sees the near road more often
        found = np.linalg.lstsq(columns * even, theirs[:, 1] * even[:, 0], rcond=None)[0]
        rows.append([np.degrees(true[0]), np.degrees(found[0]), true[2], found[2]])
    left_out = len(range(0, len(frames), every)) - len(rows)
    table = np.array(rows)
    print(f"{model} on {data}: {len(rows)} frames, {left_out} without a road")
    error = table[:, 1] - table[:, 0]
    slopes = [f"{column.mean():+.2f} (sd {column.std():.2f})" for column in (*table.T[:2], error)]
    print(f"slope, degrees: LiDAR {slopes[0]}, network {slopes[1]}, error {slopes[2]}")
    print(f"height, m: LiDAR {table[:, 2].mean():.2f}, network {table[:, 3].mean():.2f}")


if __name__ == "__main__":
    sys.exit(
        run(
            measure,
            prog="ground_planes.py",
            description="Slope and height of the road, by LiDAR and by a model's depth network.",
            examples=["benchmarks/ground_planes.py --model demo --data data/synth/val"],
        )
    )
