"""What looks wrong in calibrations, and what doesn't: small streets made of points."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd3d_core.data.calibration_check import (
    FEW,
    CalibrationSample,
    Finding,
    check_calibration,
    common_findings,
    few_samples,
    kitti_sample,
    warn_if_calibration_looks_wrong,
)
from kd3d_core.data.kitti import KittiDataset
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera

QUARTER_TURNS = [
    turn
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
    if np.linalg.det(turn := np.eye(3)[list(order)] * signs) > 0
    and not np.array_equal(turn, np.eye(3))
]
ALONG_Y = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def camera(
    width: int = 640, height: int = 360, focal: float = 500, camera_height: float = 1.65
) -> PinholeCamera:
    projection = [[focal, 0, width / 2 - 6, 0], [0, focal, 0.45 * height, 0], [0, 0, 1, 0]]
    pose = virtual_lidar_from_camera(camera_height)
    return PinholeCamera(np.array(projection), width, height, pose)


def street(looks_around: bool = False) -> np.ndarray:
    """A road with walls on both sides and a car on it, as a LiDAR 1.73 m above sees them."""
    rng = np.random.default_rng(0)
    azimuth = rng.uniform(*((-np.pi, np.pi) if looks_around else (-0.8, 0.8)), 8000)
    distance = np.minimum(1.73 / np.tan(rng.uniform(0.03, 0.4, 8000)), 50)
    road = np.column_stack(
        [distance * np.cos(azimuth), distance * np.sin(azimuth), np.full(8000, -1.73)]
    )
    x = rng.uniform(-40 if looks_around else 8, 40, 2000)
    side = rng.choice([-7.0, 7.0], 2000)
    walls = np.column_stack([x, side, rng.uniform(-1.73, 1.5, 2000)])
    car = np.column_stack([rng.uniform(12, 12.2, 300), rng.uniform(-1, 1, 300), [-1.0] * 300])
    return np.concatenate([road[np.abs(road[:, 1]) < 7], walls, car])


def sample(looks_around: bool = False) -> CalibrationSample:
    boxes = np.array([[14.0, 0, -1.73, 4.2, 2.4, 1.6, 0]])
    rectangles = np.array([[280.0, 150, 360, 240]])
    return CalibrationSample("000000", camera(), street(looks_around), boxes, rectangles)


def kinds(checked: CalibrationSample) -> list[str]:
    return [finding.kind for finding in check_calibration(checked)]


def turned(checked: CalibrationSample, turn: np.ndarray) -> CalibrationSample:
    """As if the LiDAR's axes were others, its points and the extrinsics alike."""
    assert checked.points is not None
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    pose = matrix @ checked.camera.lidar_from_camera
    turned_camera = replace(checked.camera, lidar_from_camera=pose)
    return replace(checked, points=checked.points @ turn.T, camera=turned_camera, boxes=None)


def with_pose(
    checked: CalibrationSample, change: Callable[[np.ndarray], None]
) -> CalibrationSample:
    pose = checked.camera.lidar_from_camera.copy()
    change(pose)
    return replace(checked, camera=replace(checked.camera, lidar_from_camera=pose))


@pytest.mark.parametrize("looks_around", [False, True])
def test_nothing_looks_wrong_in_a_street(looks_around: bool) -> None:
    right = sample(looks_around)
    assert kinds(right) == []
    assert kinds(replace(right, points=None, boxes=None, rectangles=None)) == []
    assert kinds(replace(right, boxes=np.zeros((0, 7)), rectangles=np.zeros((0, 4)))) == []


@pytest.mark.parametrize("height", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("focal", [300.0, 500.0, 1500.0])
def test_other_rigs_look_right(height: float, focal: float) -> None:
    points = street() + np.array([0, 0, 1.73 - height])  # a LiDAR at the camera's height
    rig = camera(focal=focal, camera_height=1.73)
    assert kinds(CalibrationSample("000000", rig, points)) == []


def test_real_frames_look_right(tracking: KittiDataset, kitti_object: KittiDataset) -> None:
    for dataset in (tracking, kitti_object):
        assert [check_calibration(kitti_sample(frame)) for frame in dataset] == [[]] * len(dataset)


@pytest.mark.parametrize("looks_around", [False, True])
@pytest.mark.parametrize("turn", QUARTER_TURNS, ids=lambda turn: str(turn.astype(int).tolist()))
def test_turned_axes_are_noticed(turn: np.ndarray, looks_around: bool) -> None:
    right = sample(looks_around)
    assert right.points is not None
    assert "axes" in kinds(turned(right, turn))
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    pose = matrix @ right.camera.lidar_from_camera
    only_extrinsics = replace(right, camera=replace(right.camera, lidar_from_camera=pose))
    assert "axes" in kinds(only_extrinsics)
    only_points = kinds(replace(right, points=right.points @ turn.T, boxes=None))
    around_z = turn[2, 2] == 1
    if not (looks_around and around_z):  # nothing tells the directions apart there
        assert only_points == ["turned" if around_z else "up"]


def test_labels_tell_how_a_lidar_that_looks_around_is_turned() -> None:
    right = sample(looks_around=True)
    assert right.points is not None
    # Without walls no point lies 14 m to the left, at the height of a car.
    road = right.points[np.abs(right.points[:, 1]) < 6.9]
    assert kinds(replace(right, points=road)) == []
    (finding,) = check_calibration(replace(right, points=road @ ALONG_Y.T))
    assert finding.kind == "boxes"
    assert "0 of 1 labelled objects within 30 m" in finding.text


def test_a_finding_says_the_axis() -> None:
    (finding,) = check_calibration(turned(sample(), ALONG_Y))
    assert "looks along +y" in finding.text
    assert "top is towards +z" in finding.text


@pytest.mark.parametrize(
    ("factor", "like"), [(0.5, "629 x 325"), (0.7, "629 x 325"), (1.5, ""), (2.0, "")]
)
def test_resized_images_are_noticed(factor: float, like: str) -> None:
    right = sample()
    size = {"width": round(640 * factor), "height": round(360 * factor)}
    resized = replace(right, camera=replace(right.camera, **size))
    found = {finding.kind: finding.text for finding in check_calibration(resized)}
    assert like in found["principal_point"]
    assert f"{size['width']} x {size['height']}" in found["principal_point"]
    assert ("rectangles" in found) == (factor == 0.5)


def test_images_that_are_cut_at_the_top_are_no_mistake() -> None:
    cut = camera().cropped(0, 140, 640, 220)
    assert kinds(CalibrationSample("000000", cut)) == []


def test_stretched_images_are_noticed() -> None:
    stretched = replace(camera(), projection=camera().projection * [[2], [1], [1]], width=1280)
    assert kinds(CalibrationSample("000000", stretched)) == ["focal_lengths"]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda pose: pose.__setitem__((0, 3), -270.0), "distance", "270 m apart"),
        (lambda pose: pose.__setitem__((2, 3), -3.0), "road", "above the camera"),
        (lambda pose: pose.__setitem__((2, 3), 9.0), "road", "below the camera"),
    ],
)
def test_translations_that_cannot_be(change, kind: str, words: str) -> None:
    right = replace(sample(), boxes=None)
    (finding,) = check_calibration(with_pose(right, change))
    assert finding.kind == kind
    assert words in finding.text


def test_points_in_millimetres_upside_down_or_elsewhere() -> None:
    right = replace(sample(), boxes=None)
    assert right.points is not None
    assert kinds(replace(right, points=1000 * right.points)) == ["units"]
    assert kinds(replace(right, points=right.points * [1, 1, -1])) == ["up"]
    assert kinds(replace(right, points=right.points + np.array([0, 0, 60]))) == ["no_points"]


def test_few_points_say_nothing() -> None:
    right = sample()
    assert right.points is not None
    assert kinds(replace(right, points=right.points[:100] @ ALONG_Y.T)) == []


def test_findings_of_frames_are_counted() -> None:
    one, two = Finding("a", "first"), Finding("b", "second")
    lines = common_findings([[], [one], [one, two], [one]], list("wxyz"))
    assert lines == ["first (in 3 of 4 frames, the first is x)"]
    assert len(common_findings([[], [one], [one, two], [one]], list("wxyz"), 0.25)) == 2


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Twenty frames without points, whose images were halved after the calibration."""
    for part in ("image_2", "calib"):
        (tmp_path / part).mkdir()
    text = (
        "P2: 500 0 314 0 0 500 162 0 0 0 1 0\nR0_rect: 1 0 0 0 1 0 0 0 1\n"
        "Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n"
    )
    for number in range(20):
        Image.new("RGB", (320, 180)).save(tmp_path / "image_2" / f"{number:06d}.png")
        (tmp_path / "calib" / f"{number:06d}.txt").write_text(text)
    return tmp_path


def test_a_data_set_is_warned_about_once_for_each_kind(data_set: Path) -> None:
    (data_set / "calib" / "000019.txt").write_text("")
    frames = KittiDataset(data_set)
    assert len(list(few_samples(frames))) == FEW - 1
    assert [each.name for each in few_samples(frames)][:2] == ["000000", "000003"]
    lines: list[str] = []
    warn_if_calibration_looks_wrong(few_samples(frames), lines.append)
    (line,) = lines
    assert "principal point (314, 162)" in line
    assert f"in {FEW - 1} of {FEW - 1} frames" in line
    warn_if_calibration_looks_wrong([sample()], lines.append)
    assert len(lines) == 1
