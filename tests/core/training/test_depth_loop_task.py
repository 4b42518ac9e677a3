"""A student whose depth network learns: from a configuration to a model, interrupted or not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_street import MODEL

from kd3d_core.config import plain
from kd3d_core.data.batch import collate
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.distill.config import DistillConfig, FeatureConfig, TeacherConfig
from kd3d_core.distill.depth_config import LearnDepthConfig
from kd3d_core.distill.schedule import Phase
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.models.config import load_model_config
from kd3d_core.runtime.pipeline import CameraDetector
from kd3d_core.training.config import DataConfig, OptimizerConfig, TrainConfig, make_train_config
from kd3d_core.training.loop import train
from kd3d_core.training.optimizer import parameter_groups
from kd3d_core.training.tasks import make_task

WEIGHTS = {"det": 1.0, "depth_pixels": 1.0, "depth_objects": 1.0, "depth_image": 0.2}


@pytest.fixture
def config(tmp_path, monkeypatch, street, small_model) -> TrainConfig:
    """Four steps of labels and LiDAR, without a teacher."""
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path / "cache"))
    (tmp_path / "some.txt").write_text("000001\n000002\n000003\n000004\n")
    return TrainConfig(
        task="distill",
        model=str(small_model),
        points="pseudo",
        data=DataConfig(str(street), train=str(tmp_path / "some.txt"), val="some.txt"),
        out=str(tmp_path / "run"),
        epochs=2,
        batch_size=2,
        workers=0,
        precision="fp32",
        optimizer=OptimizerConfig(lr=1e-3, ema=0.5),
        distill=DistillConfig((Phase(2, WEIGHTS),), start="model", learn_depth=LearnDepthConfig()),
        validate_every=2,
    )


@pytest.fixture(autouse=True)
def lists(street):
    """Frames to validate on: one is enough."""
    (street / "some.txt").write_text("000001\n")


def test_both_networks_learn_are_validated_and_exported(config, street):
    task = make_task(config)
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    asked = []
    detect = task._val.detect

    def watched(detector, device, points):
        asked.append(points(KittiDataset(street).frame("000001")))
        return detect(detector, device, points)

    task._val.detect = watched
    summary = train(config, task)
    assert {name.split("_")[0] for name in summary.losses} == {"det", "depth"}
    assert all(np.isfinite(value) for value in summary.losses.values())
    after = task.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(before[name], value)}
    prefix = "depth.network.network."
    assert any(name.startswith(f"{prefix}decoder") for name in changed)
    assert any(name.startswith(f"{prefix}head") for name in changed)
    assert any(name.startswith("student") for name in changed)
    assert not any(name.startswith(f"{prefix}glpn") for name in changed)
    assert not any("decoder" in name and "running" in name for name in changed)

    # Exported is the average, which was validated, with the points that its depth makes.
    stored = load_file(Path(config.out) / "best" / "model.safetensors")
    exported = load_file(Path(config.out) / "depth" / "model.safetensors")
    assert exported.keys() == {n.removeprefix(prefix) for n in stored if n.startswith(prefix)}
    assert all(torch.equal(value, stored[prefix + name]) for name, value in exported.items())
    name = "head.head.2.weight"
    assert not torch.equal(exported[name], before[prefix + name])
    model = load_model_config(Path(config.out) / "model.yaml")
    assert model.depth.weights == str(Path(config.out).resolve() / "depth")
    assert model.card.depth.trained_on == model.card.detector.trained_on != "not known"
    frame = KittiDataset(street).frame("000001")
    found = CameraDetector.from_config(Path(config.out) / "model.yaml", "cpu")(
        frame.image(), frame.camera()
    )
    np.testing.assert_allclose(found.points, asked[-1], rtol=1e-6)


def test_interrupted_it_ends_bit_for_bit_the_same(config):
    settings = replace(config.distill, learn_depth=LearnDepthConfig(anneal=0.6))
    whole = replace(config, out=f"{config.out}_whole", distill=settings)
    parts = replace(config, distill=settings, checkpoint_every=1)
    first = make_task(whole)
    ended = train(whole, first)
    train(parts, make_task(parts), max_steps=3)
    second = make_task(parts)
    assert train(parts, second).losses == ended.losses
    theirs = second.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in first.model.state_dict().items())


def test_the_depth_network_has_a_pace_of_its_own(config):
    settings = replace(config.distill, learn_depth=LearnDepthConfig(lr_factor=0.25, clip=0.5))
    task = make_task(replace(config, distill=settings))
    groups = parameter_groups(task.model, config.optimizer, task.paces)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    learning = {n: p for n, p in task.model.named_parameters() if p.requires_grad}
    assert rates.keys() == {id(p) for p in learning.values()}
    for name, parameter in learning.items():
        expected = 0.25e-3 if name.startswith("depth.") else 1e-3
        assert rates[id(parameter)] == pytest.approx(expected)
    assert {name for name in learning if name.startswith("depth.")}


def test_pixels_are_drawn_anew_in_each_epoch_and_the_same_again(config):
    task = make_task(config)

    def pixels(epoch: int) -> torch.Tensor:
        task.samples.set_epoch(epoch)
        return task.samples[1].view.pixels

    first = pixels(0)
    assert not torch.equal(pixels(1), first)
    assert torch.equal(pixels(0), first)
    assert len(first) == round(0.2 * 64 * 192)
    assert len(first.unique()) == len(first)


def test_the_control_knows_objects_by_their_boxes_alone(config, tmp_path, street):
    """Labels of frames that have no LiDAR; validated as any."""
    blind = tmp_path / "blind" / "training"
    for part in ("image_2", "calib", "label_2"):
        (blind / part).parent.mkdir(parents=True, exist_ok=True)
        (blind / part).symlink_to(street / "training" / part)
    weights = {"det": 1.0, "depth_pixels": 1.0, "depth_objects": 1.0}
    settings = DistillConfig(
        (Phase(2, weights),), start="model", learn_depth=LearnDepthConfig(truth="boxes")
    )
    data = replace(config.data, root=str(blind.parent), val="some.txt", val_root=str(street))
    blind_config = replace(config, data=data, distill=settings)
    losses = train(blind_config, make_task(blind_config), max_steps=1).losses
    assert losses["depth_objects_shift"] > 0
    assert losses["depth_pixels_l1"] > 0


class TestAssistant:
    def test_it_learns_from_true_depth_and_teaches(self, config):
        of_true_depth = replace(
            config, task="detector", points="true_depth", distill=None, epochs=1,
            out=f"{config.out}_assistant",
        )  # fmt: skip
        assert train(of_true_depth, make_task(of_true_depth)).steps == 2
        settings = replace(
            config.distill,
            phases=(Phase(2, {**WEIGHTS, "feat": 1.0, "logit": 1.0}),),
            feature=FeatureConfig(
                ("voxels", "backbone"), levels=1, project=False, scale="rms", fade_m=1.0, empty=0.05
            ),
            start="teacher",
            learn_depth=LearnDepthConfig(anneal=0.4),
        )
        teacher = TeacherConfig(f"{config.out}_assistant/model.yaml", points="true_depth")
        taught = replace(config, teacher=teacher, distill=settings)
        task = make_task(taught)
        student, assistant = task.model.student.network, task.model.teacher.detector.network
        theirs = assistant.state_dict()
        assert all(torch.equal(v, theirs[name]) for name, v in student.state_dict().items())
        losses = train(taught, task).losses
        assert {name.split("_")[0] for name in losses} == {"det", "depth", "feat", "logit"}
        assert all(np.isfinite(value) for value in losses.values())

    def test_frozen_depth_can_be_taught_too(self, config):
        """The assistant's points then are those of the pixels that pseudo-LiDAR always keeps."""
        settings = replace(
            config.distill, phases=(Phase(2, {"det": 1.0, "feat": 1.0}),), learn_depth=None
        )
        taught = replace(
            config, distill=settings, teacher=TeacherConfig(config.model, points="true_depth")
        )
        task = make_task(taught)
        batch = collate([task.samples[0], task.samples[1]])
        assert 0 < len(batch.teacher_points) < len(batch.points)
        assert all(torch.isfinite(value) for value in task.model(batch).values())


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"points": "lidar"}, "learn_depth needs points: pseudo"),
            ({"teacher": {"model": "lite", "points": "pseudo"}}, "teacher.points be lidar or true"),
            ({"augment": {"image_scale": [0.9, 1.1]}}, "a zoom changes what is metric"),
            ({"distill": {"start": "model"}}, "task distill needs a teacher"),
            ({"distill": {"phases": [{"until_epoch": 1}]}}, "task distill needs a teacher"),
        ],
    )
    def test_settings_that_contradict_each_other(self, config, changes, reason):
        with pytest.raises(ConfigError, match=reason) as caught:
            make_train_config({**plain(config), **changes}, "run.yaml")
        assert "\n" not in str(caught.value)

    def test_a_model_without_depth(self, config, tmp_path):
        path = tmp_path / "lidar.yaml"
        path.write_text(
            yaml.safe_dump({"type": "lidar", "detector": {**MODEL["detector"], "type": "second"}})
        )
        with pytest.raises(ConfigError, match="makes no pseudo-LiDAR"):
            make_task(replace(config, model=str(path)))

    def test_frames_that_teach_nothing_without_a_teacher(self, config, tmp_path, street):
        root = tmp_path / "unlabelled" / "training"
        root.mkdir(parents=True)
        for part in ("image_2", "calib", "velodyne"):
            (root / part).symlink_to(street / "training" / part)
        data = replace(config.data, root=str(root.parent), val=None, val_root=str(street))
        weights = {"det": 1.0, "depth_objects": 1.0}
        settings = replace(config.distill, phases=(Phase(2, weights),))
        with pytest.raises(DataError, match="none of the 4 frames has labels"):
            make_task(replace(config, data=data, distill=settings))
        assert len(make_task(replace(config, data=data)).samples) == 4  # LiDAR teaches their depth
