"""Proof that training learns: a depth network, a student on its pseudo-LiDAR, and a control on
true LiDAR, each trained from nothing on the 31 frames of a real sequence and judged on the same.

    .venv/bin/python benchmarks/overfit_real.py --data ~/kitti/tracking_0001

Runs that are complete are not run again and interrupted ones go on. Afterwards, the boxes on the
pictures:

    kd3d-demo --data ~/kitti/tracking_0001 --speed 1 --model out/overfit/student/model.yaml
"""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kd3d_core.cli.app import run
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.data.label_boxes import box_labels, label_boxes
from kd3d_core.data.labels import read_detections, write_labels
from kd3d_core.errors import Kd3dError
from kd3d_core.evaluation.kitti_ap import Strictness, evaluate, min_overlap
from kd3d_core.geometry.boxes import corners
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.training.config import DataConfig, OptimizerConfig, TrainConfig
from kd3d_core.training.detector_task import DetectorTask
from kd3d_core.training.loop import train
from kd3d_core.training.tasks import make_task

matplotlib.use("Agg")


def overfit(
    *,
    data: Path = Path("../shared/data/kitti_tracking_0001"),
    out: Path = Path("out/overfit"),
    depth_epochs: int = 64,
    detector_epochs: int = 56,
) -> None:
    """Train, judge, and write results.json.

    Args:
        data: sequence in KITTI's layout, with labels and velodyne.
        out: folder for runs, models, detections and results.
        depth_epochs: passes over the frames for the depth network.
        detector_epochs: passes over the frames for either detector.
    """
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    depth = TrainConfig(
        task="depth", model="lite", data=DataConfig(str(data)), out=str(out / "depth"),
        epochs=depth_epochs, batch_size=4, validate_every=16,
        optimizer=OptimizerConfig(lr=5e-4, warmup=0.1),
    )  # fmt: skip
    student = replace(
        depth, task="detector", model=str(out / "depth" / "model.yaml"), out=str(out / "student"),
        points="pseudo", epochs=detector_epochs, batch_size=2, validate_every=14,
        optimizer=OptimizerConfig(lr=1e-3, warmup=0.2),
    )  # fmt: skip
    control = replace(student, model="lite", points="lidar", out=str(out / "control"))
    runs = {"depth": depth, "student": student, "control": control}

    minutes = {name: _train(run) for name, run in runs.items()}
    student_model, control_model = (out / name / "model.yaml" for name in ("student", "control"))
    _detect_end_to_end(student_model, KittiDataset(data), out / "student" / "detections")
    control = replace(control, model=str(control_model))
    _detect_in_lidar(control, out / "control" / "detections")
    results = {
        "minutes": minutes,
        "depth": json.loads((out / "depth" / "best" / "meta.json").read_text())["metrics"],
        "student": _judge(data, out / "student" / "detections"),
        "control": _judge(data, out / "control" / "detections"),
    }
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    plot(data, out)
    print(json.dumps(results, indent=2))


def _train(config: TrainConfig) -> float:
    """Train; minutes that this part of the run took."""
    began = time.monotonic()
    train(config, make_task(config))
    return round((time.monotonic() - began) / 60, 1)


def _detect_end_to_end(model: Path, frames: KittiDataset, out: Path) -> None:
    """Write what `CameraDetector` finds: image in, boxes out, as on a robot."""
    detector = CameraDetector.from_config(model)
    out.mkdir(parents=True, exist_ok=True)
    for name in frames.names:
        frame = frames.frame(name)
        camera = frame.camera()
        found = detector(frame.image(), camera)
        names = [detector.class_names[label] for label in found.labels]
        labels = box_labels(found.boxes, found.scores.tolist(), names, camera)
        write_labels(out / f"{name}.txt", labels)


def _detect_in_lidar(config: TrainConfig, out: Path) -> None:
    task = make_task(config)
    assert isinstance(task, DetectorTask)
    out.mkdir(parents=True, exist_ok=True)
    for name, labels in task.detect(task.model.eval(), torch.device("cpu")).items():
        write_labels(out / f"{name}.txt", labels)


def _judge(data: Path, detections: Path) -> dict[str, float]:
    """Car AP 3D R40 moderate by `kd3d-eval`, as the command line gives it."""
    answers = {}
    for iou, name in (("strict", "car_3d_iou_0.7"), ("loose", "car_3d_iou_0.5")):
        report = detections.parent / f"ap_{iou}.json"
        command = [sys.executable, "-m", "kd3d_core.cli.eval", "kitti", "--iou", iou]
        command += ["--labels", str(KittiDataset(data).root / "label_2")]
        command += ["--detections", str(detections), "--json", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Kd3dError(done.stderr.strip())
        answers[name] = json.loads(report.read_text())["car"]["3d"]["R40"][1]
    return answers


def plot(data: Path, out: Path) -> None:
    """Losses, precision over recall, and one frame from above, as overfit_real.png."""
    pyplot.rcParams.update({"font.size": 8, "axes.grid": True, "grid.alpha": 0.3})
    figure, ((losses, errors), (precision, above)) = pyplot.subplots(2, 2, figsize=(11, 8))
    losses.set(title="training loss", xlabel="step", yscale="log")
    for name in ("depth", "student", "control"):
        steps, values = _curve(out / name, "loss/")
        losses.plot(steps, _smooth(values), label=name)
    losses.legend()

    errors.set(title="on the trained frames", xlabel="step", ylim=(0, 1))
    for name, tag, label in (
        ("depth", "val/abs_rel", "depth: AbsRel"),
        ("student", "val/Car_3d", "student: car AP 3D at 0.7 / 100"),
        ("control", "val/Car_3d", "control: car AP 3D at 0.7 / 100"),
    ):
        steps, values = _curve(out / name, tag)
        errors.plot(steps, values / (1 if name == "depth" else 100), "o-", label=label)
    errors.legend()

    frames = KittiDataset(data)
    truth = [frames[index].labels() for index in range(len(frames))]
    precision.set(title="car, 3D, moderate", xlabel="recall", ylabel="precision", ylim=(0, 1.03))
    strictness: tuple[Strictness, ...] = ("strict", "loose")
    for name in ("student", "control"):
        folder = out / name / "detections"
        found = [read_detections(folder / f"{frame}.txt") for frame in frames.names]
        for iou in strictness:
            curve = evaluate(truth, found, iou).curves["car"]["3d"].values[1]
            minimum = min_overlap(iou, "car", "3d")
            precision.plot(np.linspace(0, 1, len(curve)), curve, label=f"{name}, IoU {minimum}")
    precision.legend()

    name = frames.names[len(frames) // 2]
    camera = frames.frame(name).camera()
    detections = read_detections(out / "student" / "detections" / f"{name}.txt")
    cars = [label for label in frames.frame(name).objects() if label.type == "Car"]
    above.set(title=f"frame {name} from above: label and student", xlabel="forward, m")
    above.set_aspect("equal")
    for labels, style, text in ((cars, "k-", "label"), (detections, "C1--", "student")):
        for number, box in enumerate(corners(label_boxes(labels, camera.lidar_from_camera))):
            ring = box[[0, 1, 2, 3, 0]]
            above.plot(ring[:, 0], ring[:, 1], style, label=None if number else text)
    above.legend()
    figure.tight_layout()
    figure.savefig(out / "overfit_real.png", dpi=90)


def _curve(run_folder: Path, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a scalar in the run's TensorBoard files; the sum of all that start so."""
    events = EventAccumulator(str(run_folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    tags = [name for name in events.Tags()["scalars"] if name.startswith(tag)]
    rows = [{event.step: event.value for event in events.Scalars(name)} for name in tags]
    steps = sorted(rows[0])
    return np.array(steps), np.array([sum(row[step] for row in rows) for step in steps])


def _smooth(values: np.ndarray, width: int = 15) -> np.ndarray:
    """Mean over the last `width` values."""
    sums = np.cumsum(np.concatenate([np.zeros(1), values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - width)
    return (sums[ends] - sums[starts]) / (ends - starts)


if __name__ == "__main__":
    sys.exit(
        run(
            overfit,
            prog="overfit_real.py",
            description=(
                "Train depth, student and control on one real sequence, and judge them on it."
            ),
            examples=["benchmarks/overfit_real.py --out /tmp/overfit"],
        )
    )
