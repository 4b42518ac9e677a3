"""A study from its file to its table."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from small_study import settings, write_study

from kd3d_core.cli import ablate as command
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.detectors.voxels import VoxelGrid
from kd3d_core.evaluation.kitti_ap import evaluate
from kd3d_core.evaluation.kitti_files import read_frames
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.study import process
from kd3d_core.study.evaluate import beyond_range
from kd3d_core.study.history import read_history
from kd3d_core.study.process import RunError
from kd3d_core.training.loop import train
from kd3d_core.training.tasks import make_task
from kd3d_core.training.validation import DetectionFrames

LIMIT_S = 1200


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """Trains in this process, which saves starting; names of the runs that were trained."""
    names = []

    def train_here(run, lock, on_line):
        names.append(run.name)
        train(run.config, make_task(run.config))

    monkeypatch.setattr(process, "train", train_here)
    return names


@pytest.fixture
def judged_on(monkeypatch) -> list[np.ndarray]:
    """The points of the first validation frame, as each judged run's detector reads them."""
    clouds = []

    class Seen(DetectionFrames):
        def __init__(self, frames, config, points, batch_size):
            super().__init__(frames, config, points, batch_size)
            clouds.append(points(frames[0]))

    monkeypatch.setattr("kd3d_core.study.evaluate.DetectionFrames", Seen)
    return clouds


def ablate(folder: Path, monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["kd3d-ablate", str(folder / "study.yaml"), *words])
    return command.main()


def test_a_study_goes_on_and_ends_in_a_table_that_can_be_checked(
    ready, trained, judged_on, monkeypatch, capsys
):
    out = ready / "study"
    assert ablate(ready, monkeypatch, "--only", "control", "--seeds", "0") == 0
    assert trained == ["control, seed 0"]

    def killed(run, lock, on_line):
        if run.variant == "both":
            raise KeyboardInterrupt
        train_here(run, lock, on_line)

    train_here = process.train
    monkeypatch.setattr(process, "train", killed)
    assert ablate(ready, monkeypatch) == 130
    assert trained == ["control, seed 0", "teacher, seed 0"]
    assert "2 of 5 runs are in" in (out / "table.md").read_text()
    monkeypatch.setattr(process, "train", train_here)
    assert ablate(ready, monkeypatch) == 0
    rest = ["both, seed 0", "control, seed 1", "both, seed 1"]
    assert trained == ["control, seed 0", "teacher, seed 0", *rest]
    assert ablate(ready, monkeypatch) == 0
    assert len(trained) == 5
    assert "5 of 5 runs are in" in capsys.readouterr().out
    (out / "table.md").unlink()  # as if it had been killed before that
    assert ablate(ready, monkeypatch) == 0
    assert "5 of 5 runs are in" in (out / "table.md").read_text()
    assert len(trained) == 5

    true_points = KittiDataset(ready / "street").frame("000004").points_in_view()
    pseudo = [np.load(path) for path in (ready / "cache" / "pseudo_lidar").rglob("*.npy")]
    assert len(judged_on) == len(trained)
    for name, points in zip(trained, judged_on, strict=True):
        of_lidar = np.array_equal(points, true_points)
        assert of_lidar == name.startswith("teacher")
        assert of_lidar or any(np.array_equal(points, cloud) for cloud in pseudo)

    folder = out / "runs" / "both" / "seed1"
    labels = ready / "street" / "training" / "label_2"
    frames = read_frames(labels, folder / "detections", ["000004", "000005"])
    metrics = json.loads((folder / "metrics.json").read_text())
    for iou in ("strict", "loose"):
        again = evaluate(frames.ground_truth, frames.detections, iou).to_json()
        assert metrics["ap"][iou] == again
    assert metrics["seconds"] > 0
    history = read_history(folder)
    assert history.steps == (metrics["steps"],)
    last_ap = metrics["ap"]["strict"]["car"]["3d"]["R40"][1]
    assert history.scores["Car_3d"] == (pytest.approx(last_ap),)
    # The only validation is the last, so the best weights, as training wrote them, are the last.
    exported, last = load_file(folder / "detector.safetensors"), load_file(
        folder / "last" / "detector.safetensors"
    )  # fmt: skip
    assert exported.keys() == last.keys()
    assert all(torch.equal(exported[name], last[name]) for name in last)
    raw = load_file(folder / "latest" / "model.safetensors")
    assert any(not torch.equal(raw[f"student.network.{name}"], v) for name, v in last.items())
    assert CameraDetector.from_config(folder / "last" / "model.yaml", "cpu").class_names
    check_that_students_of_another_teacher_are_refused(ready, monkeypatch, capsys)
    assert len(trained) == 5


def check_that_students_of_another_teacher_are_refused(ready, monkeypatch, capsys) -> None:
    """In a study that is finished; put back, the teacher's students count again."""
    out = ready / "study"
    weights = out / "runs" / "teacher" / "seed0" / "last" / "detector.safetensors"
    before = weights.read_bytes()
    tensors = load_file(weights)
    save_file({name: value + 1 for name, value in tensors.items()}, weights)
    assert ablate(ready, monkeypatch) == 1
    said = capsys.readouterr().err
    for seed in (0, 1):
        assert f"both, seed {seed} failed: the teacher {weights.parent}/model.yaml has" in said
        assert f"delete {out}/runs/both/seed{seed} to run it again" in said
    assert "control" not in said
    table = (out / "table.md").read_text()
    assert "3 of 5 runs are in" in table
    assert "FAILED: both, seed 1: the teacher" in table
    weights.write_bytes(before)
    assert ablate(ready, monkeypatch) == 0
    assert "5 of 5 runs are in" in (out / "table.md").read_text()


def test_a_run_that_fails_is_recorded_and_tried_again(ready, monkeypatch, capsys):
    def fail(run, lock, on_line):
        raise RunError(f"no memory for {run.name}")

    monkeypatch.setattr(process, "train", fail)
    assert ablate(ready, monkeypatch, "--seeds", "1") == 1
    said = capsys.readouterr().err
    assert "kd3d-ablate: control, seed 1 failed: no memory for control, seed 1" in said
    assert "kd3d-ablate: both, seed 1 failed: its teacher has no weights" in said
    table = (ready / "study" / "table.md").read_text()
    assert "FAILED: teacher, seed 0: no memory for teacher, seed 0" in table


def test_changed_settings_are_refused(ready, trained, monkeypatch, capsys):
    assert ablate(ready, monkeypatch, "--only", "control", "--seeds", "0") == 0
    changed = settings(ready)
    changed["run"]["epochs"] = 2
    write_study(ready, run=changed["run"])
    assert ablate(ready, monkeypatch) == 1
    assert "belongs to another run: epochs is 2 and was 1" in capsys.readouterr().err
    changed = settings(ready)
    changed["detector"]["point_cloud_range"][3] = 38.4
    write_study(ready, detector=changed["detector"])
    assert ablate(ready, monkeypatch) == 1
    assert "detector.point_cloud_range is" in capsys.readouterr().err
    write_study(ready)
    (ready / "train.txt").write_text("000000\n000001\n")
    assert ablate(ready, monkeypatch) == 1
    assert "frames.to train on is 2 and was 4" in capsys.readouterr().err
    assert trained == ["control, seed 0"]


def test_more_frames_than_are_rendered_are_refused(ready, monkeypatch, capsys):
    shutil.copytree(ready / "street", ready / "val")
    write_study(
        ready,
        data={"root": str(ready / "street"), "val_root": str(ready / "val")},
        render={"train": {"frames": 4}, "val": {"frames": 6, "seed": 1}},
    )
    assert ablate(ready, monkeypatch) == 1
    said = capsys.readouterr().err
    assert f"{ready / 'street'} holds 6 frames and render.train.frames is 4: give another" in said


def test_an_untrained_depth_network_is_refused(ready, monkeypatch, capsys):
    write_study(ready, depth=str(ready / "random.yaml"))
    assert ablate(ready, monkeypatch) == 1
    assert "whose depth network is untrained" in capsys.readouterr().err


def test_objects_beyond_the_range_are_counted(ready):
    frames = KittiDataset(ready / "street")
    labels = [label for index in range(len(frames)) for label in frames[index].objects()]
    # Those that are high enough for the moderate level: the nearest of each frame, 10 m ahead.
    sideways = np.array([x for x, _, z in (label.location for label in labels) if z < 11])
    assert len(sideways) == len(frames)

    def beyond(x: float, y: float) -> int:
        return beyond_range(frames, VoxelGrid((0.2, 0.2, 4), (0, -y, -3, x, y, 1)))["car"]

    assert beyond(5, 40) == len(frames)
    assert beyond(20, 40) == 0
    assert beyond(20, 1) == (abs(sideways) > 1).sum()
    assert 0 < beyond(20, 1) < len(frames)


@pytest.mark.slow
def test_the_command_renders_trains_in_processes_and_survives_a_kill(ready):
    camera = {"width": 320, "height": 96, "fx": 186.0, "fy": 186.0, "cx": 157.0, "cy": 44.5}
    write_study(
        ready,
        data={"root": str(ready / "train"), "val_root": str(ready / "val")},
        render={
            "train": {"frames": 4, "seed": 1, "camera": camera},
            "val": {"frames": 2, "seed": 2, "camera": dict(camera)},  # once more: no YAML alias
        },
        seeds=[0],
    )
    words = [
        sys.executable, "-m", "kd3d_core.cli.ablate", str(ready / "study.yaml"), "--workers", "1",
    ]  # fmt: skip
    done = ready / "study" / "runs" / "teacher" / "seed0" / "metrics.json"
    study = subprocess.Popen(words, env=os.environ, start_new_session=True)
    try:
        ends = time.monotonic() + LIMIT_S
        while not done.is_file():
            assert study.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.05)
        time.sleep(3)
    finally:
        os.killpg(study.pid, signal.SIGKILL)
        study.wait()
    before = done.stat().st_mtime_ns
    again = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert again.returncode == 0, again.stderr
    assert done.stat().st_mtime_ns == before
    assert "3 of 3 runs are in" in again.stdout
    values = yaml.safe_load((ready / "study" / "runs" / "both" / "seed0" / "config.yaml").open())
    assert values["teacher"]["model"].endswith("teacher/seed0/last/model.yaml")
