"""`kd3d-eval check` on small data sets."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from kd3d_core.cli import eval as command
from kd3d_core.data.kitti import KittiDataset

CALIB = (
    "P2: 500 0 314 0 0 500 162 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
    "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n"
)


def write_data_set(root: Path, frames: int, width: int = 640, height: int = 360) -> Path:
    """Grey images, and a wall 10 m ahead on a road."""
    rng = np.random.default_rng(0)
    road = rng.uniform((4, -8, -1.74), (40, 8, -1.72), (3000, 3))
    wall = rng.uniform((10, -4, -1.7), (10.1, 4, 1), (500, 3))
    points = np.column_stack([np.concatenate([road, wall]), np.full(3500, 0.5)])
    for part in ("image_2", "calib", "velodyne"):
        (root / part).mkdir(parents=True)
    for number in range(frames):
        image = np.full((height, width, 3), 90, np.uint8)
        cv2.imwrite(str(root / "image_2" / f"{number:06d}.png"), image)
        (root / "calib" / f"{number:06d}.txt").write_text(CALIB)
        points.astype(np.float32).tofile(root / "velodyne" / f"{number:06d}.bin")
    return root


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["kd3d-eval", "check", *map(str, words)])
    return command.main()


def test_a_right_data_set(tmp_path: Path, monkeypatch, capsys) -> None:
    root = write_data_set(tmp_path / "data", 5)
    page, folder = tmp_path / "page.html", tmp_path / "pictures"
    words = (root, "--html", page, "--png", folder, "--pictures", 2)
    assert run(monkeypatch, *words) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{root}: 5 of 5 frames checked",
        "  nothing looks wrong",
    ]
    assert "frames checked" in page.read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000003.png"]
    picture = cv2.imread(str(folder / "000000.png"))
    # The middle of the wall has points on it, the sky has none.
    pixels, _ = KittiDataset(root)[0].camera().project(np.array([[10.0, 0, -0.5]]))
    u, v = pixels[0]
    around = picture[round(v) - 20 : round(v) + 20, round(u) - 50 : round(u) + 50]
    assert (around != 90).any(-1).mean() > 0.05
    assert (picture[:20] == 90).all()


def test_a_wrong_data_set_is_counted(tmp_path: Path, monkeypatch, capsys) -> None:
    root = write_data_set(tmp_path / "data", 4, width=320, height=180)
    (root / "calib" / "000002.txt").unlink()
    assert run(monkeypatch, root) == 1
    first, finding, unreadable = capsys.readouterr().out.splitlines()
    assert "3 of 4 frames checked" in first
    assert "principal point (314, 162)" in finding
    assert "in 3 of 3 frames, the first is 000000" in finding
    assert "1 frames can't be read, the first: " in unreadable
    assert "000002 has no calib" in unreadable


def test_a_mistake_in_few_frames_is_mentioned(tmp_path: Path, monkeypatch, capsys) -> None:
    root = write_data_set(tmp_path / "data", 12)
    cv2.imwrite(str(root / "image_2" / "000004.png"), np.zeros((180, 320, 3), np.uint8))
    assert run(monkeypatch, root) == 0
    assert "less than a tenth" in capsys.readouterr().out
    assert run(monkeypatch, root, "--frames", "4:") == 1
    assert run(monkeypatch, root, "--every", "5") == 0
    assert "3 of 12 frames checked" in capsys.readouterr().out.splitlines()[-2]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--frames", "9:"), "selects none of the 1 frames"),
        (("--every", "0"), "must be at least 1"),
    ],
)
def test_wrong_options(tmp_path: Path, monkeypatch, capsys, words, reason: str) -> None:
    root = write_data_set(tmp_path / "data", 1)
    assert run(monkeypatch, root, *words) == 1
    assert reason in capsys.readouterr().err
