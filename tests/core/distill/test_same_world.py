"""Teacher and student see the same world: a marked object is in the same cell for both."""

import numpy as np
import pytest
import torch
from small_detector import SMALL, small_lite

from kd3d_core.data.augment import draw_augmentation
from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.batch import Batch, collate
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.object_sampling import ObjectSampler
from kd3d_core.data.samples import FrameSamples
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.window import WindowConfig

WINDOW = WindowConfig((64, 208), "crop", 120.0)
CLASSES = ("Pedestrian", "Cyclist", "Car")
STRONG = AugmentConfig(flip=0.5, rotation=0.6, scale=(0.8, 1.2), image_scale=(0.9, 1.1))
MARKER = np.array([14.0, 4.0, -1.0])


def marked(seed: int, count: int):
    """A `PointSource` of nothing but the marked object, sampled in a way of its own."""

    def points(frame: KittiFrame) -> np.ndarray:
        rng = np.random.default_rng((seed, int(frame.name)))
        xyz = MARKER + rng.uniform(-0.1, 0.1, (count, 3))
        return np.column_stack([xyz, rng.uniform(0, 1, count)]).astype(np.float32)

    return points


PSEUDO, TRUE = marked(1, 200), marked(2, 20)


def peak(maps: tuple[torch.Tensor, ...], background: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Where, in metres, a map differs most from that of an empty street."""
    difference = (maps[0] - background[0]).abs().sum(1)[0]
    height, width = difference.shape
    row, column = divmod(int(difference.argmax()), width)
    x_min, y_min, _, x_max, y_max, _ = SMALL.point_cloud_range
    x = x_min + (column + 0.5) * (x_max - x_min) / width
    return torch.tensor([x, y_min + (row + 0.5) * (y_max - y_min) / height])


def peaks(batch: Batch) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """By place, where the marked object is for the student and for the teacher."""
    detectors = small_lite(0), small_lite(1)
    clouds = (batch.points, batch.samples), (batch.teacher_points, batch.teacher_samples)
    nobody = torch.full((1, 4), 1000.0), torch.zeros(1, dtype=torch.int64)
    both = []
    for detector, cloud in zip(detectors, clouds, strict=True):
        seen, empty = (
            detector.forward_features(*points, batch.images, batch.image_from_lidar)
            for points in (cloud, nobody)
        )
        both.append({p: peak(getattr(seen, p), getattr(empty, p)) for p in ("voxels", "neck")})
    ours, theirs = both
    return {place: (ours[place], theirs[place]) for place in ours}


@pytest.fixture
def frames(write_frame) -> KittiDataset:
    write_frame("000000")
    return KittiDataset(write_frame("000001"))


@torch.no_grad()
@pytest.mark.parametrize("epoch", range(4))
def test_a_marked_object_is_in_the_same_cell_for_both(frames, epoch):
    samples = FrameSamples(frames, WINDOW, PSEUDO, CLASSES, STRONG, 7, teacher_points=TRUE)
    samples.set_epoch(epoch)
    sample = samples[1]
    change = draw_augmentation(STRONG, 7, epoch, 1)
    expected = change.points(torch.from_numpy(MARKER)[None])[0, :2].float()
    for place, (ours, theirs) in peaks(collate([sample])).items():
        # The neck sees two cells of 0.8 m around, and untrained ones favour none of them.
        reach = 0.4 if place == "voxels" else 1.6
        assert (ours - expected).abs().max() < reach, (place, "student")
        assert (theirs - expected).abs().max() < reach, (place, "teacher")


@torch.no_grad()
def test_a_mismatch_would_be_noticed(frames):
    """The same check on two worlds: only the student's is mirrored."""
    mirror = AugmentConfig(flip=1.0, rotation=0.0)
    turned = FrameSamples(frames, WINDOW, PSEUDO, CLASSES, mirror, 7, teacher_points=TRUE)[1]
    plain = FrameSamples(frames, WINDOW, PSEUDO, CLASSES, teacher_points=TRUE)[1]
    batch, other = collate([turned]), collate([plain])
    mixed = Batch(**{**vars(batch), "teacher_points": other.teacher_points})
    for ours, theirs in peaks(mixed).values():
        assert (ours - theirs).abs().max() > 4


def test_a_batch_knows_whose_points_are_whose_and_what_is_known(frames, write_frame):
    write_frame("000002", labels=None)
    write_frame("000003", labels="")
    write_frame("000004", lidar=False)
    frames = KittiDataset(frames.root)

    def true(frame: KittiFrame) -> np.ndarray:
        return TRUE(frame) if "velodyne" in frame.files else np.zeros((0, 4), np.float32)

    samples = FrameSamples(frames, WINDOW, PSEUDO, CLASSES, teacher_points=true)
    samples.set_epoch(3)
    rows = [samples[index] for index in (4, 2, 3)]
    batch = collate(rows).to(torch.device("cpu"))
    assert batch.labelled == (True, False, True)
    assert batch.has_teacher == (False, True, True)
    assert [len(boxes) for boxes in batch.boxes] == [1, 0, 0]
    assert batch.epoch == 3
    for row, sample in enumerate(rows):
        mine = batch.teacher_points[batch.teacher_samples == row]
        assert torch.equal(mine, sample.teacher_points)


def test_objects_are_not_pasted_into_a_world_with_a_teacher(frames):
    sampler = object.__new__(ObjectSampler)
    with pytest.raises(ConfigError, match="sample_objects"):
        FrameSamples(frames, WINDOW, PSEUDO, CLASSES, sampler=sampler, teacher_points=TRUE)
