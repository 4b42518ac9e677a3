"""CameraDetector: one image in, points and boxes out."""

import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from kd3d_core.depth.config import DepthConfig
from kd3d_core.detectors.build import random_detector
from kd3d_core.detectors.fusion import ImageFeatures, sample_pixels
from kd3d_core.detectors.voxels import assign_dense
from kd3d_core.errors import ConfigError, ImageError, WeightsError
from kd3d_core.geometry.camera import PinholeCamera, rectification_grid
from kd3d_core.geometry.lens import Distortion
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.build import make_model
from kd3d_core.models.card import CameraRange, ModelCard, TrainingFrames
from kd3d_core.models.chain import PseudoLidarModel
from kd3d_core.models.cloud import PseudoLidar
from kd3d_core.models.config import load_model_config
from kd3d_core.runtime.detections import Detections
from kd3d_core.runtime.pipeline import CameraDetector


class Ramp(nn.Module):
    """A cheap stand-in for a depth network: a street, near below and far above."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = torch.linspace(0, 1, images.shape[2], device=images.device)
        depth = 60 - 55 * rows
        return depth[None, :, None].expand(1, -1, images.shape[3])


@pytest.fixture(scope="module")
def lite() -> CameraDetector:
    return CameraDetector.from_config("lite", device="cpu")


@pytest.fixture(scope="module")
def camera() -> PinholeCamera:
    projection = np.array([[721.5, 0, 609.6, 0], [0, 721.5, 172.9, 0], [0, 0, 1, 0]])
    return PinholeCamera(projection, 1242, 375, virtual_lidar_from_camera(1.65))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (25, 83, 3), np.uint8)
    return cv2.resize(noise, (1242, 375), interpolation=cv2.INTER_CUBIC)


def same(one, other) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("points", "boxes", "scores", "labels")
    )


def test_the_same_image_gives_the_same_answer(lite, camera, image):
    first, again = lite(image, camera), lite(image, camera)
    assert same(first, again)
    assert not same(first, lite(image[:, ::-1], camera))
    assert first.points.dtype == first.boxes.dtype == np.float32
    assert 0 < len(first.points) <= round(0.1 * 192 * 640)
    assert np.isfinite(first.points).all()
    assert 0 < len(first.boxes) <= 50
    assert (np.diff(first.scores) <= 0).all()
    assert set(first.labels) <= {0, 1, 2}
    assert first.depth.shape == (192, 640)
    assert list(first.timings) == ["upload", "depth", "pseudo_lidar", "detect", "download"]


def test_the_depth_image_is_that_of_the_points(lite, camera, image):
    found = lite(image, camera)
    depth = found.depth_image(camera)
    assert (depth.shape, depth.dtype) == ((375, 1242), np.float32)
    places = np.c_[found.points[:, :3], np.ones(len(found.points))] @ camera.image_from_lidar.T
    columns, rows = np.rint(places[:, :2] / places[:, 2:]).astype(int).T
    error = np.abs(depth[rows, columns] / places[:, 2] - 1)
    assert np.median(error) < 0.02
    # The window leaves out the uppermost rows.
    assert np.isnan(depth[0]).all()
    assert np.isnan(depth).mean() < 0.1
    assert replace(found, depth=None).depth_image(camera) is None


def test_the_window_of_depth_is_the_networks_where_the_configuration_has_none(lite):
    config = replace(lite.model.config, depth=DepthConfig("somewhere", type="auto"))
    model = PseudoLidarModel(config, lite.model.pseudo_lidar, lite.model.detector)
    assert config.depth.window is None
    assert model.depth_window == lite.model.pseudo_lidar.config.window


def test_strides_do_not_matter(lite, camera, image):
    bgr = np.ascontiguousarray(image[..., ::-1])
    assert same(lite(image, camera), lite(bgr[..., ::-1], camera))


def test_random_weights_are_called_untrained(lite):
    assert not lite.trained
    assert "UNTRAINED" in lite.description
    assert lite.class_names == ("Pedestrian", "Cyclist", "Car")


def test_a_camera_unlike_those_of_the_training_is_noticed(lite, camera):
    assert lite.notices(camera) == {}
    trained = CameraRange.of([replace(camera, lidar_from_camera=virtual_lidar_from_camera(0.8))])
    config = replace(lite.model.config, card=ModelCard(TrainingFrames("yards", camera=trained)))
    model = PseudoLidarModel(config, lite.model.pseudo_lidar, lite.model.detector)
    detector = CameraDetector(model)
    assert list(detector.notices(camera)) == ["camera_height"]
    assert detector.notices(camera) is detector.notices(camera)
    # Through the depth network's window, which undoes another focal length.
    half = replace(camera.resized(0.5), lidar_from_camera=virtual_lidar_from_camera(0.8))
    assert list(detector.notices(half)) == ["camera_resolution"]


def test_each_class_has_a_threshold_of_its_own():
    scores = np.array([0.9, 0.5, 0.4, 0.3], np.float32)
    found = Detections(
        np.zeros((0, 4), np.float32), np.arange(28, dtype=np.float32).reshape(4, 7), scores,
        np.array([0, 1, 1, 0]),
    )  # fmt: skip
    kept = found.above((0.4, 0.5))
    assert kept.scores.tolist() == scores[:2].tolist()
    assert kept.boxes[:, 0].tolist() == [0, 7]
    assert kept.labels.tolist() == [0, 1]
    assert found.above((0, 0)) is found


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (np.zeros((375, 1240, 3), np.uint8), "1240 x 375"),
        (np.zeros((375, 1242), np.uint8), "uint8 RGB"),
        (np.zeros((375, 1242, 3), np.float32), "float32"),
        (np.zeros((0, 0, 3), np.uint8), "0 x 0"),
    ],
)
def test_images_that_do_not_fit_are_refused(lite, camera, bad, reason):
    with pytest.raises(ImageError, match=reason):
        lite(bad, camera)


def test_full_mvxnet_gives_the_same_boxes_twice(camera, image):
    """33.8 M parameters with sparse convolution, on the CPU; of a smaller image and range."""
    config = load_model_config("mvxnet_kitti")
    window = replace(config.detector.window, size=(128, 416), focal_px=240.0)
    config = replace(
        config,
        depth=replace(config.depth, window=window),
        detector=replace(
            config.detector, weights="random", window=window,
            point_cloud_range=(0.0, -12.8, -3.0, 25.6, 12.8, 1.0),
        ),
    )  # fmt: skip
    network = random_detector(config.detector, seed=0)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(33.8e6, rel=0.01)
    chain = PseudoLidar(Ramp(), config.depth, config.pseudo_lidar, "fp32")
    detector = CameraDetector(PseudoLidarModel(config, chain, network))
    first, again = detector(image, camera), detector(image, camera)
    assert same(first, again)
    assert len(first.boxes) > 0
    assert len(first.points) > 3000


@torch.inference_mode()
def test_half_precision_keeps_depth_fine(lite, camera, image):
    """bf16 as on a GPU, on the CPU; of a small image, as few CPUs have units for it."""
    window = WindowConfig((64, 192), "crop", 110.0)
    lite_config = lite.model.config
    config = replace(
        lite_config,
        depth=replace(lite_config.depth, window=window),
        detector=replace(
            lite_config.detector, window=window, point_cloud_range=(0, -3.2, -3, 6.4, 3.2, 1)
        ),
    )
    exact, rough = (
        CameraDetector(make_model(config, torch.device("cpu"), precision))(image, camera).depth
        for precision in ("fp32", "bf16")
    )
    assert exact.shape == window.size
    assert rough.dtype == torch.float32
    assert len(rough.unique()) > 0.5 * len(exact.unique())
    assert (rough - exact).abs().median() < 0.5


@torch.inference_mode()
def test_half_precision_looks_features_up_at_the_right_pixels(lite, camera):
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([3.0, -10, -1.7, 0]), torch.tensor([63.0, 10, 0.3, 1])
    points = low + torch.rand(500, 4, generator=generator) * (high - low)
    columns = torch.arange(1242.0).expand(1, 1, 375, -1)
    projection = torch.from_numpy(camera.image_from_lidar).float()[None]
    seen = ImageFeatures((columns,) * 4, projection, (375, 1242))
    voxels = assign_dense(points, torch.zeros(500).long(), None, 1, lite.model.detector.grid)
    with torch.autocast("cpu", torch.bfloat16):
        found = sample_pixels(seen, voxels)[:, 0]
    pixels, _ = camera.project(points)
    inside = ((pixels > 2) & (pixels < torch.tensor([1239, 372]))).all(1)
    assert inside.sum() > 200
    # Half a pixel beside the centre, as mmdet3d samples.
    torch.testing.assert_close(found[inside], pixels[inside, 0] - 0.5, atol=0.05, rtol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_lite_waits_for_the_gpu_once_per_image(camera, image, precision):
    """All is queued at once; only the copy of the results waits."""
    detector = CameraDetector.from_config("lite", "cuda", precision)
    detector(image, camera)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            detector(image, camera)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(w.message) for w in caught if "synchronizing" in str(w.message)]
    assert len(waits) <= 1, waits


def test_nothing_beyond_the_border_of_a_small_image_becomes_a_point(lite):
    """A camera that sees less than the window: zero padding is no obstacle."""
    projection = np.array([[525.0, 0, 319.5, 0], [0, 525, 239.5, 0], [0, 0, 1, 0]])
    small = PinholeCamera(projection, 640, 480, virtual_lidar_from_camera(0.6))
    points = lite(np.full((480, 640, 3), 127, np.uint8), small).points
    pixels, _ = small.project(points)
    assert len(points) > 1000
    assert (pixels >= -1).all()
    assert (pixels <= (640, 480)).all()
    assert np.ptp(pixels[:, 0]) > 600


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("plumb_bob", [-0.37, 0.2, 0.001, -0.0007, -0.07]),
        ("rational_polynomial", [0.1, -0.05, 0.001, 0.002, 0.01, 0.2, -0.02, 0.003]),
        ("equidistant", [-0.02, 0.01, -0.003, 0.0005]),
    ],
)
def test_raw_images_are_rectified_like_opencv_does(camera, image, model, coefficients):
    intrinsics = np.array([[700.0, 0, 620], [0, 705, 180], [0, 0, 1]])
    rotation = cv2.Rodrigues(np.array([0.01, -0.02, 0.015]))[0]
    raw_camera = replace(
        camera, distortion=Distortion(model, np.array(coefficients), intrinsics, rotation)
    )
    grid = torch.from_numpy(rectification_grid(raw_camera))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    ours = functional.grid_sample(pixels, grid[None], align_corners=True)[0].permute(1, 2, 0)
    module = cv2.fisheye if model == "equidistant" else cv2
    maps = module.initUndistortRectifyMap(
        intrinsics, np.array(coefficients), rotation, camera.projection[:, :3],
        (camera.width, camera.height), cv2.CV_32FC1,
    )  # fmt: skip
    theirs = cv2.remap(image.astype(np.float32), *maps, cv2.INTER_LINEAR)
    inner = slice(30, -30)
    difference = np.abs(ours.numpy()[inner, inner] - theirs[inner, inner])
    # OpenCV interpolates in steps of 1/32 pixel.
    assert np.percentile(difference, 99) < 2.0


def test_a_raw_camera_changes_what_the_detector_sees(lite, camera, image):
    distortion = Distortion(
        "plumb_bob", np.array([-0.37, 0.2, 0, 0, 0]), camera.projection[:, :3], np.eye(3)
    )
    assert not same(lite(image, camera), lite(image, replace(camera, distortion=distortion)))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (("encoder: b0", "encodr: b0"), "depth.encodr"),
        (("max_depth: 80", "max_depth: far"), "depth.max_depth"),
        (("size: [192, 640]", "size: [192]"), "size"),
        (("size: [192, 640]", "size: [200, 640]"), "multiples of 32"),
        (("keep_fraction: 0.1", "keep_fraction: 7"), "keep_fraction"),
        (("type: lite", "type: heavy"), "detector.type"),
    ],
)
def test_wrong_configurations_name_file_and_key(tmp_path, edit, reason):
    from kd3d_core.paths import share_dir

    text = (share_dir() / "config" / "models" / "lite.yaml").read_text()
    assert edit[0] in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(*edit, 1))
    with pytest.raises(ConfigError, match=reason) as caught:
        CameraDetector.from_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_models_and_devices_and_missing_weights_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="lite"):
        CameraDetector.from_config("light")
    with pytest.raises(ConfigError, match="auto"):
        CameraDetector.from_config("lite", device="gpu")
    monkeypatch.setenv("KD3D_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="kd3d-weights get glpn-kitti"):
        CameraDetector.from_config("mvxnet_kitti")
