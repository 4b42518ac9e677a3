"""One chain for whoever runs a model: the pipeline, the cache of a training run, evaluation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kd3d_core.data.frame_inputs import lidar_points
from kd3d_core.data.pseudo_cache import PseudoLidarCache
from kd3d_core.detectors.config import DecodeConfig
from kd3d_core.errors import ConfigError
from kd3d_core.evaluation.depth import model_depth
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.build import make_model, make_pseudo_lidar
from kd3d_core.models.config import LidarModelConfig, load_model_config, save_model_config
from kd3d_core.runtime.pipeline import CameraDetector

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config():
    """`lite` on a small window."""
    config = load_model_config("lite")
    window = WindowConfig((64, 192), "crop", 110.0)
    return replace(
        config,
        depth=replace(config.depth, window=window),
        detector=replace(
            config.detector, window=window, point_cloud_range=(0.0, -12.8, -3.0, 25.6, 12.8, 1.0)
        ),
        pseudo_lidar=replace(config.pseudo_lidar, max_jump=0.0),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_student_learns_from_the_clouds_that_it_gets_later(config, tracking, tmp_path, precision):
    frame = tracking[3]
    image = frame.image()
    detector = CameraDetector(make_model(config, CPU, precision))
    seen = detector(image, frame.camera(image.shape[:2])).points
    cache = PseudoLidarCache(tmp_path, make_pseudo_lidar(config, CPU, precision))
    cache.fill(tracking.subset([frame.name]), CPU)
    assert len(seen) > 500
    assert np.array_equal(cache(frame), seen)


def test_evaluation_sees_the_depth_of_the_pipeline(config, tracking, tmp_path):
    save_model_config(config, tmp_path / "model.yaml")
    frame = tracking[3]
    image = frame.image()
    camera = frame.camera(image.shape[:2])
    answer = CameraDetector(make_model(config, CPU))(image, camera)
    window = config.depth.window.window(camera)
    expected = window.restored(answer.depth[None], camera)[0].numpy()
    assert np.array_equal(model_depth(str(tmp_path / "model.yaml"), CPU)(frame), expected)


@pytest.fixture(scope="module")
def pointpillars():
    detector = replace(
        load_model_config("second_kitti").detector,
        type="pointpillars",
        decoding=DecodeConfig(score_threshold=0.0),
    )
    return LidarModelConfig(detector)


def test_a_lidar_model_reads_points_and_no_image(pointpillars, tracking):
    model = make_model(pointpillars, CPU)
    assert (model.reads_image, model.reads_points) == (False, True)
    frame = tracking[3]
    points = torch.from_numpy(lidar_points(frame))
    with torch.inference_mode():
        output = model(None, frame.camera(), points)
    assert output.boxes.valid.any()
    assert output.depth is None
    assert torch.equal(output.points, points)


def test_a_camera_is_no_lidar(pointpillars):
    with pytest.raises(ConfigError, match=r"reads the points of a LiDAR.*type pseudo_lidar"):
        CameraDetector(make_model(pointpillars, CPU))
