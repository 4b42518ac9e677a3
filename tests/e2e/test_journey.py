"""From a recording of another rig to a detector for its camera, by the commands that users type."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kd3d_core.data.kitti import KittiDataset

ROOT = Path(__file__).parents[2]
LIMIT_S = 3600


@pytest.mark.slow
def test_a_student_without_labels_finds_cars_that_demo_does_not(tmp_path):
    """On a second recording of a camera 0.9 m over the road, with a focal length of 450 px."""
    out = tmp_path / "journey"
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "journey")], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHON": sys.executable, "OUT": str(out),
             "KD3D_CACHE": str(tmp_path / "cache")},
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert not KittiDataset(out / "site").has("label_2")

    card = yaml.safe_load((out / "model" / "model.yaml").read_text())["card"]
    assert card["detector"]["camera"]["height_m"] == pytest.approx([0.9, 0.9], abs=0.02)
    assert card["detector"]["camera"]["focal_px"] == pytest.approx([450, 450], abs=1)

    demo, student = (
        json.loads((out / "judge" / name / "loose.json").read_text())["car"]["3d"]["R40"][1]
        for name in ("demo", "student")
    )
    assert student > demo + 15, (demo, student)
