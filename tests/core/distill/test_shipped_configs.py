"""Files of `config/train` on frames and networks that are small enough for a test."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kd3d_core.cli import train as command
from kd3d_core.data.batch import collate
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import load_model_config, save_model_config
from kd3d_core.paths import share_dir
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.training.config import load_train_config
from kd3d_core.training.stages import load_stages
from kd3d_core.training.tasks import make_task

CONFIGS = share_dir() / "config" / "train"
WINDOW = WindowConfig((64, 192), "crop", 120.0)
RANGE = (0.0, -12.8, -3.0, 25.6, 12.8, 1.0)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> None:
    """One of the test's own."""
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))


def write_model(path: Path, name: str) -> Path:
    """A shipped model with random weights, on a small part of image and street."""
    model = load_model_config(name)
    detector: DetectorConfig = replace(
        model.detector, weights="random", window=WINDOW, point_cloud_range=RANGE
    )
    depth = replace(load_model_config("lite").depth, weights="random", window=WINDOW)
    save_model_config(replace(model, depth=depth, detector=detector), path)
    return path


def test_a_site_needs_neither_labels_nor_kitti(write_frame, tmp_path, monkeypatch, caplog):
    """Both stages of `site.yaml`, on the model of its size."""
    caplog.set_level(logging.INFO)
    for name in ("000000", "000001"):
        root = write_frame(name, labels=None)
    (root / "label_2").rmdir()
    (tmp_path / "ImageSets").mkdir()
    for part in ("train", "val"):
        (tmp_path / "ImageSets" / f"{part}.txt").write_text("000000\n000001\n")
    model, out = write_model(tmp_path / "small.yaml", "lite"), tmp_path / "run"
    words = {
        "data.root": tmp_path, "model": model, "stages.student.teacher.model": model, "out": out,
        "stages.depth.epochs": 1, "stages.student.epochs": 1, "workers": 0, "precision": "fp32",
    }  # fmt: skip
    options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["kd3d-train", str(CONFIGS / "site.yaml"), *options])
    assert command.main() == 0
    losses = json.loads((out / "student" / "latest" / "meta.json").read_text())["losses"]
    assert {name.split("_")[0] for name in losses} == {"det", "logit"}
    assert (
        "2 frames: 0 with labels, 2 with LiDAR; the teacher's boxes are the labels of 2"
    ) in caplog.messages
    assert "no validation frame has labels: the teacher's boxes stand for them" in caplog.messages
    assert CameraDetector.from_config(out / "student" / "model.yaml", "cpu").class_names
    used = load_model_config(out / "student" / "model.yaml").weights["depth"]
    assert Path(used).is_relative_to(out / "depth")
    named = {stage.name: stage.config for stage in load_stages(CONFIGS / "site.yaml")}
    assert (named["depth"].model, named["student"].teacher.model) == ("demo", "demo")


@pytest.mark.slow
def test_mvx_net_teaches_mvx_net(write_frame, tmp_path):
    """A step with the settings of `kitti_mvx_distill.yaml`."""
    write_frame("000000")
    write_frame("000001", labels=None)
    model = write_model(tmp_path / "small.yaml", "mvxnet_kitti")
    changes = [
        f"model={model}", f"teacher.model={model}", "points=lidar", "data.train=null",
        "data.val=null", f"data.root={tmp_path}", "distill.start=model",
    ]  # fmt: skip
    config = load_train_config(CONFIGS / "kitti_mvx_distill.yaml", changes)
    task = make_task(config)
    module = task.model.train()
    before = {name: v.clone() for name, v in module.teacher.detector.state_dict().items()}
    losses = module(collate([task.samples[0], task.samples[1]]))
    assert {name.split("_")[0] for name in losses} == {"det", "feat", "logit"}
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    learning = [p for p in module.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learning)
    for part in (module.student.network.img_backbone, module.student.head, module.parts["feat"]):
        assert any(p.grad.any() for p in part.parameters() if p.requires_grad)
    torch.optim.AdamW(learning, lr=1e-3).step()
    assert all(torch.equal(before[n], v) for n, v in module.teacher.detector.state_dict().items())
    assert all(p.grad is None for p in module.teacher.detector.parameters())
