"""Ground-truth sampling, on real frames."""

import numpy as np
import pytest
from shapely.geometry import Polygon

from kd3d_core.data.augment_config import AugmentConfig
from kd3d_core.data.kitti import KittiFrame
from kd3d_core.data.object_sampling import cached_objects, cut_objects, make_sampler
from kd3d_core.data.samples import FrameSamples
from kd3d_core.errors import ConfigError, DataError
from kd3d_core.geometry.boxes import corners, points_in_boxes
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
    with pytest.raises(ConfigError, match="shows none of the objects"):
        FrameSamples(few, WINDOW, augment=augment, depth=True)
    config = TrainConfig(
        "detector", "lite", DataConfig(str(few.root)), str(tmp_path), augment=augment
    )
    with pytest.raises(ConfigError, match="points alone"):
        make_task(config)
