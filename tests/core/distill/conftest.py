"""A data set in KITTI's layout, made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CALIB = """\
P0: 721.5 0 609.6 0 0 721.5 172.9 0 0 0 1 0
P1: 721.5 0 609.6 0 0 721.5 172.9 0 0 0 1 0
P2: 721.5 0 609.6 0 0 721.5 172.9 0 0 0 1 0
P3: 721.5 0 609.6 0 0 721.5 172.9 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
Tr_imu_to_velo: 1 0 0 0 0 1 0 0 0 0 1 0
"""
CAR = "Car 0.00 0 0.00 550.00 160.00 650.00 220.00 1.50 1.60 3.90 0.50 1.65 14.00 -1.57\n"


@pytest.fixture
def write_frame(tmp_path) -> Callable[..., Path]:
    """Writes a frame of a street with one car ahead, to `tmp_path/training`."""

    def write(name: str, labels: str | None = CAR, lidar: bool = True) -> Path:
        root = tmp_path / "training"
        for part in ("image_2", "calib", "label_2", "velodyne"):
            (root / part).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(int(name))
        Image.fromarray(rng.integers(0, 255, (375, 1242, 3), np.uint8)).save(
            root / "image_2" / f"{name}.png"
        )
        (root / "calib" / f"{name}.txt").write_text(CALIB)
        if labels is not None:
            (root / "label_2" / f"{name}.txt").write_text(labels)
        if lidar:
            ground = rng.uniform((5, -10, -1.75, 0), (40, 10, -1.7, 1), (3000, 4))
            car = rng.uniform((12.4, -1.3, -1.7, 0), (16.2, 0.3, -0.2, 1), (300, 4))
            points = np.concatenate([ground, car]).astype(np.float32)
            (root / "velodyne" / f"{name}.bin").write_bytes(points.tobytes())
        return root

    return write
