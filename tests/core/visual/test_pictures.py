"""Pictures: what is drawn lies where geometry says."""

import cv2
import numpy as np
import pytest

from kd3d_core.geometry.camera import PinholeCamera, virtual_lidar_from_camera
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual.bev import BevView, draw_cloud, draw_footprints
from kd3d_core.visual.frame import draw_frame
from kd3d_core.visual.image import draw_boxes

RED = (255, 0, 0)


@pytest.fixture
def camera() -> PinholeCamera:
    projection = np.array([[300.0, 0, 200, 0], [0, 300, 75, 0], [0, 0, 1, 0]])
    return PinholeCamera(projection, 400, 150, virtual_lidar_from_camera(1.65))


def reds(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero((image[..., 0] > 200) & (image[..., 1] < 60) & (image[..., 2] < 60))


def test_a_box_is_drawn_around_its_projection(camera):
    image = np.zeros((150, 400, 3), np.uint8)
    box = np.array([[15.0, 2.0, -1.7, 4.0, 1.8, 1.5, 0.0]])
    draw_boxes(image, box, camera, [RED])
    rows, columns = reds(image)
    # The rear, 13 m ahead, spans y = 1.1 to 2.9 and z = -1.7 to -0.2; the camera is at z = -0.08.
    assert columns.min() == pytest.approx(200 - 300 * 2.9 / 13, abs=2)
    assert columns.max() == pytest.approx(200 - 300 * 1.1 / 17, abs=2)
    assert rows.max() == pytest.approx(75 + 300 * 1.62 / 13, abs=2)
    assert rows.min() == pytest.approx(75 + 300 * 0.12 / 17, abs=2)


BLUE = (0, 0, 255)


def blues(image: np.ndarray) -> np.ndarray:
    return (image[..., 2] > 200) & (image[..., 0] < 60) & (image[..., 1] < 60)


def test_texts_do_not_cover_each_other(camera):
    box = [15.0, 2.0, -1.7, 4.0, 1.8, 1.5, 0.0]
    drawn = []
    for boxes in ([box], [box, box], [box] * 9):
        image = np.zeros((150, 400, 3), np.uint8)
        names = ["weak"] * (len(boxes) - 1) + ["strong"]
        draw_boxes(image, np.array(boxes), camera, [RED] * (len(boxes) - 1) + [BLUE], names)
        drawn.append(image)
    strong, two, many = drawn
    # The last text is where it is when it is alone, and others stand above it or nowhere.
    np.testing.assert_array_equal(blues(two), blues(strong))
    np.testing.assert_array_equal(blues(many), blues(strong))
    assert reds(two)[0].size > 20
    assert reds(two)[0].max() < np.nonzero(blues(strong))[0].min()
    assert reds(two)[0].size < reds(many)[0].size < 4 * reds(two)[0].size


@pytest.mark.parametrize("y", [9.5, -9.5])
def test_texts_of_boxes_at_the_border_are_whole(camera, y):
    images = []
    for text in ("", "Car 0.90"):
        image = np.zeros((150, 400, 3), np.uint8)
        draw_boxes(image, np.array([[15.0, y, -1.7, 4, 1.8, 1.5, 0]]), camera, [RED], [text])
        images.append(image)
    without, written = images
    (width, _), _ = cv2.getTextSize("Car 0.90", cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    columns = np.nonzero((written != without).any((0, 2)))[0]
    assert np.ptp(columns) > 0.9 * width


def test_boxes_behind_and_around_the_camera_do_not_break_the_picture(camera):
    image = np.zeros((150, 400, 3), np.uint8)
    behind = [-10.0, 0, -1.7, 4, 2, 1.5, 0.3]
    draw_boxes(image, np.array([behind]), camera, [RED], ["behind"])
    assert not image.any()
    around = [0.0, 0, -1.7, 4, 2, 1.5, 0.3]
    beside = [1.0, 3.0, -1.7, 6, 2, 1.5, 0.0]
    draw_boxes(image, np.array([around, beside]), camera, [RED, RED], ["around", "beside"])
    assert image.any()


def test_the_view_from_above_has_forward_right_and_left_up():
    view = BevView(width=700)
    image = draw_cloud(view, np.array([[35.0, 10.0, 1.0, 0.5]], np.float32))
    row, column = np.unravel_index(image.astype(int).sum(-1).argmax(), image.shape[:2])
    assert (column, row) == (350, 100)
    assert image.shape == (400, 700, 3)
    draw_footprints(image, view, np.array([[35.0, -10, -1.7, 4, 2, 1.5, 0]]), [RED])
    rows, columns = reds(image)
    assert (columns.min(), columns.max()) == (330, 370)
    assert (rows.min(), rows.max()) == (290, 310)


def test_points_outside_the_view_are_left_out():
    view = BevView(width=700)
    far = np.array([[-1.0, 0, 0, 0], [90, 0, 0, 0], [10, 50, 0, 0]], np.float32)
    np.testing.assert_array_equal(draw_cloud(view, far), draw_cloud(view, far[:0]))


def test_a_frame_shows_detections_truth_and_untrained(camera):
    image = np.full((150, 400, 3), 90, np.uint8)
    boxes = np.array([[15.0, 2.0, -1.7, 4.0, 1.8, 1.5, 0.0]], np.float32)
    found = ObjectBoxes(0, "lidar", boxes, ("Car",), np.array([0.8]))
    shift = np.array([1, 0, 0, 0, 0, 0, 0])
    truth = ObjectBoxes(0, "lidar", boxes + shift, ("Car",), np.array([1.0]))
    points = np.zeros((0, 4), np.float32)
    plain = draw_frame(image, camera, points, found)
    assert (image == 90).all()
    assert plain.shape[1] == 400
    assert (draw_frame(image, camera, points, found, truth) != plain).any()
    untrained = draw_frame(image, camera, points, found, trained=False)
    changed = np.nonzero((untrained != plain).any(-1))
    assert changed[0].max() < 40
    assert len(changed[0]) > 100
