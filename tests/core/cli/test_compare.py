"""`kd3d-compare`: one table of several models, resumed, with failures as rows."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kd3d_core.bench.measure import summary
from kd3d_core.cli import compare, compare_model
from kd3d_core.depth.metrics import DepthScores
from kd3d_core.evaluation.depth import DepthReport, DepthRules
from kd3d_core.runtime.detections import Detections
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.study import process

CAR = "Car 0 0 0 60 20 100 50 1.5 1.6 4.0 0.0 1.6 {} 0{}\n"
CALIB = """P2: 90 0 80 0 0 90 30 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0
"""


@pytest.fixture
def data(tmp_path) -> Path:
    """Two frames with a car each, 12 m and 26 m away, and a wall of points at 20 m."""
    root = tmp_path / "data"
    for part in ("image_2", "calib", "label_2", "velodyne"):
        (root / part).mkdir(parents=True)
    wall = np.array([[20, y, z, 0.5] for y in (-2, 0, 2) for z in (-3, -2, -1)], np.float32)
    for name, distance in (("000000", 12), ("000001", 26)):
        Image.new("RGB", (160, 60), "gray").save(root / "image_2" / f"{name}.png")
        (root / "calib" / f"{name}.txt").write_text(CALIB)
        (root / "label_2" / f"{name}.txt").write_text(CAR.format(distance, ""))
        (root / "velodyne" / f"{name}.bin").write_bytes(wall.tobytes())
    return root


@pytest.fixture
def measured(monkeypatch) -> list[str]:
    """Stands in for the processes: the models that were run; `edge` breaks."""
    ran = []

    def run_logged(command, log, on_line, keep):
        model, out = command[1], Path(command[command.index("--out") + 1])
        ran.append(model)
        if model == "edge":
            raise process.RunError("it was ended by SIGKILL")
        for name in Path(command[command.index("--ids") + 1]).read_text().split():
            distance = {"000000": 12, "000001": 26}[name]
            (out / "detections").mkdir(parents=True, exist_ok=True)
            text = CAR.format(distance + 0.5 * (model == "lite"), " 0.9")
            (out / "detections" / f"{name}.txt").write_text(text)
        on_line("")
        values = {"abs_rel": 0.1, "rmse": 2.5, "silog": 1.0, "delta_1": float("nan")}
        scores = {name: DepthScores(9, 2, values, values) for name in DepthRules().ranges}
        depth = DepthReport(DepthRules(), 2, scores, 0.0).to_json() if model == "demo" else None
        result = {
            "digest": command[command.index("--digest") + 1], "description": model,
            "trained_on": "streets", "trained": model != "lite", "parameters": 7_340_000,
            "memory_gib": 0.5, "ms": summary([100.0, 120.0]), "machine": {"name": "a CPU"},
            "depth": depth,
        }  # fmt: skip
        (out / "result.json").write_text(json.dumps(result))

    monkeypatch.setattr(process, "run_logged", run_logged)
    return ran


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["kd3d-compare", *map(str, words), "--device", "cpu"])
    return compare.main()


def table(out: Path) -> dict[str, dict[str, str]]:
    return {row["model"]: row for row in csv.DictReader((out / "table.csv").open())}


def test_a_table_of_models(data, tmp_path, measured, monkeypatch, capsys):
    """AP of one label is 0 at R40 whatever is found, so that two frames give 100 / 40."""
    out = tmp_path / "out"
    words = ("demo", "edge", "lite", "streets", "--data", data, "--out", out)
    assert run(monkeypatch, *words) == 1
    rows = table(out)
    assert list(rows) == ["demo", "edge", "lite", "streets"]
    assert rows["demo"]["car 0.7"] == rows["demo"]["car 0.5"] == "2.50"
    half_a_metre_off = rows["lite"]
    assert (half_a_metre_off["car 0.7"], half_a_metre_off["car 0.5"]) == ("0.00", "2.50")
    assert (rows["demo"]["AbsRel"], rows["lite"]["AbsRel"]) == ("0.1000", "-")
    assert (rows["demo"]["ms"], rows["demo"]["M parameters"]) == ("110.0", "7.3")
    assert rows["edge"]["failure"] == "it was ended by SIGKILL"
    assert rows["edge"]["car 0.7"] == "-"
    page = (out / "index.html").read_text()
    for text in (
        "3D of car, moderate: R40 demo 2.50, lite 0.00, streets 2.50",
        "edge failed: it was ended by SIGKILL",
        "Depth error by distance",
        "what they find is noise: lite.",
    ):
        assert text in page
    assert "edge failed: it was ended by SIGKILL" in capsys.readouterr().out


def test_only_what_changed_or_failed_runs_again(data, tmp_path, measured, monkeypatch):
    monkeypatch.setattr(compare, "_write", lambda *_: None)
    words = ("demo", "edge", "--data", data, "--out", tmp_path / "out")
    run(monkeypatch, *words)
    run(monkeypatch, *words)
    assert measured == ["demo", "edge", "edge"]
    del measured[:]
    run(monkeypatch, *words, "--frames", "0:1")
    assert measured == ["demo", "edge"]
    del measured[:]
    (data / "label_2" / "000000.txt").write_text(CAR.format(13, ""))
    assert run(monkeypatch, *words[:1], *words[2:], "--frames", "0:1") == 0
    assert not measured  # labels change scores, and not what models find
    (data / "calib" / "000000.txt").write_text(CALIB.replace("90", "91"))
    run(monkeypatch, *words[:1], *words[2:], "--frames", "0:1")
    (tmp_path / "out" / "demo" / "detections" / "000000.txt").unlink()
    run(monkeypatch, *words[:1], *words[2:], "--frames", "0:1")
    assert measured == ["demo", "demo"]


def test_detections_of_an_interrupted_run_are_never_those_of_an_older_result(
    data, tmp_path, measured, monkeypatch
):
    words = ("demo", "--data", data, "--out", tmp_path / "out")
    run(monkeypatch, *words)

    def killed(command, *_):
        folder = Path(command[command.index("--out") + 1]) / "detections"
        folder.mkdir()
        for name in ("000000", "000001"):
            (folder / f"{name}.txt").write_text("")
        raise process.RunError("it was ended by SIGKILL")

    with monkeypatch.context() as patch:
        patch.setattr(process, "run_logged", killed)
        assert run(monkeypatch, *words, "--precision", "fp32") == 1
    run(monkeypatch, *words)
    assert measured == ["demo", "demo"]
    assert table(tmp_path / "out")["demo"]["car 0.7"] == "2.50"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "no model is called 'nothing'"),
        (["demo", "demo"], "demo and demo would both be called demo"),
        (["demo", "--bands", "20", "10"], "--bands 20 10: give two or more rising distances"),
        (["demo", "--frames", "5:9"], "--frames 5:9 selects none of the 2 frames"),
        (["edge"], "none of 1 models ran; edge: it was ended by SIGKILL"),
    ],
)
def test_errors_are_a_line(data, tmp_path, measured, monkeypatch, capsys, words, message):
    assert run(monkeypatch, *words, "--data", data, "--out", tmp_path / "out") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "index.html").exists()


@pytest.mark.parametrize("has_lidar", [True, False])
def test_measuring_a_model(data, tmp_path, monkeypatch, has_lidar):
    """Boxes, times and depth errors of a model whose answer is known."""
    frames = tmp_path / "frames.txt"
    frames.write_text("000001\n")
    if not has_lidar:
        (data / "velodyne" / "000001.bin").unlink()
    calls = []

    def answer(self, image, camera):
        calls.append(camera)
        boxes = np.array([[26, 0, -1.6, 4, 1.6, 1.5, -np.pi / 2]], np.float32)
        window = self.model.depth_window.window(camera)
        depth = torch.full((window.height, window.width), 22.0)
        points = np.zeros((0, 4), np.float32)
        score, label = np.array([0.5], np.float32), np.array([2])
        return Detections(points, boxes, score, label, depth, window, {"a": 3.0, "b": 4.0})

    monkeypatch.setattr(CameraDetector, "__call__", answer)
    out = tmp_path / "demo"
    compare_model.measure("demo", data, out=out, ids=frames, digest="d", device="cpu")
    assert len(calls) == 2  # one to warm up
    (line,) = (out / "detections" / "000001.txt").read_text().splitlines()
    kind, *numbers = line.split()
    assert kind == "Car"
    np.testing.assert_allclose(np.array(numbers[10:15], float), [0, 1.6, 26, 0, 0.5], atol=0.01)
    result = json.loads((out / "result.json").read_text())
    assert result["ms"] == {"median": 7.0, "p95": 7.0}
    assert result["digest"] == "d"
    assert result["parameters"] > 7e6
    assert result["memory_gib"] > 0.1
    if has_lidar:
        report = DepthReport.from_json(result["depth"])
        assert report.scores["all"].per_pixel["abs_rel"] == pytest.approx(0.1, abs=1e-3)
        assert report.to_json() == result["depth"]
    else:
        assert result["depth"] is None
