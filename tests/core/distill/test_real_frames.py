"""Real frames, half of them without labels, from the command to a model that detects."""

import logging
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kd3d_core.classes import KITTI_CLASSES
from kd3d_core.cli import detect
from kd3d_core.cli import train as command
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.labels import read_detections
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.distill.teacher import Teacher
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.config import load_model_config, save_model_config
from kd3d_core.training import tasks

pytestmark = pytest.mark.slow

FRAMES, EPOCHS = 16, 12
SMALL = WindowConfig((96, 320), "crop", 186.0)
DETECTOR = DetectorConfig(
    "lite", "random", SMALL, point_cloud_range=(0.0, -12.8, -3.0, 38.4, 12.8, 1.0)
)
TEACHER = """
task: detector
model: model.yaml
data: {root: data, train: labelled.txt}
points: lidar
out: teacher
epochs: 40
batch_size: 2
workers: 0
precision: fp32
optimizer: {lr: 2.0e-3}
validate_every: 40
"""
STUDENT = """
task: distill
model: model.yaml
teacher: {model: teacher/model.yaml, points: lidar, cache: false}
data: {root: data}
points: pseudo
out: student
epochs: 12
batch_size: 2
workers: 1
precision: fp32
optimizer: {lr: 1.0e-3}
validate_every: 12
distill:
  phases:
    - {until_epoch: 12, weights: {det: 1.0, feat: 2.0, logit: 1.0}}
  feature: {places: [neck]}
  label_score: 0.3
  start: model
"""


@pytest.fixture
def place(tracking: KittiDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, configurations, and a cache of its own; the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    labelled = []
    for index in range(FRAMES):
        frame = tracking[index]
        for part in ("image_2", "calib", "label_2", "velodyne_reduced"):
            folder = tmp_path / "data" / "training" / part
            folder.mkdir(parents=True, exist_ok=True)
            if part != "label_2" or index % 2 == 0:
                (folder / frame.path(part).name).symlink_to(frame.path(part).resolve())
        if index % 2 == 0:
            labelled.append(frame.name)
    (tmp_path / "labelled.txt").write_text("\n".join(labelled))
    for name, text in {"teacher": TEACHER, "student": STUDENT}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    demo = load_model_config("demo")  # for its depth network
    save_model_config(replace(demo, detector=DETECTOR), tmp_path / "model.yaml")
    return tmp_path


def test_half_labelled_real_frames_train_a_student(place, monkeypatch, caplog, capsys):
    """With a live teacher, and again with its answers on disk."""
    caplog.set_level(logging.INFO)
    made = keep_tasks(monkeypatch)

    def call(program, words: str) -> None:
        monkeypatch.setattr(sys, "argv", shlex.split(words))
        assert program.main() == 0, capsys.readouterr().err

    call(command, "kd3d-train teacher.yaml")
    call(command, "kd3d-train student.yaml")
    half = FRAMES // 2
    assert (
        f"{FRAMES} frames: {half} with labels, {FRAMES} with LiDAR; the teacher's boxes are the "
        f"labels of {half}"
    ) in caplog.messages
    live = losses(place / "student")
    assert {name.split("_")[0] for name in live} == {"det", "feat", "logit"}
    total = sum(live.values())
    steps = FRAMES // 2  # of an epoch
    assert len(total) == EPOCHS * steps
    assert torch.isfinite(total).all()
    assert live["logit_cls"][:steps].median() > 0.01, "the teacher is sure of something"
    assert total[-steps:].mean() < 0.7 * total[:steps].mean()
    for part in ("det", "feat", "logit"):
        mine = sum(values for name, values in live.items() if name.startswith(part))
        assert mine[-steps:].mean() < mine[:steps].mean(), part

    student = made[-1].model
    assert isinstance(student.teacher, Teacher)
    asked = student.teacher.detector.network.state_dict()
    stored = load_file(place / "teacher" / "detector.safetensors")
    assert asked.keys() == stored.keys()
    assert all(torch.equal(asked[name].cpu(), value) for name, value in stored.items())

    call(command, "kd3d-train student.yaml --teacher.cache true --out cached --epochs 1")
    assert f"the teacher answered {FRAMES} of {FRAMES} frames; the rest was there" in caplog.text
    cached = losses(place / "cached")
    for name, values in live.items():
        assert cached[name][0].item() == pytest.approx(values[0].item(), rel=0.01), name

    call(detect, "kd3d-detect data --model student/model.yaml --kitti found --frames 0:2")
    assert "2 frames detected" in capsys.readouterr().out
    for name in ("000000", "000001"):
        for label in read_detections(place / "found" / f"{name}.txt"):
            assert label.type in KITTI_CLASSES
            assert label.score is not None


def keep_tasks(monkeypatch: pytest.MonkeyPatch) -> list:
    """The tasks that commands make from now on."""
    made = []
    make_task = tasks.make_task

    def make(config, **choices):
        made.append(make_task(config, **choices))
        return made[-1]

    monkeypatch.setattr(tasks, "make_task", make)
    return made


def losses(out: Path) -> dict[str, torch.Tensor]:
    """By name, a run's losses, step by step."""
    curves = EventAccumulator(str(out / "tensorboard"), {"scalars": 0}).Reload()
    return {
        tag.removeprefix("loss/"): torch.tensor([event.value for event in curves.Scalars(tag)])
        for tag in curves.Tags()["scalars"]
        if tag.startswith("loss/")
    }
