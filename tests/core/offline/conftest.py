"""Small data for offline detection."""

import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
from seeing_detector import Run, SeeingDetector, picture

from kd3d_core.cli import detect
from kd3d_core.models.config import load_model_config
from kd3d_core.runtime.pipeline import CameraDetector

CALIB = """\
P2: 72.15 0 63 4.5 0 72.15 22 0.2 0 0 1 0.003
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""
LABEL = "Car 0 0 -1.57 50 18 70 30 1.5 1.6 4.0 1.0 1.65 20.0 -1.57\n"


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Four frames in KITTI's layout, the first two with a label."""
    root = tmp_path / "data"
    for part in ("image_2", "calib", "label_2"):
        (root / "training" / part).mkdir(parents=True)
    for index in range(4):
        name = f"{index:06d}"
        path = root / "training" / "image_2" / f"{name}.png"
        assert cv2.imwrite(str(path), picture(40 * index))
        (root / "training" / "calib" / f"{name}.txt").write_text(CALIB)
        if index < 2:
            (root / "training" / "label_2" / f"{name}.txt").write_text(LABEL)
    return root


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the command in an empty folder, with a quick detector."""
    monkeypatch.chdir(tmp_path)
    quick = SeeingDetector()
    quick.model = SimpleNamespace(config=load_model_config("lite"))  # type: ignore[attr-defined]
    monkeypatch.setattr(CameraDetector, "from_config", lambda *arguments: quick)

    def call(words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["kd3d-detect", *shlex.split(words)])
        return detect.main()

    return call
