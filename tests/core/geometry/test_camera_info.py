"""CameraInfo as a camera: raw and rectified, regions, binning, and what can't be."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from kd3d_core.errors import CalibrationError
from kd3d_core.geometry.camera_info import ImageSizeError, camera_from_info, camera_info_doubts
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.messages.types import RegionOfInterest

WIDTH, HEIGHT = 1242, 375
PROJECTION = np.array(
    [[721.5377, 0, 609.5593, 44.85728], [0, 721.5377, 172.854, 0.2163791], [0, 0, 1, 0.002745884]]
)
FULL = RegionOfInterest()
POSE = virtual_lidar_from_camera(1.65)


@dataclass
class Info:
    """A `sensor_msgs/CameraInfo`, with lists as rosbags and arrays as rclpy has them."""

    height: int = HEIGHT
    width: int = WIDTH
    distortion_model: str = "plumb_bob"
    d: Any = field(default_factory=lambda: [0.0] * 5)
    k: Any = field(default_factory=lambda: PROJECTION[:, :3].reshape(9).tolist())
    r: Any = field(default_factory=lambda: np.eye(3).reshape(9).tolist())
    p: Any = field(default_factory=lambda: PROJECTION.reshape(12))
    binning_x: int = 0
    binning_y: int = 0
    roi: RegionOfInterest = FULL


def test_camera_info_of_rectified_images_uses_p_alone() -> None:
    # As kitti2bag writes it: the raw K and D beside rectified images.
    info = Info(d=[-0.37, 0.2, 0, 0, -0.07], k=[950.0, 0, 690, 0, 950, 240, 0, 0, 1])
    camera = camera_from_info(info, POSE)
    np.testing.assert_array_equal(camera.projection, PROJECTION)
    assert (camera.width, camera.height) == (WIDTH, HEIGHT)
    assert camera.distortion is None


def test_camera_info_of_raw_images_keeps_the_distortion() -> None:
    turn = Rotation.from_rotvec([0.01, -0.02, 0.005]).as_matrix()
    info = Info(d=[-0.37, 0.2, 0.001, 0.002, -0.07], r=turn.reshape(9))
    camera = camera_from_info(info, POSE, rectified=False)
    assert camera.distortion is not None
    assert camera.distortion.model == "plumb_bob"
    np.testing.assert_array_equal(camera.distortion.coefficients, info.d)
    np.testing.assert_array_equal(camera.distortion.rectified_from_raw, turn)
    np.testing.assert_array_equal(camera.distortion.intrinsics.reshape(9), info.k)
    assert camera_from_info(Info(), POSE, rectified=False).distortion is None


def test_raw_images_without_distortion_are_rectified_where_k_is_not_p() -> None:
    info = Info(d=[], distortion_model="", k=[600, 0, 310, 0, 600, 240, 0, 0, 1],
                p=[500, 0, 320, 0, 0, 500, 240, 0, 0, 0, 1, 0], width=640, height=480)  # fmt: skip
    camera = camera_from_info(info, POSE, rectified=False)
    assert camera.distortion is not None
    ray = np.array([0.1, -0.05, 1.0])
    np.testing.assert_allclose(camera.distortion.raw_pixels(ray), (370, 210))


@pytest.mark.parametrize("p", [[0.0] * 12, []])
def test_camera_info_without_p_falls_back_to_k(p: list[float]) -> None:
    camera = camera_from_info(Info(p=p), POSE)
    np.testing.assert_array_equal(camera.projection[:, :3].reshape(9), Info().k)
    np.testing.assert_array_equal(camera.projection[:, 3], 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"p": [0.0] * 12, "k": [0.0] * 9}, "focal lengths are 0 and 0"),
        ({"p": [np.nan] * 12}, "P has values that are not finite"),
        ({"p": [np.inf, *PROJECTION.reshape(12)[1:]]}, "P has values that are not finite"),
        ({"p": [-700.0, *PROJECTION.reshape(12)[1:]]}, "focal"),
        ({"p": [0.0] * 12, "k": [np.nan] * 9}, "K has values that are not finite"),
        ({"p": [0.0] * 12, "k": [1.0] * 8}, "K has 8 numbers"),
        ({"p": [700, 0, 600, 0, 0, 700, 180, 0, 0, 0, 2, 0]}, "last row"),
        ({"width": 0}, "0 x 375 is not positive"),
        ({"height": -3}, "not positive"),
    ],
)
def test_bad_camera_infos_say_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason):
        camera_from_info(Info(**change), POSE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"d": [0.1] * 3}, "D has 3 coefficients, plumb_bob has 4 or 5"),
        ({"d": [0.1] * 5, "distortion_model": "rational_polynomial"}, "has 8"),
        ({"d": [0.1] * 5, "distortion_model": "equidistant"}, "has 4"),
        ({"d": [0.1] * 5, "distortion_model": "kannala"}, "'kannala' is unknown"),
        ({"d": [np.nan] * 5}, "D has values that are not finite"),
        ({"d": [0.1] * 5, "r": [2.0, 0, 0, 0, 1, 0, 0, 0, 1]}, "R is no rotation"),
        ({"d": [0.1] * 5, "r": [-1.0, 0, 0, 0, 1, 0, 0, 0, 1]}, "R is no rotation"),
        ({"d": [0.1] * 5, "k": [0.0] * 9}, "K's focal lengths"),
    ],
)
def test_bad_distortion_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(CalibrationError, match=reason):
        camera_from_info(Info(**change), POSE, rectified=False)


# Binning and regions of interest

# A camera of 1280 x 960, calibrated at that resolution.
K = np.array([[900.0, 0, 640], [0, 910, 480], [0, 0, 1]])
P = np.array([[850.0, 0, 630, -85], [0, 850, 470, 0], [0, 0, 1, 0]])


def full_resolution(**changes: Any) -> Info:
    fields = {"width": 1280, "height": 960, "k": K.reshape(9), "p": P.reshape(12)}
    return Info(**{**fields, "d": [-0.3, 0.1, 0, 0, 0], **changes})


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"binning_x": 2, "binning_y": 2}, (640, 480)),
        ({"binning_x": 4}, (320, 960)),
        ({"roi": RegionOfInterest(100, 60, 800, 1100)}, (1100, 800)),
        ({"roi": RegionOfInterest(320, 480, 480, 640), "binning_x": 2, "binning_y": 2}, (320, 240)),
        ({"roi": RegionOfInterest(100, 60)}, (1180, 900)),
        ({"roi": RegionOfInterest(0, 0, 960, 1280, do_rectify=True)}, (1280, 960)),
    ],
)
@pytest.mark.parametrize("rectified", [True, False])
def test_pixels_of_the_full_resolution_are_found_in_the_image(
    changes: dict[str, Any], size: tuple[int, int], rectified: bool
) -> None:
    info = full_resolution(**changes)
    full = camera_from_info(full_resolution(), POSE, rectified)
    camera = camera_from_info(info, POSE, rectified, size)
    assert (camera.width, camera.height) == size
    assert camera_from_info(info, POSE, rectified).width == size[0]
    points = np.array([[10.0, 2, -1], [20, -3, 0.5]])
    offset = np.array([info.roi.x_offset, info.roi.y_offset])
    binning = np.array([max(info.binning_x, 1), max(info.binning_y, 1)])
    pixels, depth = full.project(points)
    seen, same_depth = camera.project(points)
    np.testing.assert_allclose(seen, (pixels - offset) / binning)
    np.testing.assert_allclose(same_depth, depth)
    if not rectified:
        assert full.distortion is not None
        assert camera.distortion is not None
        rays = np.array([[0.1, -0.2, 1], [-0.3, 0.1, 1]])
        raw, raw_seen = full.distortion.raw_pixels(rays), camera.distortion.raw_pixels(rays)
        np.testing.assert_allclose(raw_seen, (raw - offset) / binning)


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 640, "height": 480, "binning_x": 2, "binning_y": 2},
        {"width": 640, "height": 480, "roi": RegionOfInterest(320, 240, 480, 640)},
        {"roi": RegionOfInterest(0, 0, 480, 640), "binning_x": 2, "binning_y": 2},
    ],
    ids=["size is the binned one", "size is the region's", "region in binned pixels"],
)
def test_drivers_that_write_the_size_of_the_image_are_understood(changes: dict[str, Any]) -> None:
    info = full_resolution(**changes)
    camera = camera_from_info(info, POSE, size=(640, 480))
    assert (camera.width, camera.height) == (640, 480)
    center = (P[:2, 2] - (info.roi.x_offset, info.roi.y_offset)) / max(info.binning_x, 1)
    np.testing.assert_allclose(camera.projection[:2, 2], center)


def test_a_size_that_does_not_divide_may_be_rounded_either_way() -> None:
    info = full_resolution(width=1281, height=961, binning_x=2, binning_y=2)
    for size in ((640, 480), (641, 481)):
        assert camera_from_info(info, POSE, size=size).width == size[0]


@pytest.mark.parametrize("width", [640, 1280])
def test_a_calibration_of_the_binned_image_is_noticed_and_kept(width: int) -> None:
    # As avt_vimba_camera sends it after a calibration with binned images.
    p = [425, 0, 315, 0, 0, 425, 235, 0, 0, 0, 1, 0]
    info = full_resolution(width=width, height=width * 3 // 4, p=p, binning_x=2, binning_y=2)
    camera = camera_from_info(info, POSE, size=(640, 480))
    assert camera.projection[:2, 2].tolist() == [315, 235]
    doubts = camera_info_doubts(info, (640, 480), True, "/camera/image_rect")
    assert len(doubts) == 1
    assert "binning 2 x 2" in doubts[0]
    assert camera_info_doubts(full_resolution(), (1280, 960), True, "/camera/image_rect") == ()


def test_k_and_p_are_told_apart_one_by_one() -> None:
    # As Baxter sends it: P of the region, K of the full resolution.
    p = [850, 0, 310, 0, 0, 850, 230, 0, 0, 0, 1, 0]
    info = full_resolution(width=640, height=480, p=p, roi=RegionOfInterest(320, 240, 480, 640))
    camera = camera_from_info(info, POSE, rectified=False)
    assert camera.projection[:2, 2].tolist() == [310, 230]
    assert camera.distortion is not None
    assert camera.distortion.intrinsics[:2, 2].tolist() == [320, 240]


@pytest.mark.parametrize(
    ("changes", "size", "reason"),
    [
        ({}, (640, 480), "1280 x 960: .* scaled by 0.5, publish the copy's"),
        ({"binning_x": 2, "binning_y": 2}, (500, 480), "binning 2 x 2 .* so 640 x 480: both"),
        ({"binning_x": 4000}, (640, 480), "binning 4000 x 1 .* so 0 x 960"),
        ({"roi": RegionOfInterest(9, 8, 70, 60)}, (7, 70), r"60 x 70 at \(9, 8\), so 60 x 70"),
    ],
)
def test_sizes_that_do_not_fit_say_what_was_expected(
    changes: dict[str, Any], size: tuple[int, int], reason: str
) -> None:
    with pytest.raises(ImageSizeError, match=f"image is {size[0]} x {size[1]} .* says .*{reason}"):
        camera_from_info(full_resolution(**changes), POSE, size=size)


# Views that can't be


@pytest.mark.parametrize(
    ("focal", "center", "reason"),
    [
        (30.0, (960, 540), "88 degrees off"),
        (1e-30, (960, 540), "90 degrees off"),
        (900.0, (1e9, 540), "far beyond"),
        (900.0, (960, -1e9), "far beyond"),
        (200.0, (1919, 540), "84 degrees off"),
        (1e9, (960, 540), "degrees only"),
        (1e300, (960, 540), "degrees only"),
    ],
)
def test_impossible_views_are_refused_with_numbers(
    focal: float, center: tuple[float, float], reason: str
) -> None:
    p = [focal, 0, center[0], 0, 0, focal, center[1], 0, 0, 0, 1, 0]
    info = Info(width=1920, height=1080, p=p)
    with pytest.raises(CalibrationError, match=rf"focal length .* 1920 x 1080: .*{reason}"):
        camera_from_info(info, POSE)


def test_focal_lengths_that_differ_too_much_are_refused() -> None:
    p = [900, 0, 960, 0, 0, 100_000, 540, 0, 0, 0, 1, 0]
    with pytest.raises(CalibrationError, match=r"900 x 100000 px|degrees only"):
        camera_from_info(Info(width=1920, height=1080, p=p), POSE)


@pytest.mark.parametrize(
    ("focal", "width", "height", "row"),
    [(300, 1920, 1080, 540), (8000, 1920, 1080, 540), (700, 640, 200, -100)],
    ids=["wide", "long", "lower part of an image"],
)
def test_unusual_views_are_taken(focal: float, width: int, height: int, row: float) -> None:
    p = [focal, 0, width / 2, 0, 0, focal, row, 0, 0, 0, 1, 0]
    assert camera_from_info(Info(width=width, height=height, p=p), POSE).focal_px == focal


# Raw or rectified

DISTORTED = [-0.3, 0.1, 0, 0, 0]


@pytest.mark.parametrize(
    ("topic", "d", "rectified", "said"),
    [
        ("/camera/image_raw", DISTORTED, True, "image_is_rectified to false"),
        ("", DISTORTED, True, "image_is_rectified to false"),
        ("/camera/direct", DISTORTED, True, "image_is_rectified to false"),
        ("/camera/image_raw", DISTORTED, False, ""),
        ("/camera/image_raw", [0.0] * 5, True, ""),
        ("/camera/image_raw", [], True, ""),
        ("/camera/image_rect", DISTORTED, True, ""),
        ("/zed/rgb_rect/image/compressed", DISTORTED, True, ""),
        ("/camera/image_rect_color", DISTORTED, False, "image_is_rectified to true"),
    ],
)
def test_what_cannot_be_told_is_said(
    topic: str, d: list[float], rectified: bool, said: str
) -> None:
    doubts = camera_info_doubts(Info(d=d), (WIDTH, HEIGHT), rectified, topic)
    assert len(doubts) == bool(said)
    assert all(said in doubt and topic in doubt for doubt in doubts)


def test_a_projection_that_was_never_rectified_is_named() -> None:
    (copied,) = camera_info_doubts(Info(d=DISTORTED), (WIDTH, HEIGHT), True)
    other = replace(Info(d=DISTORTED), p=[700, 0, 610, 0, 0, 700, 170, 0, 0, 0, 1, 0])
    (rectified,) = camera_info_doubts(other, (WIDTH, HEIGHT), True)
    assert "no P other than K" in copied
    assert "no P other than K" not in rectified
