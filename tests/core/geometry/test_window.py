"""Windows: the KB crop on KITTI, and pixels that stay where their camera says."""

import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from kd3d_core.errors import CalibrationError, ConfigError
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import ImageWindow, WindowConfig

# fx, cx, cy, width, height of the rectified camera 2 on KITTI's five recording days.
KITTI_DAYS = [
    (721.5377, 609.5593, 172.854, 1242, 375),
    (707.0493, 604.0814, 180.5066, 1224, 370),
    (718.3351, 600.3891, 181.5122, 1226, 370),
    (707.0912, 601.8873, 183.1104, 1226, 370),
    (718.856, 607.1928, 185.2157, 1241, 376),
]

WINDOWS = [
    WindowConfig((352, 1216), "crop", 721.5),
    WindowConfig((192, 640), "crop", 372.0),
    WindowConfig((384, 1280), "letterbox"),
    WindowConfig((256, 2000), "crop", None),  # wider than the image: padded
]


def camera_of(fx: float, cx: float, cy: float, width: int, height: int) -> PinholeCamera:
    projection = np.array([[fx, 0, cx, 0], [0, fx, cy, 0], [0, 0, 1, 0]])
    return PinholeCamera(projection, width, height, virtual_lidar_from_camera(1.65))


@pytest.mark.parametrize("day", KITTI_DAYS)
def test_crop_is_the_kb_crop_on_every_kitti_day(day):
    camera = camera_of(*day)
    window = WindowConfig((352, 1216), "crop", focal_px=721.5).window(camera)
    assert window.scale == 1
    assert (window.top, window.left) == (camera.height - 352, (camera.width - 1216) // 2)


@pytest.mark.parametrize("day", KITTI_DAYS)
@pytest.mark.parametrize("config", WINDOWS)
def test_pixels_move_with_the_intrinsics(day, config):
    """A blob drawn at a 3D point's pixel is found at that point's pixel in the window."""
    camera = camera_of(*day)
    point = np.array([[15.0, 2.0, -0.6]])
    (pixel,), _ = camera.project(point)
    v, u = np.mgrid[: camera.height, : camera.width]
    blob = np.exp(-((u - pixel[0]) ** 2 + (v - pixel[1]) ** 2) / 50)
    window = config.window(camera)
    seen = window.extract(torch.tensor(blob)[None, None].float())[0, 0].double()
    assert seen.shape == config.size
    rows = torch.arange(seen.shape[0])[:, None]
    columns = torch.arange(seen.shape[1])[None]
    centroid = torch.stack([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
    (expected,), _ = window.camera(camera).project(point)
    assert centroid.tolist() == pytest.approx(expected.tolist(), abs=0.05)


def test_other_cameras_are_brought_to_the_focal_length_of_training():
    camera = camera_of(1443.0754, 960, 540, 1920, 1080)
    window = WindowConfig((352, 1216), "crop", 721.5377).window(camera)
    moved = window.camera(camera)
    assert window.scale == pytest.approx(0.5)
    assert moved.focal_px == pytest.approx(721.5377)
    # The horizon lies where KITTI's crop has it, not at the window's top.
    assert moved.projection[1, 2] / 352 == pytest.approx((172.854 - 23) / 352, abs=2 / 352)


def test_a_small_image_is_padded_not_stretched():
    camera = camera_of(721.5, 320, 240, 640, 480)
    window = WindowConfig((352, 1216), "crop", 721.5).window(camera)
    seen = window.extract(torch.ones(1, 3, 480, 640))
    assert seen.shape == (1, 3, 352, 1216)
    assert seen.sum() == 3 * 352 * 640
    assert window.camera(camera).projection[0, 2] == pytest.approx(320 + (1216 - 640) / 2)


def test_letterbox_shows_the_whole_image_like_opencv():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.uniform(0, 255, (375, 1242, 3)).astype(np.float32), (0, 0), 4)
    camera = camera_of(*KITTI_DAYS[0])
    window = WindowConfig((384, 1280), "letterbox").window(camera)
    seen = window.extract(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    scaled = cv2.resize(image, None, fx=384 / 375, fy=384 / 375, interpolation=cv2.INTER_LINEAR)
    height, width = scaled.shape[:2]
    inner = slice(2, -2)
    np.testing.assert_allclose(
        seen.numpy()[:height, : width - 2][inner, inner],
        scaled[:, : width - 2][inner, inner],
        atol=0.5,
    )
    assert not seen[:, width:].any()


@pytest.mark.parametrize("day", KITTI_DAYS)
@pytest.mark.parametrize(("multiple", "margin"), [(14, 0.0), (32, 0.0), (1, 3.0)])
def test_fit_keeps_the_image_but_less_than_a_multiple_cut_evenly(day, multiple, margin):
    """Corners of the window seen in the image: inside, and as far from either border."""
    camera = camera_of(*day)
    window = WindowConfig((252, 252), "fit", multiple_of=multiple, margin=margin).window(camera)
    assert window.height % multiple == window.width % multiple == 0
    for first, side, whole in (
        (window.left, window.width, camera.width),
        (window.top, window.height, camera.height),
    ):
        before, after = first, window.scale * whole - first - side
        assert 0 <= before <= multiple / 2
        assert 0 <= after <= multiple / 2 + 1
        assert abs(before - after) < 2
    # The height counts, as it changes less; a margin leaves room for itself.
    rows = 252 - 2 * margin * np.sqrt(camera.height / 2) * window.scale
    assert abs(window.height - rows) <= max(multiple / 2, 2)


def test_windows_without_pixels_are_refused():
    for bad in ({"size": (0, 5)}, {"size": (5, 5), "multiple_of": 0}):
        with pytest.raises(ConfigError, match="positive"):
            WindowConfig(**bad)


@pytest.mark.parametrize(
    "settings",
    [{"size": (20000, 20000)}, {"size": (96, 10**30)}, {"size": (5, 5), "multiple_of": 10**30}],
)
def test_windows_larger_than_any_model_takes_are_refused(settings):
    with pytest.raises(ConfigError, match="at most 4096 pixels a side"):
        WindowConfig(**settings)
    WindowConfig((4096, 4096))


@pytest.mark.parametrize("day", KITTI_DAYS)
@pytest.mark.parametrize("mode", ["crop", "letterbox"])
def test_a_scaled_window_shows_the_same_in_another_resolution(day, mode):
    camera = camera_of(*day)
    whole = WindowConfig((192, 640), mode, focal_px=372.0)
    half = whole.scaled(0.5)
    assert half.size == (96, 320)
    full_camera, half_camera = (c.window(camera).camera(camera) for c in (whole, half))
    assert half_camera.focal_px == pytest.approx(0.5 * full_camera.focal_px)
    ends = 0.5 * full_camera.projection[:2, 2]
    assert half_camera.projection[:2, 2] == pytest.approx(ends, abs=1)  # cut at whole pixels


def test_a_window_in_the_images_own_resolution_cannot_be_scaled():
    with pytest.raises(ConfigError, match="focal_px"):
        WindowConfig((352, 1216), "crop").scaled(0.5)


@pytest.mark.parametrize("day", KITTI_DAYS)
@pytest.mark.parametrize("config", WINDOWS)
def test_restored_is_the_reverse_of_extract(day, config):
    """A plane survives both ways, apart from the borders; what the window doesn't show is 0."""
    camera = camera_of(*day)
    plane = 5 + torch.arange(camera.width) / 50 + torch.arange(camera.height)[:, None] / 20
    window = config.window(camera)
    again = window.restored(window.extract(plane[None, None])[:, 0], camera)[0]
    assert again.shape == plane.shape
    height, width = (side / window.scale for side in config.size)
    shown = min(1, height / camera.height) * min(1, width / camera.width)
    assert (again > 0).float().mean() == pytest.approx(shown, abs=0.02)
    inner = torch.zeros_like(again, dtype=torch.bool)
    inner[4:-4, 4:-4] = functional.avg_pool2d((again > 0).float()[None], 9, 1)[0] == 1
    assert (again - plane)[inner].abs().max() < 0.05


@pytest.mark.parametrize("scale", [2.01, 3.3, 7.0])
def test_a_window_that_is_cut_first_shows_what_scaling_the_whole_image_would(scale):
    image = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (2, 3, 40, 60))).float()
    window = ImageWindow(scale, left=-12, top=30, width=100, height=int(40 * scale))
    whole = functional.interpolate(
        image, scale_factor=scale, mode="bilinear", recompute_scale_factor=False
    )
    height, width = whole.shape[-2:]
    expected = functional.pad(whole, (12, 88 - width, -30, 30 + window.height - height))
    seen = window.extract(image)
    # A last row or column that is only partly of the image is 0 in `expected`.
    assert seen.shape == expected.shape
    np.testing.assert_allclose(
        seen[..., : height - 30, :], expected[..., : height - 30, :], atol=0.02
    )
    assert not seen[..., :12].any()
    assert not seen[..., height + 1 - 30 :, :].any()


def test_a_window_needs_no_more_memory_than_itself(monkeypatch):
    monkeypatch.setattr(functional, "interpolate", None)
    window = ImageWindow(24.0, left=22_000, top=12_000, width=1216, height=352)
    assert window.extract(torch.ones(1, 3, 1080, 1920)).mean() == 1


@pytest.mark.parametrize(("focal", "scale"), [(5.0, "144"), (1e6, "0.00072")])
def test_scales_are_bounded(focal, scale):
    camera = camera_of(focal, 320, 240, 640, 480)
    with pytest.raises(
        CalibrationError, match=rf"640 x 480 .* {re.escape(f'{focal:g}')} px .* by {scale}"
    ):
        WindowConfig((352, 1216), "crop", 721.5).window(camera)


def test_settings_of_windows_are_read_without_torch():
    code = "import sys, kd3d_core.geometry.window; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
