"""Pictures: what is drawn lies where geometry says."""

import cv2
import numpy as np
import pytest

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual.bev import BevView, draw_cloud, draw_footprints
from kd3d_core.visual.frame import Scene, draw_frame
from kd3d_core.visual.image import draw_boxes, line_width, text_size, write

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


@pytest.mark.parametrize(
    ("width", "y_range", "farthest"),
    [
        (640, (-20.0, 20.0), 70),
        (1242, (-20.0, 20.0), 70),
        (4000, (-20.0, 20.0), 70),
        (1242, (-45.0, 45.0), 70),
        (1242, (-6.0, 6.0), 60),  # the farthest ring runs along the border
    ],
)
def test_rings_and_their_distances_stand_where_the_distance_is(width, y_range, farthest):
    view = BevView(width=width, y_range=y_range)
    image = draw_cloud(view, np.zeros((0, 3)))[..., 0].astype(int)
    rows, columns = np.mgrid[: image.shape[0], :width] + 0.5
    left = y_range[1] - rows / view.pixels_per_metre
    distance = np.hypot(columns / view.pixels_per_metre, left)
    is_text = image > 80
    for radius in range(10, 71, 10):
        ring = image[np.abs(distance - radius) < 1.5 / view.pixels_per_metre]
        assert (ring > 22).mean() > 0.4
    # The letters of a distance lie close together.
    near = np.ones((line_width(image), 12 * line_width(image)))
    near_text = cv2.dilate(is_text.astype(np.uint8), near)
    count, group = cv2.connectedComponents(near_text)
    between = np.abs((distance + 5) % 10 - 5) > 1
    assert (image[between & (near_text == 0)] == 18).mean() > 0.995
    at = []
    for index in range(1, count):
        text_rows, text_columns = np.nonzero((group == index) & is_text)
        assert 0 < text_columns.min() < text_columns.max() < width - 1
        assert 0 < text_rows.min() < text_rows.max() < image.shape[0] - 1
        column, row = (text_columns.min() + text_columns.max() + 1) / 2, np.mean(text_rows) + 0.5
        at.append(np.hypot(column, row - y_range[1] * view.pixels_per_metre))
    at = np.sort(at) / view.pixels_per_metre
    np.testing.assert_allclose(at, np.arange(10, farthest + 1, 10), rtol=0.03)


@pytest.mark.parametrize(("width", "pixels"), [(640, 1), (1242, 1), (2484, 2), (4000, 3)])
def test_lines_points_and_letters_grow_with_the_picture(width, pixels):
    view = BevView(width=width)
    picture = draw_cloud(view, np.array([[35.0, 10.0, 1.0, 0.5]], np.float32))
    colored = np.ptp(picture.astype(int), axis=-1) > 30
    assert colored.sum() == pixels**2
    picture[:] = 0
    draw_footprints(picture, view, np.array([[35.0, 0.0, -1.7, 8.0, 8.0, 1.5, 0.0]]), [RED])
    behind_the_centre = picture[:, round(view.pixels(np.array([33.0, 0.0]))[0]), 0]
    assert 2 * pixels - 0.5 <= behind_the_centre.sum() / 255 <= 4 * pixels  # both sides, softened
    picture[:] = 0
    write(picture, "Car", (width // 2, picture.shape[0] // 2), RED)
    rows, _ = reds(picture)
    assert np.ptp(rows) == pytest.approx(max(10, 10 * width / 1242), rel=0.2)
    text_width, text_height, _ = text_size(picture, "Car")
    assert np.ptp(rows) == pytest.approx(text_height, abs=3)
    assert 2 * text_height < text_width < 4 * text_height


def test_points_outside_the_view_are_left_out():
    view = BevView(width=700)
    far = np.array([[-1.0, 0, 0, 0], [90, 0, 0, 0], [10, 50, 0, 0]], np.float32)
    np.testing.assert_array_equal(draw_cloud(view, far), draw_cloud(view, far[:0]))


def test_a_frame_shows_detections_truth_and_why_not_to_trust_it(camera):
    image = np.full((150, 400, 3), 90, np.uint8)
    boxes = np.array([[15.0, 2.0, -1.7, 4.0, 1.8, 1.5, 0.0]], np.float32)
    found = ObjectBoxes(0, "lidar", boxes, ("Car",), np.array([0.8]))
    shift = np.array([1, 0, 0, 0, 0, 0, 0])
    truth = ObjectBoxes(0, "lidar", boxes + shift, ("Car",), np.array([1.0]))
    points = np.zeros((0, 4), np.float32)
    plain = draw_frame(Scene(image, camera, points, found))
    assert (image == 90).all()
    assert plain.shape[1] == 400
    assert (draw_frame(Scene(image, camera, points, found, truth)) != plain).any()
    doubtful = draw_frame(Scene(image, camera, points, found, caveat="UNTRAINED: random weights"))
    changed = np.nonzero((doubtful != plain).any(-1))
    assert changed[0].max() < 40
    assert len(changed[0]) > 100
