"""Where a depth network believes the road to be: pitch and height of the camera over it.

    .venv/bin/python benchmarks/ground_planes.py --model demo --data ROOT

One wrong degree of pitch is a wrong horizon: it leaves near ground where it is, and puts a car that
is 30 m away 7 m too near, or 14 m too far. Frames whose road isn't found are left out and counted.

Then what setting that right would be worth: AbsRel and delta1 in the network's window, as it is,
with the horizon of all frames lowered, with each frame's road where LiDAR has it, and with each
frame's depth scaled to the median of what LiDAR says.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from kd3d_core.cli.app import run
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.evaluation.depth import model_depth
from kd3d_core.geometry.ground import fit_ground
from kd3d_core.geometry.points import depth_map

_HEIGHT_M = 1.65  # KITTI's camera over the road
_FARTHEST_M = 120.0  # where the horizon would be reached


def measure(*, model: str, data: Path, every: int = 1) -> None:
    """Print the camera's pitch and height over the road, by LiDAR and by the model's depth network.

    Args:
        model: name in config/models, or a YAML file.
        data: folder in KITTI's layout.
        every: step between frames.
    """
    answer = model_depth(model, torch.device("cpu"))
    frames = KittiDataset(data)
    chosen = range(0, len(frames), every)
    rows, pixels = [], []
    for index in chosen:
        frame = frames[index]
        predicted = answer(frame)
        camera = frame.camera(predicted.shape)
        measured = depth_map(frame.points(), camera.image_from_lidar, predicted.shape)
        v, u = np.nonzero((measured > 0) & (predicted > 0))
        rays = np.stack([u, v, np.ones(len(u))], -1) @ np.linalg.inv(camera.projection[:, :3]).T
        grounds = [fit_ground(rays * depth[v, u, None]) for depth in (measured, predicted)]
        turn = grounds[1].pitch_deg - grounds[0].pitch_deg if all(grounds) else 0.0
        pixels.append((measured[v, u], predicted[v, u], turn))
        if all(grounds):
            rows.append([value for g in grounds if g for value in (g.pitch_deg, g.height_m)])
    if not rows:
        print(f"{model} on {data}: no road is found in any of {len(chosen)} frames")
        return
    true, true_height, found, height = np.array(rows).T
    print(f"{model} on {data}: {len(rows)} frames, {len(chosen) - len(rows)} without a road")
    pitches = [f"{each.mean():+.2f} (sd {each.std():.2f})" for each in (true, found, found - true)]
    print(f"pitch, degrees: LiDAR {pitches[0]}, network {pitches[1]}, error {pitches[2]}")
    print(f"height, m: LiDAR {true_height.mean():.2f}, network {height.mean():.2f}")
    print(f"AbsRel / delta1: {_scores(each[:2] for each in pixels)}")
    for degrees in (0.2, 0.4, 0.6, 0.8, 1.0):
        turned = ((true, _turned(depth, degrees)) for true, depth, _ in pixels)
        print(f"  horizon lowered by {degrees} degrees: {_scores(turned)}")
    turned = ((true, _turned(depth, degrees)) for true, depth, degrees in pixels)
    print(f"  each road where LiDAR has it: {_scores(turned)}")
    scaled = ((true, depth * np.median(true / depth)) for true, depth, _ in pixels)
    print(f"  each image times its median: {_scores(scaled)}")


def _turned(depth: np.ndarray, degrees: float) -> np.ndarray:
    """Depth if the network had believed the camera to look down by less: it moves 1/z alike."""
    return 1 / np.maximum(1 / depth - np.tan(np.radians(degrees)) / _HEIGHT_M, 1 / _FARTHEST_M)


def _scores(frames: Iterable[tuple[np.ndarray, np.ndarray]]) -> str:
    """AbsRel and delta1 of true depth and an answer, means over the frames."""
    rows = []
    for true, answer in frames:
        ratio = np.clip(answer, 1, 80) / true
        rows.append([np.abs(ratio - 1).mean(), (np.maximum(ratio, 1 / ratio) < 1.25).mean()])
    return " / ".join(f"{each:.3f}" for each in np.mean(rows, 0))


if __name__ == "__main__":
    sys.exit(
        run(
            measure,
            prog="ground_planes.py",
            description="Pitch and height of the camera, by LiDAR and by a model's depth network.",
            examples=["benchmarks/ground_planes.py --model demo --data data/synth/val"],
        )
    )
