"""Both tasks from configuration to weights that `CameraDetector` loads, on a small street."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kd3d_core.cli import train as command
from kd3d_core.data.batch import Batch
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.errors import DataError
from kd3d_core.models.config import load_model_config, save_model_config
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.training.config import (
    DataConfig,
    ExtraDataConfig,
    OptimizerConfig,
    TrainConfig,
)
from kd3d_core.training.detector_task import DetectorLosses
from kd3d_core.training.loop import TrainingError, train
from kd3d_core.training.tasks import make_task


@pytest.fixture
def config(tmp_path, monkeypatch, street, small_model) -> TrainConfig:
    """Twelve steps on two frames, with a cache of the test's own."""
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    (tmp_path / "two.txt").write_text("000001\n000003\n")
    return TrainConfig(
        task="detector",
        model=str(small_model),
        data=DataConfig(root=str(street), train=str(tmp_path / "two.txt")),
        out=str(tmp_path / "run"),
        epochs=12,
        batch_size=2,
        workers=0,
        precision="fp32",
        optimizer=OptimizerConfig(lr=2e-3),
        validate_every=12,
    )


def losses_at(config: TrainConfig, steps: int) -> float:
    first = replace(config, out=f"{config.out}_{steps}")
    return sum(train(first, make_task(first), max_steps=steps).losses.values())


def test_depth_learns_and_its_weights_load(config, street):
    config = replace(config, task="depth")
    before = losses_at(config, 1)
    summary = train(config, make_task(config))
    assert summary.losses["silog"] < 0.7 * before
    assert {"abs_rel", "rmse", "silog"} <= summary.metrics.keys()
    assert all(np.isfinite(value) for value in summary.metrics.values())

    detector = CameraDetector.from_config(Path(config.out) / "model.yaml", "cpu")
    frame = KittiDataset(street).frame("000001")
    answer = detector(frame.image(), frame.camera())
    assert answer.depth is not None
    # One image, the median of what LiDAR says and what the network, as exported, says.
    truth = float(np.median(frame.points_in_view()[:, 0]))
    assert 0.4 * truth < float(answer.depth.median()) < 2.5 * truth


def test_every_batch_has_frames_of_each_set(config, street, tmp_path):
    (tmp_path / "others.txt").write_text("000002\n000004\n000005\n")
    extra = ExtraDataConfig(str(street), 0.75, str(tmp_path / "others.txt"))
    data = replace(config.data, extra=(extra,), mix="batch")
    config = replace(config, task="depth", data=data, batch_size=4, epochs=3)
    task = make_task(config)
    seen = []
    task.model.register_forward_pre_hook(lambda _, given: seen.append(given[0].names))
    train(config, task, max_steps=5)
    assert len(seen) == 5
    for names in seen:
        assert sum(name in ("000001", "000003") for name in names) == 1
        assert {"000002", "000004", "000005"} <= set(names)
    assert {name for names in seen[:2] for name in names} >= {"000001", "000003"}


def test_depth_can_begin_at_half_the_resolution(config, tmp_path):
    model = load_model_config(config.model)
    whole = replace(model.depth.window, mode="letterbox")
    path = tmp_path / "letterbox.yaml"
    save_model_config(replace(model, depth=replace(model.depth, window=whole)), path)
    config = replace(config, task="depth", model=str(path), window_scale=0.5, epochs=1)
    task = make_task(config)
    assert task.samples[0].image.shape[1:] == tuple(side // 2 for side in whole.size)
    train(config, task)
    exported = load_model_config(Path(config.out) / "model.yaml")
    assert exported.depth.window == whole
    assert exported.card.depth is not None
    assert exported.card.depth.trained_on == f"2 frames of {Path(config.data.root).name}"
    assert exported.card.detector is None


def test_a_detector_learns_from_pseudo_lidar_and_its_weights_load(config, tmp_path):
    optimizer = OptimizerConfig(lr=4e-3)
    config = replace(config, points="pseudo", optimizer=optimizer, epochs=16, validate_every=16)
    before = losses_at(config, 1)
    clouds = list((tmp_path / "cache").rglob("*.npy"))
    assert len(clouds) == 2
    made = {path: path.stat().st_mtime_ns for path in clouds}
    task = make_task(config)
    batch = task.samples[0]
    assert any(np.array_equal(batch.points, np.load(path)) for path in clouds)

    summary = train(config, task)
    assert sum(summary.losses.values()) < 0.985 * before
    assert {path: path.stat().st_mtime_ns for path in clouds} == made
    assert {"mAP_3d_moderate", "Car_3d", "Car_bev"} <= summary.metrics.keys()

    assert CameraDetector.from_config(Path(config.out) / "model.yaml", "cpu").class_names
    trained = task.model.detector.network.state_dict()
    loaded = load_file(Path(config.out) / "detector.safetensors")
    assert loaded.keys() == trained.keys()
    for name, value in loaded.items():
        assert torch.equal(value, trained[name]), name


def test_a_detector_is_exported_with_the_thresholds_of_its_validation(config, monkeypatch):
    task = make_task(config)
    frames = KittiDataset(config.data.root, ["000001", "000003"])
    found = {
        frame.name: [replace(label, score=0.6) for label in frame.ground_truth()]
        for frame in frames
    }
    monkeypatch.setattr(task, "detect", lambda *_: found)
    task.validate(task.model, torch.device("cpu"))
    task.export(task.model, Path(config.out))
    card = load_model_config(Path(config.out) / "model.yaml").card
    assert card.score_thresholds["Car"] == 0.01
    assert card.thresholds_from == f"best F1 at loose 3D IoU, {len(frames)} frames with labels"
    assert card.detector is not None
    assert card.detector.camera is not None


def test_frames_without_objects_are_reported(config, caplog):
    config = replace(config, data=replace(config.data, train=None))
    with caplog.at_level("INFO"):
        make_task(config)
    assert "1 of 6 labelled frames have no object of the classes (first: 000005)" in caplog.text
    assert "12 Car" in caplog.text


def test_a_data_set_without_any_object_is_refused(config, street, tmp_path):
    shutil.copytree(street, tmp_path / "empty")
    for path in (tmp_path / "empty" / "training" / "label_2").iterdir():
        path.write_text("")
    config = replace(config, data=DataConfig(root=str(tmp_path / "empty")))
    with pytest.raises(DataError, match="none of the 6 frames has a Pedestrian, Cyclist, Car"):
        make_task(config)


def test_objects_that_cannot_be_learnt_are_counted_and_named(config, street, tmp_path, caplog):
    shutil.copytree(street, tmp_path / "mixed")
    config = replace(config, data=replace(config.data, root=str(tmp_path / "mixed")))
    caplog.set_level("INFO")
    before = make_task(config).samples[0]
    assert not any("left out" in message for message in caplog.messages)
    path = tmp_path / "mixed" / "training" / "label_2" / "000001.txt"
    flat = "Car 0 0 0 10 10 20 20 0 0 0 0 0 0 0\n"
    bus = "bus 0 0 0 10 10 20 20 3 3 9 2 1.6 20 0\n"
    path.write_text(flat + path.read_text().lower() + bus + "dontcare" + flat[3:])
    after = make_task(config).samples[0]
    assert "objects that are left out: 1 without a 3D box, 1 of class 'bus'" in caplog.messages
    np.testing.assert_array_equal(after.boxes, before.boxes)
    np.testing.assert_array_equal(after.labels, before.labels)
    path.write_text(flat)
    (path.parent / "000003.txt").write_text(bus)
    with pytest.raises(DataError, match=r"nothing to learn \(left out: 1 without .*, 1 of class"):
        make_task(config)


def test_a_loss_that_is_not_finite_names_the_frames_and_leaves_no_weights(config):
    class Breaks(DetectorLosses):
        def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
            losses = super().forward(batch)
            return {**losses, "cls": losses["cls"] / losses["cls"].detach().mul(0)}

    task = make_task(config)
    task.model = Breaks(task.model.detector)
    with pytest.raises(TrainingError, match=r"step 0: cls is not finite for .*00000[13]") as caught:
        train(config, task)
    assert "00000" in str(caught.value).split("frames")[1]
    assert not (Path(config.out) / "latest").exists()


@pytest.mark.parametrize("task", ["task: depth", "task: detector\npoints: pseudo"])
def test_a_dry_run_takes_a_step_and_writes_nothing(
    config, street, small_model, tmp_path, monkeypatch, capsys, task
):
    path = tmp_path / "run.yaml"
    path.write_text(
        f"{task}\nmodel: {small_model}\nout: {config.out}\nworkers: 1\n"
        f"precision: fp32\ndata: {{root: {street}}}\n"
    )
    before = _files(tmp_path) | _files(street)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kd3d-train", str(path), "--dry-run"])
    assert command.main() == 0
    said = capsys.readouterr().out
    assert said.startswith("6 frames; one step gives ")
    assert said.rstrip().endswith("nothing was written")
    assert _files(tmp_path) | _files(street) == before


def test_a_list_of_frames_may_lie_in_the_data(config, street, tmp_path, monkeypatch):
    shutil.copytree(street, tmp_path / "kitti")
    (tmp_path / "kitti" / "ImageSets").mkdir()
    (tmp_path / "kitti" / "ImageSets" / "train.txt").write_text("000002\n")
    data = DataConfig(root=str(tmp_path / "kitti"), train="ImageSets/train.txt")
    monkeypatch.chdir(tmp_path)
    assert [sample.name for sample in make_task(replace(config, data=data)).samples] == ["000002"]
    (tmp_path / "ImageSets").mkdir()
    (tmp_path / "ImageSets" / "train.txt").write_text("000001\n000003\n")
    assert len(make_task(replace(config, data=data)).samples) == 1
    (tmp_path / "kitti" / "ImageSets" / "train.txt").unlink()
    assert len(make_task(replace(config, data=data)).samples) == 2
    (tmp_path / "ImageSets" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"^data\.train: .*kitti/ImageSets/train\.txt: cannot"):
        make_task(replace(config, data=data))


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("label_2", {}),
        ("calib", {"points": "pseudo"}),
        ("velodyne", {}),
        ("velodyne", {"task": "depth"}),
    ],
)
def test_what_validation_needs_is_asked_for_first(
    config, street, tmp_path, monkeypatch, part, changes
):
    """Before pseudo-LiDAR is made, which may take hours."""
    shutil.copytree(street, tmp_path / "val")
    (tmp_path / "val" / "training" / part / "000002").with_suffix(
        ".bin" if part == "velodyne" else ".txt"
    ).unlink()
    config = replace(config, data=replace(config.data, val_root=str(tmp_path / "val")), **changes)
    with pytest.raises(DataError, match=f"{part}.* is missing for 1 of 6 frames .first: 000002"):
        make_task(config)
    assert not (tmp_path / "cache").exists()


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            status = os.stat(os.path.join(root, name))
            found[os.path.join(root, name)] = (status.st_size, status.st_mtime_ns)
    return found
