"""Proof that training learns: a depth network, a student on its pseudo-LiDAR, and a control on
true LiDAR, each trained from nothing on the 31 frames of a real sequence and judged on the same.

    .venv/bin/python benchmarks/overfit_real.py --data ~/kitti/tracking_0001

Runs that are complete are not run again and interrupted ones go on. Afterwards, the boxes on the
pictures:

    kd3d-demo --model out/overfit/student.yaml
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
import yaml

from kd3d_core.cli.app import run
from kd3d_core.data.augment import AugmentConfig
from kd3d_core.data.kitti import KittiDataset, box_labels, write_labels
from kd3d_core.errors import Kd3dError
from kd3d_core.runtime.model_config import load_model_config
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.training.config import DataConfig, OptimizerConfig, TrainConfig
from kd3d_core.training.detector_task import DetectorTask
from kd3d_core.training.loop import train
from kd3d_core.training.tasks import make_task


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
        augment=AugmentConfig(
            rotation=0, scale=(1, 1), brightness=0.1, contrast=0.1, saturation=0.1
        ),
    )  # fmt: skip
    student = replace(
        depth, task="detector", model=str(out / "untrained.yaml"), out=str(out / "student"),
        points="pseudo", epochs=detector_epochs, batch_size=2, validate_every=14, augment=None,
        optimizer=OptimizerConfig(lr=1e-3, warmup=0.2),
    )  # fmt: skip
    control = replace(student, model="lite", points="lidar", out=str(out / "control"))

    minutes = {"depth": _train(depth)}
    _write_model(out / "untrained.yaml", depth=out / "depth" / "depth")
    minutes["student"] = _train(student)
    minutes["control"] = _train(control)
    _write_model(
        out / "student.yaml",
        depth=out / "depth" / "depth",
        detector=out / "student" / "detector.safetensors",
    )

    _detect_end_to_end(out / "student.yaml", KittiDataset(data), out / "student" / "detections")
    _write_model(out / "control.yaml", detector=out / "control" / "detector.safetensors")
    _detect_in_lidar(
        replace(control, model=str(out / "control.yaml")), out / "control" / "detections"
    )
    results = {
        "minutes": minutes,
        "depth": json.loads((out / "depth" / "best" / "meta.json").read_text())["metrics"],
        "student": _judge(data, out / "student" / "detections"),
        "control": _judge(data, out / "control" / "detections"),
    }
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def _train(config: TrainConfig) -> float:
    """Train; minutes that this part of the run took."""
    began = time.monotonic()
    train(config, make_task(config))
    return round((time.monotonic() - began) / 60, 1)


def _write_model(path: Path, **weights: Path) -> None:
    """`lite` with weights from files."""
    values = json.loads(json.dumps(asdict(load_model_config("lite"))))
    for part, file in weights.items():
        values[part]["weights"] = str(file)
    path.write_text(yaml.safe_dump(values, sort_keys=False))


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
