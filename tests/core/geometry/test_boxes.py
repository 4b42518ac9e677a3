"""Boxes: between KITTI, kd3d and ROS, and against points and pictures."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial import ConvexHull, Delaunay
from scipy.spatial.transform import Rotation

from kd3d_core.data.kitti import KittiDataset, KittiFrame
from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.labels import Label
from kd3d_core.errors import CalibrationError
from kd3d_core.geometry import boxes

RNG = np.random.default_rng(0)


def random_boxes(count: int = 40) -> np.ndarray:
    return np.column_stack(
        [
            RNG.uniform((5, -20, -2), (60, 20, 0), (count, 3)),
            RNG.uniform(0.5, 5, (count, 3)),
            RNG.uniform(-np.pi, np.pi, count),
        ]
    )


def random_pose() -> np.ndarray:
    """A `lidar_from_camera` a few degrees off KITTI's."""
    pose = np.eye(4)
    nominal = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    pose[:3, :3] = Rotation.from_rotvec(RNG.uniform(-0.05, 0.05, 3)).as_matrix() @ nominal
    pose[:3, 3] = RNG.uniform(-0.5, 0.5, 3)
    return pose


def labelled(
    *datasets: KittiDataset, max_distance: float = np.inf
) -> Iterator[tuple[KittiFrame, list[Label]]]:
    """Frames with their cars and vans that are fully visible and near enough."""
    for dataset in datasets:
        for frame in dataset:
            objects = [
                label
                for label in frame.objects()
                if label.type in ("Car", "Van")
                and label.occluded == 0
                and label.truncated == 0
                and label.location[2] < max_distance
            ]
            if objects:
                yield frame, objects


# KITTI labels


def test_labels_come_back_from_the_detector_frame(
    tracking: KittiDataset, kitti_object: KittiDataset
) -> None:
    seen = 0
    for dataset in (tracking, kitti_object):
        for frame in dataset:
            objects = frame.objects()
            pose = frame.camera().lidar_from_camera
            location, dimensions, rotation_y = boxes.to_kitti(label_boxes(objects, pose), pose)
            np.testing.assert_allclose(location, [o.location for o in objects], atol=1e-4)
            np.testing.assert_allclose(dimensions, [o.dimensions for o in objects], atol=1e-4)
            turn = boxes.wrap_angle(rotation_y - np.array([o.rotation_y for o in objects]))
            np.testing.assert_allclose(turn, 0, atol=1e-4)
            seen += len(objects)
    assert seen > 200


@given(
    hnp.arrays(np.float64, (5, 3), elements=st.floats(-70, 70)),
    hnp.arrays(np.float64, (5,), elements=st.floats(-3.1, 3.1)),
)
def test_any_label_comes_back(location: np.ndarray, rotation_y: np.ndarray) -> None:
    pose = random_pose()
    dimensions = np.full((5, 3), (1.5, 1.6, 3.9))
    there = boxes.from_kitti(location, dimensions, rotation_y, pose)
    assert there.dtype == np.float32
    back = boxes.to_kitti(there, pose)
    np.testing.assert_allclose(back[0], location, atol=1e-4)
    np.testing.assert_allclose(back[1], dimensions, atol=1e-4)
    np.testing.assert_allclose(boxes.wrap_angle(back[2] - rotation_y), 0, atol=1e-4)


def test_headings_turn_with_the_whole_rotation_between_the_frames() -> None:
    pose, location = random_pose(), np.array([3.0, 1.6, 25.0])
    for rotation_y in np.linspace(-3, 3, 13):
        # KITTI: at rotation_y 0 the car's front is at +x of the camera, and it turns about +y.
        front = location + Rotation.from_euler("y", rotation_y).apply([1.0, 0, 0])
        start, end = (pose @ [*point, 1] for point in (location, front))
        (box,) = boxes.from_kitti(location, np.array([1.5, 1.6, 3.9]), np.array(rotation_y), pose)
        difference = box[6] - np.arctan2(end[1] - start[1], end[0] - start[0])
        assert abs(boxes.wrap_angle(difference)) < 1e-5
        np.testing.assert_allclose(box[:3], start[:3], atol=1e-5)
        np.testing.assert_allclose(box[3:6], [3.9, 1.6, 1.5], atol=1e-6)


def test_cars_contain_their_lidar_points(
    tracking: KittiDataset, kitti_object: KittiDataset
) -> None:
    """What the label's rectangle shows in its middle is, by the scan, inside the label's box."""
    hits, quarter_turned = [], []
    for frame, objects in labelled(tracking, kitti_object, max_distance=40):
        camera, points = frame.camera(), frame.points_in_view().astype(np.float64)
        true = label_boxes(objects, camera.lidar_from_camera).astype(np.float64)
        inside = boxes.points_in_boxes(points, true)
        assert (inside.sum(0) >= 1).all(), f"{frame.name}: a car without points"
        pixels, depth = camera.project(points)
        for index, label in enumerate(objects):
            left, top, right, bottom = label.bbox
            margin = 2.0
            own = pixels[inside[:, index]]
            assert (own > (left - margin, top - margin)).all()
            assert (own < (right + margin, bottom + margin)).all()
            middle = np.abs(pixels - ((left + right) / 2, (top + bottom) / 2))
            seen = (middle < ((right - left) / 4, (bottom - top) / 4)).all(1) & (depth > 0)
            grown = true[index : index + 1] + np.array([0, 0, -0.05, 0.2, 0.2, 0.2, 0])
            hits.append(boxes.points_in_boxes(points[seen], grown).mean())
            grown[:, 6] += np.pi / 2
            quarter_turned.append(boxes.points_in_boxes(points[seen], grown).mean())
    assert len(hits) > 30
    assert np.median(hits) > 0.95
    assert np.mean(hits) > 0.9
    assert np.mean(quarter_turned) < 0.5  # the check itself can tell a wrong box


def test_projected_boxes_are_the_labels_rectangles(
    tracking: KittiDataset, kitti_object: KittiDataset
) -> None:
    overlaps = []
    for frame, objects in labelled(tracking, kitti_object):
        camera = frame.camera()
        rectangles = boxes.image_boxes(
            label_boxes(objects, camera.lidar_from_camera),
            camera.image_from_lidar,
            (camera.height, camera.width),
        )
        overlaps += [
            rectangle_iou(rectangle, np.array(label.bbox))
            for rectangle, label in zip(rectangles, objects, strict=True)
        ]
    assert len(overlaps) > 30
    assert min(overlaps) > 0.95
    assert np.median(overlaps) > 0.99


def rectangle_iou(one: np.ndarray, two: np.ndarray) -> float:
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2])
    shared = np.prod(np.clip(sides, 0, None))
    return float(shared / (np.prod(one[2:] - one[:2]) + np.prod(two[2:] - two[:2]) - shared))


# ROS


def test_boxes_come_back_from_ros() -> None:
    original = random_boxes()
    center, quaternion, size = boxes.to_ros(original)
    np.testing.assert_allclose(center[:, 2] - size[:, 2] / 2, original[:, 2])
    np.testing.assert_allclose(
        Rotation.from_quat(quaternion).as_rotvec(), np.outer(original[:, 6], [0, 0, 1]), atol=1e-9
    )
    back = boxes.from_ros(center, quaternion, size)
    np.testing.assert_allclose(back[:, :6], original[:, :6], atol=1e-5)
    np.testing.assert_allclose(boxes.wrap_angle(back[:, 6] - original[:, 6]), 0, atol=1e-6)
    negated = boxes.from_ros(center, -quaternion, size)  # the same rotation
    np.testing.assert_allclose(boxes.wrap_angle(negated[:, 6] - original[:, 6]), 0, atol=1e-6)


def test_no_boxes_are_fine_everywhere() -> None:
    none = np.zeros((0, 7))
    assert boxes.from_ros(*boxes.to_ros(none)).shape == (0, 7)
    assert boxes.corners(none).shape == (0, 8, 3)
    assert boxes.points_in_boxes(np.zeros((5, 4)), none).shape == (5, 0)
    assert boxes.image_boxes(none, np.eye(3, 4), (10, 20)).shape == (0, 4)
    pose = random_pose()
    assert boxes.from_kitti(*boxes.to_kitti(none, pose), pose).shape == (0, 7)


# Geometry


def test_corners_are_those_of_a_turned_cuboid() -> None:
    many = random_boxes()
    for box, ours in zip(many, boxes.corners(many), strict=True):
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [0, 2])).reshape(3, -1).T / 2
        reference = Rotation.from_euler("z", box[6]).apply(signs * box[3:6]) + box[:3]
        distance = np.linalg.norm(reference[:, None] - ours[None], axis=-1)
        assert distance.min(1).max() < 1e-9
        assert distance.min(0).max() < 1e-9
        np.testing.assert_allclose(ours[:4, 2], box[2])  # bottom first
        np.testing.assert_allclose(ours[4:, :2], ours[:4, :2])  # then the top, in the same order
        front = ours[[0, 1]].mean(0)[:2] - box[:2]
        heading = np.cos(box[6]), np.sin(box[6])
        np.testing.assert_allclose(front / np.linalg.norm(front), heading)


def test_edges_join_neighbours() -> None:
    (corners,) = boxes.corners(np.array([[0, 0, 0, 4.0, 2, 1, 0.7]]))
    lengths = np.linalg.norm(corners[boxes.EDGES[:, 0]] - corners[boxes.EDGES[:, 1]], axis=1)
    np.testing.assert_allclose(sorted(lengths), [1] * 4 + [2] * 4 + [4] * 4)
    assert len({tuple(sorted(edge)) for edge in boxes.EDGES.tolist()}) == 12


def test_points_in_boxes_is_the_convex_hull_of_the_corners() -> None:
    many = random_boxes(10)
    points = np.concatenate(
        [box[:3] + RNG.uniform((-3, -3, -1), (3, 3, 4), (500, 3)) for box in many]
        + [RNG.uniform((0, -20, -3), (60, 20, 3), (500, 3))]
    )
    ours = boxes.points_in_boxes(points, many)
    reference = np.stack(
        [Delaunay(corners).find_simplex(points) >= 0 for corners in boxes.corners(many)], 1
    )
    assert reference.sum() > 100
    np.testing.assert_array_equal(ours, reference)


def test_the_surface_belongs_to_the_box() -> None:
    box = np.array([[1.0, 2, 3, 4, 2, 1, 0]])
    surface = np.array([[3.0, 2, 3.5], [-1, 2, 3.5], [1, 3, 3.5], [1, 2, 3], [1, 2, 4]])
    assert boxes.points_in_boxes(surface, box).all()
    assert not boxes.points_in_boxes(surface + (surface - [1, 2, 3.5]) * 1e-6, box).any()


def test_volume_of_corners() -> None:
    many = random_boxes(5)
    for box, corners in zip(many, boxes.corners(many), strict=True):
        assert ConvexHull(corners).volume == pytest.approx(np.prod(box[3:6]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_and_numpy_agree(dtype: torch.dtype) -> None:
    many = torch.from_numpy(random_boxes()).to(dtype)
    spread = torch.from_numpy(RNG.uniform((5, -20, -3), (60, 20, 3), (300, 3))).to(dtype)
    points = torch.cat([spread, many[:, :3] + 0.1])
    corners = boxes.corners(many)
    assert corners.dtype == dtype
    np.testing.assert_allclose(corners, boxes.corners(many.numpy()), atol=1e-4)
    inside = boxes.points_in_boxes(points, many)
    assert inside.any()
    np.testing.assert_array_equal(inside, boxes.points_in_boxes(points.numpy(), many.numpy()))
    turned = boxes.wrap_angle(many[:, 6] + 7)
    np.testing.assert_allclose(turned, boxes.wrap_angle(many[:, 6].numpy() + 7), atol=1e-5)


def test_corners_have_gradients() -> None:
    many = torch.from_numpy(random_boxes(3)).requires_grad_()
    assert torch.autograd.gradcheck(boxes.corners, (many,))


@given(st.floats(-50, 50))
def test_wrapped_angles_are_the_same_direction(angle: float) -> None:
    wrapped = boxes.wrap_angle(angle)
    assert -np.pi <= wrapped < np.pi + 1e-12
    np.testing.assert_allclose(np.cos(wrapped), np.cos(angle), atol=1e-9)
    np.testing.assert_allclose(np.sin(wrapped), np.sin(angle), atol=1e-9)


# Rectangles of boxes that the image plane cuts


IMAGE_FROM_LIDAR = np.array([[700.0, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]]) @ np.array(
    [[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
)


def test_boxes_behind_the_camera_have_no_rectangle() -> None:
    behind = np.array([[-10.0, 0, -1, 4, 2, 1.5, 0]])
    assert np.isnan(boxes.image_boxes(behind, IMAGE_FROM_LIDAR, (375, 1242))).all()


def test_boxes_beside_the_camera_reach_the_border() -> None:
    beside = np.array([[0.5, 2.0, -1.6, 6, 2, 1.5, 0]])  # to the left, half of it behind
    (rectangle,) = boxes.image_boxes(beside, IMAGE_FROM_LIDAR, (375, 1242))
    left, top, right, bottom = rectangle
    assert left == 0
    assert bottom == 374
    # It ends on the right and at the top where its front right corner is: x 3.5, y 1, z -0.1.
    assert right == pytest.approx(600 - 700 * 1 / 3.5)
    assert top == pytest.approx(180 + 700 * 0.1 / 3.5)


def test_rectangles_hold_every_visible_point_of_the_box() -> None:
    many = random_boxes(200)
    many[:, 0] -= 8
    rectangles = boxes.image_boxes(many, IMAGE_FROM_LIDAR, (375, 1242))
    checked = 0
    for box, (left, top, right, bottom) in zip(many, rectangles, strict=True):
        local = RNG.uniform((-0.5, -0.5, 0), (0.5, 0.5, 1), (500, 3)) * box[3:6]
        points = Rotation.from_euler("z", box[6]).apply(local) + box[:3]
        homogeneous = points @ IMAGE_FROM_LIDAR[:, :3].T
        homogeneous = homogeneous[homogeneous[:, 2] > 0.1]
        pixels = homogeneous[:, :2] / homogeneous[:, 2:]
        pixels = pixels[(pixels >= 0).all(1) & (pixels <= (1241, 374)).all(1)]
        if len(pixels):
            assert (pixels >= (left - 1e-6, top - 1e-6)).all()
            assert (pixels <= (right + 1e-6, bottom + 1e-6)).all()
            checked += 1
    assert checked > 100


def test_a_camera_that_looks_down_has_no_rotation_y():
    down = np.eye(4)
    down[:3, :3] = [[0, -1, 0], [-1, 0, 0], [0, 0, -1]]
    with pytest.raises(CalibrationError, match="straight up or down"):
        boxes.to_kitti(np.ones((1, 7)), down)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_footprints_are_the_corners_outline_from_above(kind) -> None:
    some = random_boxes()
    found = boxes.footprints(kind(some))
    assert isinstance(found, type(kind(some)))
    for (x, y, length, width, yaw), corner in zip(found, boxes.corners(some), strict=True):
        turn = Rotation.from_euler("z", float(yaw)).as_matrix()[:2, :2]
        half = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) * [float(length), float(width)] / 2
        outline = half @ turn.T + [float(x), float(y)]
        np.testing.assert_allclose(
            np.sort(outline, 0), np.sort(corner[:4, :2].astype(float), 0), atol=1e-9
        )
