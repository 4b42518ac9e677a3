"""A run is gone on with only as what it was."""

import json
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from noise_task import Frames, Noise, config

from kd3d_core.cli import train as command
from kd3d_core.config import plain
from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.distill.config import TeacherConfig
from kd3d_core.errors import ConfigError
from kd3d_core.training.config import OptimizerConfig
from kd3d_core.training.loop import train


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epochs": 8}, "epochs is 8 and was 4"),
        ({"optimizer": OptimizerConfig(lr=1e-3, ema=0.9)}, "optimizer.lr is 0.001 and was 0.01"),
        ({"model": "mvxnet_kitti"}, "model is mvxnet_kitti and was lite"),
        ({"augment": AugmentConfig()}, "augment.flip is 0.5 and was None"),
        ({"seed": 6, "epochs": 8, "batch_size": 5, "points": "pseudo"}, "and 1 more"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path, changes, named):
    train(config(tmp_path), Noise())
    before = (tmp_path / "latest" / "meta.json").read_bytes()
    with pytest.raises(ConfigError) as caught:
        train(config(tmp_path, **changes), Noise())
    message = str(caught.value)
    assert named in message
    assert f"{tmp_path}/model.yaml" in message
    assert "\n" not in message
    assert (tmp_path / "latest" / "meta.json").read_bytes() == before


def test_other_settings_are_refused_before_anything_is_loaded(tmp_path, monkeypatch, capsys):
    train(config(tmp_path), Noise())
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(plain(config(tmp_path, epochs=8))))
    loaded = []
    monkeypatch.setattr("kd3d_core.training.tasks.make_task", loaded.append)
    monkeypatch.setattr(sys, "argv", ["kd3d-train", str(file)])
    assert command.main() == 1
    assert "epochs is 8 and was 4" in capsys.readouterr().err
    assert not loaded


def test_other_frames_are_refused(tmp_path):
    class More(Frames):
        def __len__(self) -> int:
            return 12

    train(config(tmp_path), Noise())
    task = Noise()
    task.samples = More()
    with pytest.raises(ConfigError, match="number of frames is 12 and was 10"):
        train(config(tmp_path), task)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("teacher", r"the teacher teacher\.pth has other weights than it had"),
        ("points", r"the depth network of lite or its settings aren't those of before"),
        ("model", r"lite has other settings than it had"),
    ],
)
def test_what_no_setting_tells_is_compared_too(tmp_path, name, text):
    taught = config(tmp_path, task="distill", teacher=TeacherConfig("demo", "teacher.pth"))
    task = Noise()
    task.digests = {"other": "same", name: "first"}
    train(taught, task)
    assert train(taught, task).steps == 16
    task.digests = {"other": "same", name: "second"}
    with pytest.raises(ConfigError, match=text):
        train(taught, task)
    path = tmp_path / "latest" / "meta.json"
    meta = json.loads(path.read_text())
    del meta["digests"]  # as in runs of before
    path.write_text(json.dumps(meta))
    assert train(taught, task).steps == 16
    path.write_text(json.dumps({**meta, "teacher_sha256": "first"}))
    if name == "teacher":
        with pytest.raises(ConfigError, match=text):
            train(taught, task)


def test_what_does_not_touch_the_result_may_change(tmp_path, monkeypatch):
    whole = train(config(tmp_path / "whole"), Noise())
    train(config(tmp_path / "parts"), Noise(), max_steps=6)
    moved = tmp_path / "moved"
    (tmp_path / "parts").rename(moved)
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    rest = train(config(moved, workers=1, checkpoint_every=5, threads=3), Noise())
    assert asked == [3]
    assert (rest.steps, rest.losses, rest.metrics) == (16, whole.losses, whole.metrics)


def test_a_finished_run_still_knows_its_metrics(tmp_path):
    first = train(config(tmp_path), Noise())
    assert train(config(tmp_path), Noise()).metrics == first.metrics


def test_a_setting_that_is_new_since_the_run_began_has_its_default(tmp_path):
    train(config(tmp_path), Noise())
    path = tmp_path / "latest" / "meta.json"
    meta = json.loads(path.read_text())
    del meta["config"]["sync_norms"]
    path.write_text(json.dumps(meta))
    assert train(config(tmp_path), Noise()).steps == 16
    with pytest.raises(ConfigError, match="sync_norms is False and was True"):
        train(replace(config(tmp_path), sync_norms=False), Noise())
