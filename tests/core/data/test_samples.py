"""Samples, batches and cached pseudo-LiDAR, on real frames."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from kd3d_core.data.augment import draw_augmentation, turned_view
from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.batch import collate
from kd3d_core.data.depth_view import ViewConfig
from kd3d_core.data.frame_inputs import windowed
from kd3d_core.data.kitti import KittiFrame
from kd3d_core.data.mixed_samples import MixedSamples
from kd3d_core.data.pseudo_cache import PseudoLidarCache
from kd3d_core.data.samples import FrameSamples
from kd3d_core.depth.config import DepthConfig
from kd3d_core.depth.glpn import random_glpn
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.geometry.boxes import points_in_boxes
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.cloud import PseudoLidar
from kd3d_core.models.config import PseudoLidarConfig

WINDOW = WindowConfig((192, 640), "crop", 372.0)
CLASSES = ("Pedestrian", "Cyclist", "Car")


def project(points: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    homogeneous = points[:, :3] @ matrix[:, :3].T + matrix[:, 3]
    return homogeneous[:, :2] / homogeneous[:, 2:]


@pytest.mark.parametrize("augment", [None, AugmentConfig(0.5, 0.7, (0.9, 1.1), (0.9, 1.1))])
def test_points_boxes_and_image_belong_together(tracking, augment):
    samples = FrameSamples(tracking, WINDOW, KittiFrame.points_in_view, CLASSES, augment)
    for index in (0, 10):
        sample = samples[index]
        assert sample.image.shape == (3, 192, 640)
        assert len(sample.boxes) == len(sample.labels) > 3
        assert (sample.labels == 2).all()
        assert points_in_boxes(sample.points, sample.boxes).any(0).all()
        pixels = project(sample.points, sample.image_from_lidar)
        margin = 80 if augment else 1.5  # a zoomed image shows less
        assert (pixels > -margin).all()
        assert (pixels < torch.tensor([640, 192]) + margin).all()


def test_the_same_sample_comes_again_and_another_in_the_next_epoch(tracking):
    samples = FrameSamples(
        tracking, WINDOW, KittiFrame.points_in_view, CLASSES, AugmentConfig(), seed=4
    )
    first = samples[3]
    assert torch.equal(first.points, samples[3].points)
    samples.set_epoch(1)
    assert not torch.equal(first.points, samples[3].points)
    samples.set_epoch(0)
    assert torch.equal(first.image, samples[3].image)


def test_depth_samples_hold_what_the_lidar_saw_where_it_saw_it(tracking):
    plain = FrameSamples(tracking, WINDOW, depth=True)[0]
    known = plain.depth > 0
    assert 3000 < known.sum() < 40_000
    assert plain.depth[known].min() > 1
    flipped = FrameSamples(
        tracking, WINDOW, augment=AugmentConfig(1, 0, (1, 1), (1, 1), 0, 0, 0), depth=True
    )[0]
    assert torch.equal(flipped.depth, plain.depth.flip(-1))
    assert torch.equal(flipped.image, plain.image.flip(-1))
    with pytest.raises(ConfigError, match="image_scale"):
        FrameSamples(tracking, WINDOW, augment=AugmentConfig(image_scale=(0.9, 1.1)), depth=True)


def test_true_depth_lies_where_a_turned_camera_sees_it(tracking):
    augment = AugmentConfig(0, 0, (1, 1), (1, 1), 0, 0, 0, pitch=0.05, roll=0.03)
    samples = FrameSamples(
        tracking, WINDOW, KittiFrame.points_in_view, augment=augment, seed=1, depth=True
    )
    sample = samples[0]
    pixels = project(sample.points, sample.image_from_lidar).round().long()
    inside = ((pixels >= 0) & (pixels < torch.tensor([640, 192]))).all(1)
    columns, rows = pixels[inside].T
    x = torch.cat([sample.points[inside][:, :3], torch.ones(int(inside.sum()), 1)], 1)
    measured = (x @ sample.image_from_lidar.T)[:, 2]
    known = sample.depth[rows, columns] > 0
    assert 0.8 < known.float().mean() < 1  # what only the mirrored border shows has none
    # Of several points in a pixel the nearest counts.
    nearer = (sample.depth[rows, columns] / measured)[known]
    assert nearer.max() < 1.001
    assert nearer.median() > 0.999
    unturned = FrameSamples(tracking, WINDOW, depth=True)[0].depth
    assert (sample.depth.sum(1) - unturned.sum(1)).abs().max() > 100


def test_boxes_stay_where_they_are_when_the_camera_turns(tracking):
    augment = AugmentConfig(0, 0, (1, 1), (1, 1), 0, 0, 0, pitch=0.2, roll=0.1)
    plain, turned = (
        FrameSamples(tracking, WINDOW, KittiFrame.points_in_view, CLASSES, change, seed=2)[0]
        for change in (None, augment)
    )
    assert torch.equal(turned.points, plain.points)
    torch.testing.assert_close(turned.boxes, plain.boxes, atol=1e-4, rtol=0)
    assert not torch.equal(turned.image_from_lidar, plain.image_from_lidar)


PADDED = WindowConfig((288, 960), "crop", 372.0)


@pytest.mark.parametrize("window", [WINDOW, WindowConfig((96, 320), "crop", 186.0), PADDED])
def test_a_depth_network_that_learns_sees_what_the_turned_camera_does(tracking, window):
    augment = AugmentConfig(0, 0, (1, 1), (1, 1), 0, 0, 0, pitch=0.2, roll=0.1)
    own = FrameSamples(tracking, window, augment=augment, seed=2, depth=True)[0]
    view = FrameSamples(
        tracking, WINDOW, augment=augment, seed=2, view=ViewConfig(window, 0.1, 1.0)
    )[0].view
    assert torch.equal(view.images, own.image)
    assert torch.equal(view.image_from_lidar, own.image_from_lidar)
    assert torch.equal(view.lidar, own.depth)
    assert len(view.pixels) == round(0.1 * window.size[0] * window.size[1])
    change = draw_augmentation(augment, 2, 0, 0)
    image, camera, shown = windowed(tracking[0], window)
    assert shown.all() == (window is not PADDED)
    _, _, seen = turned_view(image, camera, shown, change)
    assert not seen.all()
    assert torch.equal(view.seen, torch.from_numpy(seen)), "points are made of what isn't seen"
    assert not view.lidar[~view.seen].any()
    mirrored = FrameSamples(
        tracking, WINDOW, augment=replace(augment, flip=1.0), seed=2,
        view=ViewConfig(window, 0.1, 1.0),
    )[0].view  # fmt: skip
    for name in ("images", "lidar", "dense", "seen"):
        assert torch.equal(getattr(mirrored, name), getattr(view, name).flip(-1))


def test_a_loader_pins_all_of_a_batch(tracking, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self + 0)
    samples = FrameSamples(
        tracking, WINDOW, KittiFrame.points_in_view, CLASSES,
        teacher_points=KittiFrame.points_in_view,
        teacher_answers=lambda frame: {"neck": torch.ones(3)},
    )  # fmt: skip
    batch = collate([samples[0], samples[5]])
    again = pin_memory(batch)  # what DataLoader does with what it loads
    assert len(pinned) == 9 + 2  # boxes and labels of two frames
    assert again.names == batch.names
    assert torch.equal(again.images, batch.images)
    assert again.teacher_answers["neck"].lengths == (3, 3)


def test_a_batch_knows_whose_points_are_whose(tracking):
    samples = FrameSamples(tracking, WINDOW, KittiFrame.points_in_view, CLASSES)
    pair = [samples[0], samples[5]]
    batch = collate(pair).to(torch.device("cpu"))
    for index, sample in enumerate(pair):
        assert torch.equal(batch.points[batch.samples == index], sample.points)
        assert torch.equal(batch.boxes[index], sample.boxes)
        assert batch.names[index] == sample.name
    assert batch.depth is None


class TestMixtures:
    def test_each_set_has_its_share_and_all_of_it_comes(self, tracking):
        sets = [
            FrameSamples(tracking.subset(tracking.names[:2]), WINDOW),
            FrameSamples(tracking.subset(tracking.names[10:15]), WINDOW),
        ]
        mixed = MixedSamples(sets, [2, 3], seed=1)
        assert len(mixed) == 5
        epochs = []
        for epoch in range(5):
            mixed.set_epoch(epoch)
            epochs.append([mixed[index].name for index in range(5)])
            assert set(epochs[-1][:2]) == set(tracking.names[:2])
        others = [name for names in epochs for name in names[2:]]
        for passed in range(3):
            assert set(others[5 * passed : 5 * passed + 5]) == set(tracking.names[10:15])
        assert others[:5] != others[5:10]
        again = MixedSamples(sets, [2, 3], seed=1)
        again.set_epoch(3)
        assert [again[index].name for index in range(5)] == epochs[3]

    def test_a_frame_that_comes_again_in_an_epoch_is_changed_in_another_way(self, tracking):
        one = tracking.subset(tracking.names[:1])
        sets = [
            FrameSamples(one, WINDOW, KittiFrame.points_in_view, augment=AugmentConfig(), seed=3)
            for _ in range(2)
        ]
        mixed = MixedSamples(sets, [1, 3], seed=1)
        mixed.set_epoch(1)
        main, *others = (mixed[index] for index in range(4))
        seen = {tuple(sample.points[0].tolist()) for sample in others}
        assert len(seen) == 3
        sets[0].set_epoch(1)
        assert torch.equal(main.points, sets[0][0].points)
        assert {sample.epoch for sample in (main, *others)} == {1}


class TestPseudoLidarCache:
    SMALL = WindowConfig((64, 192), "crop", 110.0)
    CONFIG = DepthConfig("random", SMALL, encoder="b0")
    SETTINGS = PseudoLidarConfig(keep_fraction=0.2, max_jump=0.0)
    CPU = torch.device("cpu")

    def cache(self, folder, seed=0, config=CONFIG, settings=SETTINGS, precision="fp32"):
        network = random_glpn(self.CONFIG, seed)
        return PseudoLidarCache(folder, PseudoLidar(network, config, settings, precision))

    @pytest.fixture
    def two(self, tracking):
        return tracking.subset(tracking.names[:2])

    def test_a_second_filling_makes_nothing_and_gives_the_same(self, two, tmp_path):
        cache = self.cache(tmp_path)
        assert cache.fill(two, self.CPU) == 2
        clouds = [cache(frame) for frame in two]
        assert clouds[0].shape[1] == 4
        assert 500 < len(clouds[0]) <= round(0.2 * 64 * 192)
        again = self.cache(tmp_path)
        assert again.fill(two, self.CPU) == 0
        assert all(np.array_equal(a, again(frame)) for a, frame in zip(clouds, two, strict=True))

    @pytest.mark.parametrize(
        "change", ["weights", "scale", "sampling", "intensity", "window", "precision", "code"]
    )
    def test_whatever_changes_makes_another_cloud(self, two, tmp_path, monkeypatch, change):
        self.cache(tmp_path).fill(two, self.CPU)
        changes = {
            "weights": {"seed": 1},
            "scale": {"config": replace(self.CONFIG, depth_scale=1.1)},
            "window": {
                "config": replace(self.CONFIG, window=replace(self.SMALL, focal_px=112.0)),
            },
            "sampling": {"settings": replace(self.SETTINGS, seed=1)},
            "intensity": {"settings": replace(self.SETTINGS, intensity=0.4)},
            "precision": {"precision": "bf16"},
            "code": {},
        }
        if change == "code":
            monkeypatch.setattr("kd3d_core.data.pseudo_cache.CACHE_FORMAT", 0)
        other = self.cache(tmp_path, **changes[change])
        with pytest.raises(DataError, match=r"no pseudo-LiDAR of frame .* KD3D_CACHE"):
            other(two[0])
        assert other.fill(two, self.CPU) == 2

    def test_it_is_the_same_wherever_the_weights_lie(self, tmp_path):
        one, other = (
            self.cache(tmp_path, config=replace(self.CONFIG, weights=path))
            for path in ("/here/depth", "/there/depth")
        )
        assert one.digest == other.digest

    def test_a_damaged_cloud_is_one_line(self, two, tmp_path):
        cache = self.cache(tmp_path)
        cache.fill(two.subset(two.names[:1]), self.CPU)
        (path,) = tmp_path.rglob("*.npy")
        path.write_bytes(path.read_bytes()[:50])
        with pytest.raises(DataError, match=r"can't be read from .*delete the file"):
            cache(two[0])

    def test_another_image_under_the_same_name_is_another_cloud(self, two, tmp_path):
        cache = self.cache(tmp_path)
        cache.fill(two, self.CPU)
        swapped = replace(two[0], files={**two[0].files, "image_2": two[1].path("image_2")})
        assert np.array_equal(cache(swapped), cache(two[1]))
        assert not np.array_equal(cache(swapped), cache(two[0]))


def test_a_frame_of_which_no_object_can_be_learnt_is_not_an_empty_street(tracking, tmp_path):
    frame = tracking[3]
    flat = "Car 0.00 0 0.00 550.00 160.00 650.00 220.00 0 0 0 0 0 0 0\n"
    car = "Car 0.00 0 0.00 550.00 160.00 650.00 220.00 1.5 1.6 3.9 0.5 1.65 14.0 -1.57\n"
    for text, labelled, boxes in (("", True, 0), (flat, False, 0), (flat + car, True, 1)):
        (tmp_path / "label.txt").write_text(text)
        changed = replace(frame, files={**frame.files, "label_2": tmp_path / "label.txt"})
        sample = FrameSamples([changed], WINDOW, classes=CLASSES)[0]
        assert (sample.labelled, len(sample.boxes)) == (labelled, boxes)
