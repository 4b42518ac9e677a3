"""Pictures: what is drawn lies where geometry says."""

import cv2
import numpy as np
import pytest

from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.messages.types import ObjectBoxes
from kd3d_core.visual.bev import BevView, draw_cloud, draw_footprints
from kd3d_core.visual.distinct import one_per_object
from kd3d_core.visual.frame import Scene, draw_frame
from kd3d_core.visual.image import draw_boxes, line_width, tag_size, text_size, write

RED = (255, 0, 0)
FACE = (round(0.35 * 255), 0, 0)


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


@pytest.mark.parametrize(("yaw", "distance"), [(0.0, 17.0), (np.pi, 13.0)])
def test_the_front_face_is_filled(camera, yaw, distance):
    box = np.array([[15.0, 2.0, -1.7, 4.0, 1.8, 1.5, yaw]])
    image = np.zeros((150, 400, 3), np.uint8)
    draw_boxes(image, box, camera, [RED], filled=False)
    assert not (image == FACE).all(-1).any()
    draw_boxes(image, box, camera, [RED])
    rows, columns = np.nonzero((image == FACE).all(-1))
    # y = 1.1 to 2.9 and z = -1.7 to -0.2; the camera is at z = -0.08.
    assert columns.mean() == pytest.approx(200 - 300 * 2.0 / distance, abs=4)
    assert rows.mean() == pytest.approx(75 + 300 * 0.87 / distance, abs=4)
    assert len(rows) > 0.3 * (300 * 1.8 / distance) * (300 * 1.5 / distance)


def test_texts_do_not_cover_each_other(camera):
    box = [15.0, 2.0, -1.7, 4.0, 1.8, 1.5, 0.0]
    drawn = []
    for boxes in ([box], [box, box], [box] * 9):
        image = np.zeros((150, 400, 3), np.uint8)
        names = ["weak"] * (len(boxes) - 1) + ["near"]
        draw_boxes(image, np.array(boxes), camera, [RED] * (len(boxes) - 1) + [BLUE], names)
        drawn.append(image)
    near, two, many = drawn
    # The last text is where it is when it is alone, and others stand above it or nowhere.
    top = np.nonzero(blues(near))[0].min()
    tag_of = np.s_[top : top + tag_size(near, "near")[1]]
    for image in (two, many):
        np.testing.assert_array_equal(blues(image)[tag_of], blues(near)[tag_of])
        assert not reds(image)[0][reds(image)[0] >= top].size
    assert 100 < reds(two)[0].size < reds(many)[0].size < 4 * reds(two)[0].size


@pytest.mark.parametrize("y", [9.5, -9.5])
def test_texts_of_boxes_at_the_border_are_whole(camera, y):
    images = []
    for text in ("", "Car 0.90"):
        image = np.zeros((150, 400, 3), np.uint8)
        draw_boxes(image, np.array([[15.0, y, -1.7, 4, 1.8, 1.5, 0]]), camera, [RED], [text])
        images.append(image)
    without, written = images
    columns = np.nonzero((written != without).any((0, 2)))[0]
    assert np.ptp(columns) > 0.9 * tag_size(written, "Car 0.90")[0]


def test_boxes_behind_and_around_the_camera_do_not_break_the_picture(camera):
    image = np.zeros((150, 400, 3), np.uint8)
    behind = [-10.0, 0, -1.7, 4, 2, 1.5, 0.3]
    draw_boxes(image, np.array([behind]), camera, [RED], ["behind"])
    assert not image.any()
    around = [0.0, 0, -1.7, 4, 2, 1.5, 0.3]
    beside = [1.0, 3.0, -1.7, 6, 2, 1.5, 0.0]
    draw_boxes(image, np.array([around, beside]), camera, [RED, RED], ["around", "beside"])
    assert image.any()


def test_the_view_from_above_has_forward_up_and_left_left():
    view = BevView(width=400, height=640)  # 10 pixels a metre, 20 m to both sides
    image = draw_cloud(view, np.array([[35.0, 10.0, 1.0, 0.5]], np.float32))
    assert image.shape == (640, 400, 3)
    row, column = np.unravel_index(np.ptp(image.astype(int), axis=-1).argmax(), image.shape[:2])
    assert (column, row) == (100, 250)
    draw_footprints(image, view, np.array([[35.0, -10, -1.7, 4, 2, 1.5, 0]]), [RED])
    rows, columns = reds(image)
    assert (columns.min(), columns.max()) == (pytest.approx(290, abs=1), pytest.approx(310, abs=1))
    assert (rows.min(), rows.max()) == (pytest.approx(230, abs=1), pytest.approx(270, abs=1))
    heading = image[231:250, 300]  # from the centre to the front, and not to the rear
    assert (heading[:, 0] > 200).all()
    assert (image[255:268, 300, 0] < 120).all()


def test_the_field_of_view_and_the_camera_are_marked(camera):
    view = BevView(width=640, height=640)
    plain, image = (draw_cloud(view, np.zeros((0, 3)), each) for each in (None, camera))
    left, right = np.arctan2(200.5, 300), np.arctan2(-199.5, 300)
    for angle in np.linspace(-1.2, 1.2, 49):
        place = 33 * np.array([np.cos(angle), np.sin(angle)])
        column, row = np.floor(view.pixels(place)).astype(int)
        if 0 <= column < 640 and abs(angle - left) > 0.02 and abs(angle - right) > 0.02:
            inside = right < angle < left
            assert (image[row, column] > plain[row, column]).all() == inside
    column, row = np.floor(view.pixels(np.array([-1.5, 0.0]))).astype(int)
    assert (image[row, column] > 220).all()


@pytest.mark.parametrize(("width", "height"), [(640, 640), (1242, 745), (400, 640), (3000, 4000)])
def test_rings_and_their_distances_stand_where_the_distance_is(width, height):
    view = BevView(width, height)
    image = draw_cloud(view, np.zeros((0, 3)))[..., 0].astype(int)
    rows, columns = np.mgrid[:height, :width] + 0.5
    ahead = view.farthest_m - rows / view.pixels_per_metre
    left = (width / 2 - columns) / view.pixels_per_metre
    distance = np.hypot(ahead, left)
    is_text = image > 100
    for radius in range(10, 61, 10):
        ring = image[np.abs(distance - radius) < 1.5 / view.pixels_per_metre]
        assert (ring > 22).mean() > 0.4
    # The letters of a distance lie close together.
    near = np.ones((line_width(image), 14 * line_width(image)))
    near_text = cv2.dilate(is_text.astype(np.uint8), near)
    count, group = cv2.connectedComponents(near_text)
    at = []
    for index in range(1, count):
        text_rows, text_columns = np.nonzero((group == index) & is_text)
        assert 0 < text_columns.min() < text_columns.max() < width - 1
        assert 0 < text_rows.min() < text_rows.max() < height - 1
        middle = np.array([text_columns.min() + text_columns.max(), 2 * text_rows.mean()]) / 2
        at.append(np.hypot(*(middle - view.pixels(np.zeros(2)))))
    at = np.sort(at) / view.pixels_per_metre
    np.testing.assert_allclose(at, np.arange(10, 10 * len(at) + 1, 10), rtol=0.05)
    assert len(at) >= 5


@pytest.mark.parametrize(("width", "pixels"), [(640, 1), (1242, 1), (2484, 2), (4000, 3)])
def test_lines_points_and_letters_grow_with_the_picture(width, pixels):
    view = BevView(width, width // 2)
    picture = draw_cloud(view, np.array([[35.0, 10.0, 1.0, 0.5]], np.float32))
    colored = np.ptp(picture.astype(int), axis=-1) > 30
    assert colored.sum() == pixels**2
    picture[:] = 0
    box = np.array([[35.0, 0.0, -1.7, 8.0, 8.0, 1.5, 0.0]])
    draw_footprints(picture, view, box, [RED], filled=False)
    draw_footprints(picture, view, box, [RED])
    behind_the_centre = picture[round(view.pixels(np.array([33.0, 0.0]))[1]), :, 0]
    edges = (behind_the_centre > 150).sum()
    assert 4 * pixels - 2 <= edges <= 4 * pixels + 4  # both sides, softened
    picture[:] = 0
    write(picture, "Car", (width // 2, picture.shape[0] // 2), RED)
    rows, _ = reds(picture)
    assert np.ptp(rows) == pytest.approx(max(11, 11 * width / 1242), rel=0.25)
    text_width, text_height, _ = text_size(picture, "Car")
    assert np.ptp(rows) == pytest.approx(text_height, abs=3 * pixels)
    assert 1.5 * text_height < text_width < 4 * text_height


def test_points_outside_the_view_are_left_out():
    view = BevView(width=700)
    far = np.array([[-5.0, 0, 0, 0], [90, 0, 0, 0], [10, 50, 0, 0]], np.float32)
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


def test_the_view_from_above_stands_where_there_is_room():
    empty = ObjectBoxes(0, "lidar", np.zeros((0, 7), np.float32), (), np.zeros(0))
    for width, height, expected in (
        (1242, 375, (375 + 745, 1242)),
        (1280, 720, (720, 1280 + 540)),
        (900, 1200, (1200, 1800)),
    ):
        projection = np.array([[900.0, 0, width / 2, 0], [0, 900, height / 2, 0], [0, 0, 1, 0]])
        pose = virtual_lidar_from_camera(1.65)
        image = np.full((height, width, 3), 200, np.uint8)
        scene = Scene(
            image, PinholeCamera(projection, width, height, pose), np.zeros((0, 4)), empty
        )
        picture = draw_frame(scene)
        assert picture.shape == (*expected, 3)
        assert (picture[:height, :width] == 200).all()


def test_notes_of_the_camera_fit_into_small_pictures(camera):
    image = np.full((150, 400, 3), 90, np.uint8)
    empty = ObjectBoxes(0, "lidar", np.zeros((0, 7), np.float32), (), np.zeros(0))
    points = np.zeros((0, 4), np.float32)
    note = "focal length 1109 px GUESSED (60 degrees over the longer side), and more than has room"
    picture = draw_frame(Scene(image, camera, points, empty, notes=(note,)))[:150]
    columns = np.nonzero((picture > 150).any((0, 2)))[0]
    assert columns.min() < 12
    assert 300 < columns.max() < 396


def test_one_box_for_each_object():
    row = [20.0, 0, -1.7, 4, 1.8, 1.5, 0]
    boxes = np.array(
        [row, [20.5, 0.3, *row[2:]], [20, 0.2, -1.7, 0.8, 0.6, 1.8, 0], [20, 6, *row[2:]], row]
    )
    names = ("Car", "Van", "Pedestrian", "Cyclist", "Car")
    found = ObjectBoxes(0, "", boxes, names, np.array([0.5, 0.8, 0.4, 0.3, 0.2]))
    shown = one_per_object(found)
    # The cars give way to the better van, the pedestrian to all; the cyclist stands elsewhere.
    assert shown.names == ("Van", "Cyclist")
    np.testing.assert_array_equal(shown.boxes, boxes[[1, 3]])
    np.testing.assert_array_equal(shown.scores, [0.8, 0.3])
    # Boxes of one class are the business of the detector's own suppression.
    cars = ObjectBoxes(0, "", boxes[[0, 4]], ("Car", "Car"), np.array([0.5, 0.2]))
    assert one_per_object(cars).names == ("Car", "Car")
    assert one_per_object(found.select(np.zeros(0, int))).names == ()
