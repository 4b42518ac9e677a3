"""CMKD from end to end on a tiny street: a pillar teacher, and a student that needs no labels."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from kd3d_core.data.batch import collate
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.models.build import make_detector
from kd3d_core.models.config import load_model_config
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.training.config import make_train_config
from kd3d_core.training.loop import train
from kd3d_core.training.tasks import make_task
from kd3d_core.weights.tensors import read_tensors

WINDOW = {"size": [64, 192], "mode": "crop", "focal_px": 120.0}
RANGE = [0.0, -12.8, -3.0, 25.6, 12.8, 1.0]
STAGES = [
    {"until_epoch": 1, "weights": {"feat": 4.0, "bins": 1.0}},
    {"until_epoch": 2, "weights": {"feat": 4.0, "bins": 1.0, "response": 1.0}},
]
FEATURE = {"places": ["voxels"], "project": False, "scale": "rms", "empty": 0.05}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))


def write(path: Path, kind: str, detector: str, **more: Any) -> Path:
    settings = {
        "type": detector, "weights": "random", "window": WINDOW, "point_cloud_range": RANGE, **more,
    }  # fmt: skip
    path.write_text(yaml.safe_dump({"type": kind, "detector": settings}))
    return path


@pytest.fixture
def models(tmp_path) -> dict[str, Path]:
    return {
        "teacher": write(tmp_path / "teacher.yaml", "lidar", "cmkd_teacher_tiny"),
        "student": write(tmp_path / "student.yaml", "cmkd", "cmkd_tiny"),
    }


def settings(root: Path, out: Path, model: Path, **more: Any) -> dict[str, Any]:
    return {
        "task": "detector", "model": str(model), "data": {"root": str(root)}, "out": str(out),
        "epochs": 2, "batch_size": 2, "workers": 0, "precision": "fp32", "validate_every": 2,
        "optimizer": {"lr": 1e-3}, **more,
    }  # fmt: skip


def distilled(root: Path, out: Path, models: dict[str, Path], **more: Any) -> dict[str, Any]:
    changes = more.pop("distill", {})
    return settings(
        root, out, models["student"], task="distill",
        teacher={"model": str(models["teacher"]), **more.pop("teacher", {})},
        distill={
            "phases": STAGES, "feature": FEATURE, "start": ["backbone", "neck", "head"], **changes,
        },
        **more,
    )  # fmt: skip


def task_of(values: dict[str, Any]):
    return make_task(make_train_config(values, "test"))


def test_a_teacher_and_its_student(street, models, tmp_path, caplog):
    """Without a single label; what comes out is a model for an image."""
    root = tmp_path / "street"
    shutil.copytree(street, root)
    config = make_train_config(settings(root, tmp_path / "lidar", models["teacher"]), "test")
    train(config, make_task(config))
    models["teacher"] = tmp_path / "lidar" / "model.yaml"

    shutil.rmtree(root / "training" / "label_2")
    values = distilled(
        root, tmp_path / "run", models, augment={"flip": 0.5, "rotation": 0.0, "scale": [1.0, 1.0]}
    )
    config = make_train_config(values, "test")
    caplog.set_level(logging.INFO)
    summary = train(config, make_task(config))
    assert "0 with labels" in caplog.text
    assert set(summary.losses) == {
        "feat_voxels", "bins_focal", "response_cls", "response_box", "response_dir",
    }  # fmt: skip
    assert all(np.isfinite(value) for value in summary.losses.values())

    detector = CameraDetector.from_config(tmp_path / "run" / "model.yaml", "cpu")
    assert detector.trained
    camera = PinholeCamera(
        np.array([[186.0, 0, 160, 0], [0, 186, 44, 0], [0, 0, 1, 0]]), 320, 96,
        virtual_lidar_from_camera(1.65),
    )  # fmt: skip
    answer = detector(np.zeros((96, 320, 3), np.uint8), camera)
    assert answer.depth is not None
    assert answer.depth.shape == (64, 192)


def test_the_first_stage_leaves_what_came_from_the_teacher(street, models, tmp_path):
    task = task_of(distilled(street, tmp_path / "run", models))
    module = task.model.train()
    teacher = module.teacher.detector
    before = {name: value.clone() for name, value in module.student.backbone.state_dict().items()}
    assert all(torch.equal(before[n], v) for n, v in teacher.backbone.state_dict().items())
    task.samples.set_epoch(0)
    losses = module(collate([task.samples[0], task.samples[1]]))
    assert set(losses) == {"feat_voxels", "bins_focal"}
    sum(losses.values()).backward()
    after = module.student.backbone.state_dict()
    assert all(torch.equal(before[name], value) for name, value in after.items())  # norms too
    assert all(p.grad is None for p in module.student.backbone.parameters())
    side = module.student.network["image_side"]
    for layer in (side.depth[-1], side.context[0], side.encoder.backbone.conv1):
        assert layer.weight.grad.abs().max() > 0
    assert module.has_idle_parameters


def test_answers_from_a_disk_are_those_of_the_teacher(street, models, tmp_path):
    """All of what CMKD compares, of a teacher whose empty cells aren't 0."""
    teacher = make_detector(load_model_config(models["teacher"]).detector, seed=1)
    torch.nn.init.normal_(teacher.head.conv_cls.weight, std=1.0)  # confident here and there
    torch.nn.init.normal_(teacher.head.conv_reg.weight, std=1.0)
    torch.nn.init.constant_(teacher.network["stem"].blocks[0][-2].bias, 0.1)  # as if trained
    save_file(teacher.network.state_dict(), tmp_path / "teacher.safetensors")
    named = str(tmp_path / "teacher.safetensors")
    found = []
    for cached in (False, True):
        values = distilled(
            street, tmp_path / "run", models, teacher={"cache": cached, "weights": named},
            distill={"start": "model"},
        )  # fmt: skip
        task = task_of(values)
        task.samples.set_epoch(1)
        module = task.model.eval()
        with torch.no_grad():
            module.parts["feat"].train()  # measures the scale
            found.append(module(collate([task.samples[index] for index in range(3)])))
    live, stored = found
    assert live.keys() == stored.keys()
    for name, value in live.items():
        assert stored[name].item() == pytest.approx(value.item(), rel=0.02), name
    empty = next((tmp_path / "cache" / "teacher").glob("*/empty.voxels.safetensors"))
    frames = [path for path in empty.parent.glob("*.voxels.safetensors") if path != empty]
    canvas = read_tensors(empty)["voxels.0"]
    assert canvas.abs().max() > 0
    cells = canvas.shape[-2] * canvas.shape[-1]
    for path in frames:  # of 32 x 32 cells, those around points
        assert path.stat().st_size < 2 * canvas.shape[0] * cells


def test_a_control_learns_from_labels_and_lidar_depth(street, models, tmp_path):
    phases = [{"until_epoch": 2, "weights": {"det": 1.0, "bins": 1.0}}]
    task = task_of(distilled(street, tmp_path / "run", models, distill={"phases": phases}))
    losses = task.model.train()(collate([task.samples[0], task.samples[1]]))
    assert set(losses) == {"det_cls", "det_box", "det_dir", "bins_focal"}


def test_a_student_learns_from_labels_alone_without_any_lidar(street, models, tmp_path):
    root = tmp_path / "street"
    shutil.copytree(street, root)
    shutil.rmtree(root / "training" / "velodyne")
    config = make_train_config(settings(root, tmp_path / "run", models["student"]), "test")
    summary = train(config, make_task(config), max_steps=2)
    assert set(summary.losses) == {"cls", "box", "dir"}


def test_an_assistant_teaches_its_student(street, models, tmp_path):
    """It learns as any detector on LiDAR and image does; its map is compared with the student's."""
    assistant = write(tmp_path / "assistant.yaml", "lidar", "cmkd_assistant_tiny")
    config = make_train_config(settings(street, tmp_path / "assistant", assistant), "test")
    train(config, make_task(config), max_steps=2)
    models["teacher"] = assistant
    task = task_of(distilled(street, tmp_path / "run", models, distill={"start": "teacher"}))
    module = task.model.train()
    task.samples.set_epoch(1)
    losses = module(collate([task.samples[0], task.samples[1]]))
    assert {name.split("_")[0] for name in losses} == {"feat", "bins", "response"}
    # The same image and weights: what differs is where its features lie.
    assert losses["feat_voxels"] > 0


def test_a_student_without_a_distribution_has_no_bins(street, models, tmp_path):
    models["student"] = write(tmp_path / "lite.yaml", "lidar", "cmkd_teacher_tiny")
    with pytest.raises(ConfigError, match="a phase has a weight for bins, and cmkd_teacher_tiny"):
        task_of(distilled(street, tmp_path / "run", models))


def test_what_was_trained_names_its_frames_for_depth_too(street, models, tmp_path):
    task = task_of(settings(street, tmp_path / "run", models["student"]))
    task.export(task.model, tmp_path / "run")
    text = yaml.safe_load((tmp_path / "run" / "model.yaml").read_text())
    assert text["card"]["depth"] == text["card"]["detector"]
    assert json.dumps(text["detector"])
    assert text["detector"]["weights"] == "./detector.safetensors"


@pytest.mark.slow
def test_a_student_overfits_a_street(street, models, tmp_path):
    """After a few minutes it finds the cars without ever having seen a label.

    Cars are small in these images, so that KITTI's rules leave out most; some stand beyond the
    range, so the teacher has 66 of 100 as well.
    """
    values = settings(
        street, tmp_path / "lidar", models["teacher"], epochs=100, validate_every=50,
        optimizer={"lr": 3e-3},
    )  # fmt: skip
    config = make_train_config(values, "test")
    taught = train(config, make_task(config))
    assert taught.metrics["Car_distance"] > 55
    models["teacher"] = tmp_path / "lidar" / "model.yaml"
    phases = [
        {"until_epoch": 50, "weights": {"feat": 4.0, "bins": 1.0}},
        {"until_epoch": 120, "weights": {"feat": 4.0, "bins": 1.0, "response": 1.0}},
    ]
    values = distilled(
        street, tmp_path / "run", models, distill={"phases": phases}, teacher={"cache": True},
        epochs=120, validate_every=60, optimizer={"lr": 2e-3},
    )  # fmt: skip
    config = make_train_config(values, "test")
    summary = train(config, make_task(config))
    assert summary.metrics["Car_distance"] > 50
