"""Ground-truth sampling, on real frames."""

import numpy as np
import pytest
from shapely.geometry import Polygon

from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.object_sampling import (
    CutObjects,
    ObjectSampler,
    cached_objects,
    cut_objects,
    make_sampler,
)
from kd3d_core.data.samples import FrameSamples
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.geometry.boxes import corners, points_in_boxes
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.training.config import DataConfig, TrainConfig
from kd3d_core.training.tasks import make_task

CLASSES = ("Pedestrian", "Cyclist", "Car")
WINDOW = WindowConfig((192, 640), "crop", 372.0)


@pytest.fixture(scope="module")
def few(tracking):
    return tracking.subset(tracking.names[::6])


@pytest.fixture(scope="module")
def objects(few):
    return cut_objects(few, CLASSES, 20)


def footprints(boxes):
    return [Polygon(box[:4, :2]) for box in corners(np.asarray(boxes, np.float64))]


def test_cut_objects_are_labelled_cars_with_the_points_in_them(few, objects):
    assert 10 < len(objects) <= sum(len(few[i].objects()) for i in range(len(few)))
    assert objects.ends[-1] == len(objects.points)
    for index in range(len(objects)):
        points = objects.points_of([index])
        assert len(points) >= 20
        assert points_in_boxes(points, objects.boxes[index : index + 1]).all()
    assert set(objects.labels) == {2}


def test_sampling_fills_a_frame_up_without_collisions(tmp_path, few):
    sampler = make_sampler(tmp_path, few, CLASSES, {"Car": 20}, 20)
    plain = FrameSamples(few, WINDOW, KittiFrame.points_in_view, CLASSES)
    filled = FrameSamples(few, WINDOW, KittiFrame.points_in_view, CLASSES, sampler=sampler)
    grown = 0
    for index in range(len(few)):
        before, after = plain[index], filled[index]
        count = len(before.boxes)
        grown += len(after.boxes) - count
        assert count <= len(after.boxes) <= max(20, count)
        assert len(after.labels) == len(after.boxes)
        assert (after.boxes[:count] == before.boxes).all()
        shapes = footprints(after.boxes)
        for number, new in enumerate(shapes[count:], count):
            assert all(new.intersection(other).area < 1e-3 for other in shapes[:number])
        added = after.boxes[count:]
        # Inside a pasted box are its own points and no others.
        inside = points_in_boxes(after.points, added).sum(0)
        assert (inside >= 20).all()
        outside = ~points_in_boxes(before.points, added).any(1)
        assert (after.points[: outside.sum()] == before.points[outside]).all()
    assert grown > 10
    again = filled[0]
    assert (filled[0].points == again.points).all()
    filled.set_epoch(1)
    other = filled[0]
    assert other.points.shape != again.points.shape or (other.points != again.points).any()


class TestPlaces:
    """Objects made up for a camera of 200 x 100 pixels that looks ahead, 1.7 m above the road."""

    CAMERA = PinholeCamera(
        np.array([[100.0, 0, 100, 0], [0, 100, 50, 0], [0, 0, 1, 0]]), 200, 100,
        virtual_lidar_from_camera(1.7),
    )  # fmt: skip

    def pasted(self, boxes: list[list[float]], present: list[list[float]] = ()) -> list[int]:
        """Which of some boxes (x, y, z, length, width, height) are pasted beside those present."""
        made = np.array([[*box, 0.0] for box in boxes], np.float32)
        there = np.array([[*box, 0.0] for box in present], np.float32).reshape(-1, 7)
        count = len(made)
        marks = np.tile(np.arange(count, dtype=np.float32)[:, None], (1, 4))  # one point of each
        objects = CutObjects(made, np.zeros(count, np.int64), marks, np.arange(1, count + 1))
        sampler = ObjectSampler(objects, {0: count + len(there)})
        points, found, labels = sampler(
            np.zeros((0, 4), np.float32), there, np.zeros(len(there), np.int64), self.CAMERA,
            np.random.default_rng(0),
        )  # fmt: skip
        order = points[:, 0].astype(int).tolist()
        assert len(found) == len(labels) == len(order) + len(there)
        assert np.array_equal(found[len(there) :], made[order])
        return order

    @pytest.mark.parametrize(
        ("x", "y", "z", "seen"),
        [
            (10, 0, -1.7, True),
            (10, 9.5, -1.7, True), (10, 10.5, -1.7, False),  # left of the image
            (10, -9.5, -1.7, True), (10, -10.5, -1.7, False),  # right of it
            (10, 0, 3.5, True), (10, 0, 5.5, False),  # above it
            # Below it, but for its upper half: what counts is its centre.
            (10, 0, -5.5, True), (10, 0, -7.5, False),
            (10, 0, 4.5, False),
            (-10, 0, -1.7, False), (-10, 0, -0.1, False),  # behind the camera
        ],
    )  # fmt: skip
    def test_objects_whose_centre_the_image_shows_are_pasted(self, x, y, z, seen):
        assert self.pasted([[x, y, z, 2, 1, 2]]) == [0] * seen

    def test_nothing_touches_what_is_there(self):
        there = [[10, 0, -1.7, 4, 2, 2]]
        near, apart = [13.9, 0, -1.7, 4, 2, 2], [14.1, 0, -1.7, 4, 2, 2]
        assert self.pasted([near], there) == []
        assert self.pasted([apart], there) == [0]

    def test_of_two_that_touch_the_one_drawn_first_stays(self):
        """And it doesn't keep a third away that touches only the one that is left out."""
        row = [[10 + 3 * step, 0, -1.7, 4, 2, 2] for step in range(3)]
        drawn = np.random.default_rng(0).choice(3, 3, replace=False).tolist()
        expected = []
        for index in drawn:
            if all(abs(index - other) > 1 for other in expected):
                expected.append(index)
        assert self.pasted(row) == expected


def test_frames_without_lidar_have_nothing_to_paste(tmp_path, few):
    frame = few[0]
    for part in ("image_2", "calib", "label_2"):
        (tmp_path / "training" / part).mkdir(parents=True)
        path = frame.path(part)
        (tmp_path / "training" / part / path.name).symlink_to(path.resolve())
    with pytest.raises(DataError, match=r"velodyne.* is missing for 1 of 1 frames"):
        make_sampler(tmp_path / "cache", KittiDataset(tmp_path), CLASSES, {"Car": 1}, 1)


def test_the_objects_are_kept_on_disk_until_anything_changes(tmp_path, few, objects):
    calls = []
    first = cached_objects(tmp_path, few, CLASSES, 20, lambda: calls.append(1))
    again = cached_objects(tmp_path, few, CLASSES, 20, lambda: calls.append(1))
    assert len(calls) == len(few)
    for name in ("boxes", "labels", "points", "ends"):
        assert (getattr(first, name) == getattr(objects, name)).all()
        assert (getattr(again, name) == getattr(objects, name)).all()
    assert len(cached_objects(tmp_path, few, CLASSES, 200)) < len(first)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="delete the file"):
        cached_objects(tmp_path, few, CLASSES, 20)


def test_what_cannot_be_sampled_is_refused(tmp_path, few):
    with pytest.raises(DataError, match="no Cyclist"):
        make_sampler(tmp_path, few, CLASSES, {"Cyclist": 5}, 5)
    augment = AugmentConfig(image_scale=(1, 1), sample_objects={"Car": 10})
    with pytest.raises(ConfigError, match="image shows none"):
        FrameSamples(few, WINDOW, augment=augment, depth=True)
    config = TrainConfig(
        "detector", "lite", DataConfig(str(few.root)), str(tmp_path), augment=augment
    )
    with pytest.raises(ConfigError, match="points alone"):
        make_task(config)
