"""Which frames a run trains and validates on."""

import shutil

import pytest

from kd3d_core.data.kitti import KittiDataset
from kd3d_core.distill.config import DistillConfig
from kd3d_core.distill.schedule import Phase
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.training.config import DataConfig, ExtraDataConfig
from kd3d_core.training.data import (
    TrainingSet,
    frames_with_lidar,
    frames_without_teacher,
    run_data,
    warn_of_shared_frames,
)

NAMES = tuple(f"{index:06d}" for index in range(6))


def names(frames: KittiDataset) -> tuple[str, ...]:
    return tuple(frames.names)


@pytest.fixture
def lists(street, tmp_path):
    """Files with names of frames."""
    for name, frames in (("some", NAMES[:3]), ("other", NAMES[2:5])):
        (tmp_path / name).write_text("\n".join(frames))
    return {name: str(tmp_path / name) for name in ("some", "other")}


def test_a_share_of_the_frames_is_held_back(street, caplog):
    config = DataConfig(str(street), val_share=0.34)
    data = run_data(config)
    train, val = names(data.train[0].frames), names(data.val)
    assert len(val) == 2
    assert sorted(train + val) == list(NAMES)
    assert names(run_data(config).val) == val
    warn_of_shared_frames(data)
    assert not caplog.records


def test_a_share_is_of_the_frames_that_are_listed_and_a_list_outranks_it(street, lists):
    data = run_data(DataConfig(str(street), train=lists["some"], val_share=0.34))
    held_back = names(data.train[0].frames) + names(data.val)
    assert sorted(held_back) == list(NAMES[:3])
    listed = DataConfig(str(street), train=lists["some"], val=lists["other"], val_share=0.34)
    data = run_data(listed)
    assert (names(data.train[0].frames), names(data.val)) == (NAMES[:3], NAMES[2:5])


def test_frames_of_both_are_named(street, lists, tmp_path, caplog):
    warn_of_shared_frames(run_data(DataConfig(str(street))))
    assert "6 of 6 frames to validate on are trained on as well" in caplog.text
    caplog.clear()
    config = DataConfig(str(street), train=lists["some"], val=lists["other"])
    warn_of_shared_frames(run_data(config))
    assert "1 of 3 frames to validate on are trained on as well" in caplog.text
    caplog.clear()
    # Frames of another folder are others, whatever they are called.
    shutil.copytree(street, tmp_path / "elsewhere")
    data = run_data(DataConfig(str(street), val_root=str(tmp_path / "elsewhere")))
    assert names(data.val) == NAMES
    warn_of_shared_frames(data)
    assert not caplog.records


def test_sets_beside_the_main_one_have_shares(street, lists):
    extra = ExtraDataConfig(str(street), 0.25, train=lists["other"], use_labels=False)
    data = run_data(DataConfig(str(street), train=lists["some"], extra=(extra,)))
    assert data.shares == [0.25]
    assert [names(part.frames) for part in data.train] == [NAMES[:3], NAMES[2:5]]
    assert [part.use_labels for part in data.train] == [True, False]
    assert [names(frames) for frames in data.all_frames] == [NAMES[:3], NAMES[2:5], NAMES[:3]]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_must_leave_frames_to_train_on(share):
    with pytest.raises(ConfigError, match=r"data\.val_share is .*: give 0 or more, below 1"):
        DataConfig("street", val_share=share)


def without(street, folder, part, count):
    """A copy of the street whose first frames lack a part."""
    shutil.copytree(street, folder)
    for path in sorted((folder / "training" / part).iterdir())[:count]:
        path.unlink()
    return KittiDataset(folder)


def test_validation_is_on_the_frames_that_have_lidar(street, tmp_path):
    assert names(frames_with_lidar(without(street, tmp_path / "some", "velodyne", 2))) == NAMES[2:]
    with pytest.raises(DataError, match="none of the 6 frames to validate on has labels or LiDAR"):
        frames_with_lidar(without(street, tmp_path / "none", "velodyne", 6))


def test_without_a_teacher_labels_teach_and_lidar_if_depth_is_learnt(street, tmp_path, caplog):
    labels = DistillConfig((Phase(1, {"det": 1.0}),))
    depth = DistillConfig((Phase(1, {"det": 1.0, "bins": 1.0}),))
    part = TrainingSet(without(street, tmp_path / "some", "label_2", 2))
    assert names(frames_without_teacher(part, labels)) == NAMES[2:]
    assert "2 of 6 frames teach nothing without a teacher and are skipped (first: 000000)" in (
        caplog.text
    )
    assert names(frames_without_teacher(part, depth)) == NAMES
    part.frames.frame("000001").files["velodyne"].unlink()
    part = TrainingSet(KittiDataset(part.frames.root))
    assert names(frames_without_teacher(part, depth)) == ("000000", *NAMES[2:])
    with pytest.raises(DataError, match="none of the 6 frames has labels: without a teacher"):
        frames_without_teacher(TrainingSet(part.frames, use_labels=False), labels)
