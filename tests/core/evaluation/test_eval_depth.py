"""`kd3d-eval depth`: depth maps in files against real velodyne."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kd3d_core.cli import eval as command
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.depth.metrics import MEASURES
from kd3d_core.errors import DataError
from kd3d_core.evaluation.depth import model_depth, read_depth
from kd3d_core.geometry.points import depth_map

FRAMES = ("000000", "000003")

MODEL = """
depth:
  weights: random
  encoder: b0
  window: {size: [96, 320], mode: crop, focal_px: 186.0}
detector:
  type: lite
  weights: random
  window: {size: [96, 320], mode: crop, focal_px: 186.0}
"""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command; exit status, standard output and standard error."""

    def call(*args: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kd3d-eval", "depth", *map(str, args)])
        status = command.main()
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def truth(kitti_object: KittiDataset) -> dict[str, np.ndarray]:
    """Depth that the velodyne makes in the images."""
    maps = {}
    for name in FRAMES:
        frame = kitti_object.frame(name)
        maps[name] = depth_map(frame.points(), frame.camera().image_from_lidar, frame.image_size())
    return maps


@pytest.fixture
def arguments(kitti_object: KittiDataset, tmp_path: Path) -> list[object]:
    """Data, folder of predictions (made here, empty) and list of frames."""
    (tmp_path / "ids.txt").write_text("\n".join(FRAMES))
    (tmp_path / "depth").mkdir()
    return [
        *("--data", kitti_object.root, "--predictions", tmp_path / "depth"),
        *("--ids", tmp_path / "ids.txt"),
    ]


def write_png(path: Path, depth_m: np.ndarray) -> None:
    Image.fromarray(np.rint(depth_m * 256).astype(np.uint16)).save(path)


def test_depth_that_is_wrong_by_a_tenth(
    truth, arguments: list[object], run, tmp_path: Path
) -> None:
    np.save(tmp_path / "depth" / f"{FRAMES[0]}.npy", truth[FRAMES[0]] * np.float32(1.1))
    write_png(tmp_path / "depth" / f"{FRAMES[1]}.png", truth[FRAMES[1]] * 1.1)
    status, output, errors = run(
        *arguments, "--crop", "none", "--cap", 60, "--json", tmp_path / "depth.json"
    )
    assert (status, errors) == (0, "")
    report = json.loads((tmp_path / "depth.json").read_text())
    assert (report["frames"], report["crop"], report["cap"]) == (2, "none", 60)
    near = [np.count_nonzero((depth > 0) & (depth < 60)) for depth in truth.values()]
    whole = report["scores"]["all"]
    assert (whole["images"], whole["pixels"]) == (2, sum(near))
    # Predictions past the cap are cut to it, so far pixels are a little better than a tenth off.
    for scores in (report["scores"]["10-20"]["per_image"], report["scores"]["10-20"]["per_pixel"]):
        assert scores["abs_rel"] == pytest.approx(0.1, abs=1e-4)
        assert scores["rmse_log"] == pytest.approx(math.log(1.1), abs=1e-4)
        assert scores["silog"] == pytest.approx(0, abs=0.02)
        assert scores["delta_1"] == 1
    assert list(report["scores"]) == ["all", "0-10", "10-20", "20-40", "40-80"]
    assert list(whole["per_image"]) == list(MEASURES)
    assert "mean over images" in output
    assert "note" not in output


def test_crop_and_bands_choose_pixels(truth, arguments, run, tmp_path: Path) -> None:
    for name, depth in truth.items():
        np.save(tmp_path / "depth" / f"{name}.npy", np.maximum(depth, 1))
    run(*arguments, "--crop", "garg", "--bands", 5, 25, "--json", tmp_path / "depth.json")
    scores = json.loads((tmp_path / "depth.json").read_text())["scores"]
    assert list(scores) == ["all", "5-25"]
    inside = []
    for depth in truth.values():
        height, width = depth.shape
        part = depth[
            int(0.40810811 * height) : int(0.99189189 * height),
            int(0.03594771 * width) : int(0.96405229 * width),
        ]
        inside.append(part[(part > 1) & (part < 80)])
    pixels = np.concatenate(inside)
    assert scores["all"]["pixels"] == len(pixels)
    assert scores["5-25"]["pixels"] == np.count_nonzero((pixels >= 5) & (pixels < 25))
    assert scores["all"]["per_image"]["rmse"] == 0


def test_pixels_without_prediction_are_counted_and_told(
    truth, arguments, run, tmp_path: Path
) -> None:
    for name, depth in truth.items():
        write_png(tmp_path / "depth" / f"{name}.png", np.zeros_like(depth))
    _, output, _ = run(*arguments, "--json", tmp_path / "depth.json")
    assert json.loads((tmp_path / "depth.json").read_text())["without_answer"] == 1
    assert "100.00% of the compared pixels have no predicted depth" in output


def test_files_are_read_in_metres(tmp_path: Path) -> None:
    depth = np.array([[0, 1.5], [80, 255]])
    write_png(tmp_path / "a.png", depth)
    np.save(tmp_path / "a.npy", depth)
    for name in ("a.png", "a.npy"):
        read = read_depth(tmp_path / name)
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, depth)


def test_malformed_depth_files_are_named(tmp_path: Path) -> None:
    Image.new("L", (4, 3)).save(tmp_path / "grey.png")
    Image.new("RGB", (4, 3)).save(tmp_path / "colour.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "empty.npy").write_text("")
    np.save(tmp_path / "cube.npy", np.zeros((1, 3, 4), np.float32))
    np.save(tmp_path / "whole.npy", np.zeros((3, 4), np.int32))
    np.save(tmp_path / "object.npy", np.array([[None]]))
    np.save(tmp_path / "hole.npy", np.array([[1.0, np.nan]]))
    for name, message in (
        ("grey.png", "uint8 pixels of shape .3, 4.: a depth map is a grey 16-bit PNG"),
        ("colour.png", "a depth map is a grey 16-bit PNG"),
        ("text.png", "cannot be read"),
        ("text.npy", "cannot be read"),
        ("empty.npy", "cannot be read"),
        ("object.npy", "cannot be read"),
        ("cube.npy", "array of shape .1, 3, 4.: a depth map is .height, width."),
        ("whole.npy", "int32 array"),
        ("hole.npy", "1 of 2 depths are not finite"),
        ("none.npy", "cannot be read"),
    ):
        with pytest.raises(DataError, match=message) as error:
            read_depth(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)


def test_errors_are_one_line(truth, arguments, run, tmp_path: Path) -> None:
    def fails(message: str, *more: object) -> None:
        status, _, errors = run(*arguments, *more)
        assert status == 1
        assert message in errors
        assert errors.count("\n") == 1

    folder = tmp_path / "depth"
    fails("there is no such folder of depth maps", "--predictions", tmp_path / "no")
    fails(f"{folder}: 2 of 2 frames have no depth map, the first is {FRAMES[0]}")
    for name, depth in truth.items():
        np.save(folder / f"{name}.npy", depth)
    fails("need 0 < min < cap", "--cap", 0)
    fails("--bands ten: write metres", "--bands", "ten")
    fails("give two or more rising distances", "--bands", 20, 10)
    fails("no point of 2 frames falls into", "--cap", 0.5)
    np.save(folder / f"{FRAMES[1]}.npy", np.ones((20, 30), np.float32))
    fails(f"{folder / FRAMES[1]}.npy: 30 x 20 pixels, but the image has 12")
    write_png(folder / f"{FRAMES[1]}.png", truth[FRAMES[1]])
    fails(f"{folder / FRAMES[1]}.png: there is {FRAMES[1]}.npy too")


def test_a_model_is_judged_as_its_maps_would_be(kitti_object, arguments, run, tmp_path) -> None:
    model = tmp_path / "model.yaml"
    model.write_text(MODEL)
    answer = model_depth(str(model), torch.device("cpu"))
    for name in FRAMES:
        np.save(tmp_path / "depth" / name, answer(kitti_object.frame(name)))
    stored = run(*arguments)
    asked = run("--data", kitti_object.root, "--model", model, *arguments[-2:])
    assert stored == asked
    assert stored[0] == 0
    status, _, error = run(*arguments, "--model", model)
    assert (status, "either --predictions" in error) == (1, True)


def test_images_that_were_resized_after_the_calibration_are_named(
    run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("image_2", "calib", "velodyne"):
        (tmp_path / part).mkdir()
    Image.new("RGB", (320, 180)).save(tmp_path / "image_2" / "000000.png")
    (tmp_path / "calib" / "000000.txt").write_text(
        "P2: 500 0 314 0 0 500 162 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
        "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n"
    )
    points = np.array([[10, 3, 0, 0.5], [12, 3, 0.2, 0.5]], np.float32)
    (tmp_path / "velodyne" / "000000.bin").write_bytes(points.tobytes())
    np.save(tmp_path / "000000.npy", np.full((180, 320), 10, np.float32))
    run("--data", tmp_path, "--predictions", tmp_path, "--crop", "none")
    assert "the calibration looks wrong: the principal point (314, 162)" in caplog.text
