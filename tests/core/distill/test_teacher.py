"""A teacher that doesn't fit its student is refused, and the message names both."""

from dataclasses import replace

import pytest
import torch
from small_detector import SMALL, small_lite

from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.distill.teacher import check_fit, feature_shapes
from kd3d_core.errors import ConfigError
from kd3d_core.geometry.window import WindowConfig

CONFIG = DetectorConfig("lite", "random", WindowConfig((64, 208), "crop", 120.0))
PLACES = ("voxels", "backbone", "neck")


def refusal(**changes) -> str:
    """What is said about a teacher that differs from its student in this."""
    config = replace(CONFIG, **changes.pop("config", {}))
    grid = replace(SMALL, **changes.pop("grid", {}))
    places = changes.pop("places", PLACES)
    with pytest.raises(ConfigError) as caught:
        check_fit(small_lite(1, grid), config, small_lite(0), CONFIG, places)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_channels_of_those_that_fit():
    shapes = feature_shapes(small_lite(0))
    assert [tuple(shape) for shape in shapes["voxels"]] == [(1, 32, 64, 64)]
    found = check_fit(small_lite(1), CONFIG, small_lite(0), CONFIG, PLACES)
    assert found == {"voxels": [(32, 32)], "backbone": [(64, 64), (128, 128)], "neck": [(128, 128)]}
    assert check_fit(small_lite(1), CONFIG, small_lite(0), CONFIG, ()) == {}


def test_asking_for_shapes_leaves_a_detector_as_it_was():
    detector = small_lite(0).train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    feature_shapes(detector)
    assert detector.training
    assert all(torch.equal(before[n], value) for n, value in detector.state_dict().items())


def test_another_range():
    message = refusal(grid={"point_cloud_range": (0.0, -12.8, -3.0, 24.0, 12.8, 1.0)})
    assert "24.0, 12.8, 1.0)" in message
    assert "25.6, 12.8, 1.0)" in message


def test_other_voxels():
    message = refusal(grid={"voxel_size": (0.2, 0.2, 4.0)})
    assert "at voxels" in message
    assert "[0.2, 0.2, 4.0] m) has 128 x 128 cells" in message
    assert "[0.4, 0.4, 4.0] m) 64 x 64" in message


def test_answers_are_compared_even_where_no_features_are():
    message = refusal(grid={"voxel_size": (0.2, 0.2, 4.0)}, places=())
    assert "at the head" in message


def test_another_window_of_the_image():
    window = WindowConfig((64, 208), "letterbox")
    message = refusal(config={"window": window})
    assert "letterbox" in message
    assert "crop" in message


def test_other_anchors():
    teacher, student = small_lite(1), small_lite(0)
    *others, car = teacher.head.anchors.classes
    larger = replace(car, size=(4.5, 1.9, 1.7))
    teacher.head.anchors = replace(teacher.head.anchors, classes=(*others, larger))
    with pytest.raises(ConfigError, match=r"4\.5, 1\.9, 1\.7.*3\.9, 1\.6, 1\.56"):
        check_fit(teacher, CONFIG, student, CONFIG, PLACES)


def test_a_teacher_that_reads_points_alone_may_have_any_window():
    """SECOND has the BEV grid of `lite` after its neck, and more channels."""
    from kd3d_core.detectors.build import random_detector

    config = replace(CONFIG, type="second", window=WindowConfig((1, 1)))
    student = random_detector(CONFIG, 0)
    assert check_fit(random_detector(config, 1), config, student, CONFIG, ("neck",)) == {
        "neck": [(128, 512)]
    }
