"""The generator proves its geometry: image, LiDAR, boxes and calibration agree.

Everything is projected with the numbers of the calibration file and KITTI's formulas, not with
the code that rendered it.
"""

import numpy as np

from kd3d_core.data.label_boxes import label_boxes
from kd3d_core.data.labels import Label
from kd3d_core.data.synthetic.dataset import Frame, SynthConfig, render_frame
from kd3d_core.data.synthetic.lidar import LidarConfig, Scan, scan
from kd3d_core.data.synthetic.raycast import RayCaster
from kd3d_core.data.synthetic.rig import CameraConfig, Rig
from kd3d_core.geometry.boxes import points_in_boxes

_MM = 1e-3


def _calibration() -> tuple[np.ndarray, np.ndarray]:
    """P2 and the 4x4 from LiDAR to rectified camera, as KITTI's readme multiplies them."""
    lines = dict(line.split(": ") for line in Rig().calib_text().splitlines())
    p2, r0, tr = (
        np.array(lines[name].split(), float) for name in ("P2", "R0_rect", "Tr_velo_to_cam")
    )
    rectify, velo = np.eye(4), np.eye(4)
    rectify[:3, :3], velo[:3] = r0.reshape(3, 3), tr.reshape(3, 4)
    return p2.reshape(3, 4), rectify @ velo


def _project(points: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image = np.c_[points, np.ones(len(points))] @ matrix.T
    return image[:, :2] / image[:, 2:], image[:, 2]


def _label_corners(label: Label) -> np.ndarray:
    """Corners of a label in the camera frame, by the formula of KITTI's development kit."""
    h, w, length = label.dimensions
    x = np.array([1, 1, -1, -1, 1, 1, -1, -1]) * length / 2
    y = np.array([0, 0, 0, 0, -1, -1, -1, -1]) * h
    z = np.array([1, -1, -1, 1, 1, -1, -1, 1]) * w / 2
    cos, sin = np.cos(label.rotation_y), np.sin(label.rotation_y)
    turned = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]) @ np.array([x, y, z])
    return turned.T + np.array(label.location)


def _owners(frame: Frame, labels: list[Label]) -> list[int]:
    """Index of the object that each label describes: the one at its place."""
    centers = label_boxes(labels, np.linalg.inv(_calibration()[1]))[:, :3]
    apart = np.linalg.norm(centers[:, None] - frame.moment.boxes[None, :, :3], axis=-1)
    assert (apart.min(1) < _MM).all()
    return apart.argmin(1).tolist()


def _share_inside(pairs: list[tuple[Frame, Scan]], margin: float) -> float:
    """Of the points on labelled cars, by what their rays hit, the share that is in the car's box.

    Args:
        pairs: frames, and a scan of each.
        margin: metres that boxes are larger to all sides.
    """
    inside = total = 0
    for frame, result in pairs:
        cars = [label for label in frame.labels if label.type == "Car"]
        boxes = label_boxes(cars, np.linalg.inv(_calibration()[1])).astype(np.float64)
        boxes[:, 2] -= margin
        boxes[:, 3:6] += 2 * margin
        for box, owner in zip(boxes, _owners(frame, cars), strict=True):
            points = result.points[result.owner == owner].astype(np.float64)
            inside += int(points_in_boxes(points, box[None]).sum())
            total += len(points)
    assert total > 1000
    return inside / total


def test_points_on_a_labelled_car_lie_in_its_box(frames: list[Frame]) -> None:
    """What is claimed of 98 % is claimed of the geometry: of rays without noise."""
    config = LidarConfig(range_noise=0.0)
    pairs = [
        (frame, scan(frame.moment, RayCaster(frame.moment.mesh.triangles), config, _noise()))
        for frame in frames
    ]
    assert _share_inside(pairs, _MM) >= 0.98


def _noise() -> np.random.Generator:
    return np.random.default_rng(0)


def test_range_noise_moves_points_out_of_their_box_by_no_more_than_itself(
    frames: list[Frame],
) -> None:
    """Of the scans as they are delivered, of several seeds.

    The visible sides of a car nearly touch its box, so that a noise of 2 cm puts some of their
    points outside: about one in eight, of 10,000 to 16,000 in each of four seeds. That is not 98 %
    inside; of boxes that are 2 cm larger to all sides it is.
    """
    camera = CameraConfig(width=310, height=94, fx=180, fy=180, cx=152, cy=43)  # for speed
    more = [render_frame(SynthConfig(1, seed, camera=camera), 0) for seed in (7, 11)]
    delivered = [(frame, frame.scan) for frame in (*frames, *more)]
    assert 0.84 < _share_inside(delivered, 0.0) < 0.92
    assert _share_inside(delivered, 0.02) > 0.97
    assert _share_inside(delivered, 0.05) > 0.995


def test_points_of_other_things_lie_in_no_car(frames: list[Frame]) -> None:
    for frame in frames:
        cars = [label for label in frame.labels if label.type == "Car"]
        boxes = label_boxes(cars, np.linalg.inv(_calibration()[1])).astype(np.float64)
        boxes[:, 2] += 0.05  # the road is at the bottom face
        boxes[:, 3:5] -= 0.1
        street = frame.scan.points[frame.scan.owner == -1].astype(np.float64)
        assert points_in_boxes(street, boxes).any(1).mean() < 0.002


def test_depth_of_the_picture_agrees_with_the_lidar(frames: list[Frame]) -> None:
    """With the LiDAR's noise on. Inverse depth is linear over the image of a plane."""
    p2, rectified_from_lidar = _calibration()
    for frame in frames:
        pixels, depth = _project(frame.scan.points[:, :3], p2 @ rectified_from_lidar)
        height, width = frame.picture.depth.shape
        seen = (pixels > 0).all(1) & (pixels < (width - 2, height - 2)).all(1) & (depth > 0)
        pixels, depth, owner = pixels[seen], depth[seen], frame.scan.owner[seen]
        column, row = np.floor(pixels).astype(int).T
        a, b = (pixels - np.floor(pixels)).T
        near = 1 / frame.picture.depth
        inverse = (near[row, column] * (1 - a) + near[row, column + 1] * a) * (1 - b)
        inverse += (near[row + 1, column] * (1 - a) + near[row + 1, column + 1] * a) * b
        rendered = 1 / np.maximum(inverse, 1e-6)  # 0 where a point's pixels show the sky
        assert seen.sum() > 5000
        assert np.median(np.abs(rendered - depth)) < 0.02
        assert (frame.picture.owner[row, column] == owner).mean() > 0.95


def test_2d_labels_are_the_projected_boxes(frames: list[Frame]) -> None:
    p2, _ = _calibration()
    compared = 0
    for frame in frames:
        for label in frame.labels:
            if label.is_object and label.truncated == 0:
                pixels, _ = _project(_label_corners(label), p2)
                expected = [*pixels.min(0), *pixels.max(0)]
                np.testing.assert_allclose(label.bbox, expected, atol=1)
                compared += 1
    assert compared > 15


def test_rendered_objects_fill_their_2d_labels(frames: list[Frame]) -> None:
    """An unoccluded object's pixels lie in its 2D box to 1 px, and reach near its borders."""
    compared = 0
    for frame in frames:
        labels = [label for label in frame.labels if label.is_object]
        for label, owner in zip(labels, _owners(frame, labels), strict=True):
            rows, columns = np.nonzero(frame.picture.owner == owner)
            if label.occluded or label.truncated or len(rows) < 200:
                continue
            left, top, right, bottom = label.bbox
            found = np.array([columns.min(), rows.min(), columns.max(), rows.max()])
            assert (found[:2] >= (left - 1, top - 1)).all()
            assert (found[2:] <= (right + 1, bottom + 1)).all()
            size = np.array([right - left, bottom - top])
            if label.type == "Car":  # a person's box has more air in it
                assert (found[2:] - found[:2] > 0.75 * size - 2).all()
            compared += 1
    assert compared >= 5
