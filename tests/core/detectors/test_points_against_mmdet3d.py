"""SECOND and PointPillars give what mmdet3d's own modules give with the same weights."""

import copy
from dataclasses import replace

import mmdet3d_networks
import numpy as np
import pytest
import torch
from mmdet3d_networks import NEAR

from kd3d_core.detectors.build import random_detector, untrained_detector
from kd3d_core.detectors.config import DecodeConfig, DetectorConfig
from kd3d_core.detectors.second import PointDetector
from kd3d_core.geometry.camera import PinholeCamera
from kd3d_core.geometry.virtual_frame import virtual_lidar_from_camera
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.models.chain import PseudoLidarModel
from kd3d_core.models.cloud import PseudoLidar
from kd3d_core.models.config import load_model_config
from kd3d_core.runtime.pipeline import CameraDetector

KINDS = ("second", "pointpillars")
MAX_POINTS = {"second": 5, "pointpillars": 32}
NO_IMAGES = torch.zeros(2, 3, 1, 1)
NO_PROJECTION = torch.zeros(2, 3, 4)


def clouds() -> list[torch.Tensor]:
    """Two samples: points around and beyond the range, and heaps that overfill their voxels."""
    generator = torch.Generator().manual_seed(5)
    low = torch.tensor([-3.0, -16.0, -4.0, 0.0])
    span = torch.tensor([32.0, 32.0, 6.0, 1.0])
    heap = torch.tensor([[12.0, 3.0, -1.0, 0.5]]) + 0.02
    found = []
    for count in (1500, 2000):
        spread = torch.rand(count, 4, generator=generator) * span + low
        heaped = heap + torch.rand(60, 4, generator=generator) * 0.02
        found.append(torch.cat([spread, heaped])[torch.randperm(count + 60, generator=generator)])
    return found


def enliven(detector: PointDetector) -> None:
    """Answers of random weights that vary with the points."""
    torch.manual_seed(0)
    for module in detector.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.3, 0.8)
    for conv in (detector.head.conv_cls, detector.head.conv_reg, detector.head.conv_dir_cls):
        torch.nn.init.normal_(conv.weight, std=0.05)
    detector.head.conv_cls.bias.data.fill_(-2.0)


@pytest.fixture(params=KINDS, scope="module")
def pair(request) -> tuple[PointDetector, torch.nn.Module]:
    """Our detector and mmdet3d's, with the same weights."""
    from mmdet3d.models.data_preprocessors import Det3DDataPreprocessor

    config = DetectorConfig(request.param, "random", WindowConfig((1, 1)), point_cloud_range=NEAR)
    ours = random_detector(config, seed=0)
    assert isinstance(ours, PointDetector)
    enliven(ours)
    upstream = mmdet3d_networks.config(request.param)
    preprocessing = mmdet3d_networks.near(upstream).data_preprocessor
    theirs = mmdet3d_networks.network(request.param, is_near=True)
    preprocessing.pop("type")
    theirs.data_preprocessor = Det3DDataPreprocessor(**preprocessing)
    theirs.load_state_dict(ours.network.state_dict())
    return ours, theirs


def run(detector: PointDetector, batch: list[torch.Tensor], valid=None):
    samples = torch.cat([torch.full((len(cloud),), i) for i, cloud in enumerate(batch)])
    return detector(torch.cat(batch), samples, NO_IMAGES, NO_PROJECTION, valid)


@torch.inference_mode()
def test_features_and_boxes_equal_mmdet3d(pair):
    from mmdet3d.structures import LiDARInstance3DBoxes

    ours, theirs = pair
    batch = clouds()
    maps = run(ours, batch)

    voxels = theirs.data_preprocessor.voxelize(batch, None)
    (logits,), (deltas,), (directions,) = theirs.bbox_head(theirs.extract_feat({"voxels": voxels}))
    torch.testing.assert_close(maps.logits, logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps.deltas, deltas, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps.directions, directions, atol=1e-4, rtol=1e-4)
    assert logits.std() > 0.01

    # Empty cells have equal scores, of which either side may take any.
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(maps.logits.shape, generator=generator)
    maps = replace(maps, logits=maps.logits + noise)
    slots = ours.boxes(maps)
    metas = [{"box_type_3d": LiDARInstance3DBoxes} for _ in batch]
    found = theirs.bbox_head.predict_by_feat(
        [maps.logits], [maps.deltas], [maps.directions], batch_input_metas=metas
    )
    for sample, expected in enumerate(found):
        valid = slots.valid[sample]
        order = expected.scores_3d.argsort(descending=True, stable=True)
        assert 0 < int(valid.sum()) == len(order)
        torch.testing.assert_close(
            slots.scores[sample][valid], expected.scores_3d[order], atol=1e-6, rtol=0
        )
        reference = expected.bboxes_3d.tensor.double()
        assert torch.cdist(slots.boxes[sample][valid].double(), reference).amin(1).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_invalid_points_count_as_if_they_were_not_there(kind):
    config = DetectorConfig(kind, "random", WindowConfig((1, 1)), point_cloud_range=NEAR)
    ours = random_detector(config, seed=0)
    enliven(ours)
    batch = clouds()
    keep = torch.arange(sum(map(len, batch))) % 3 > 0
    kept = torch.split(keep, [len(cloud) for cloud in batch])
    fewer = [cloud[mask] for cloud, mask in zip(batch, kept, strict=True)]
    torch.testing.assert_close(run(ours, batch, keep).logits, run(ours, fewer).logits)
    nothing = run(ours, batch, torch.zeros_like(keep))
    assert torch.isfinite(nothing.logits).all()
    assert not torch.allclose(nothing.logits, run(ours, batch).logits)


def test_limits_are_upstreams_and_differ_in_training(pair):
    ours, theirs = pair
    layer = theirs.data_preprocessor.voxel_layer
    assert ours.max_points == layer.max_num_points
    assert (ours.max_voxels_train, ours.max_voxels_test) == layer.max_voxels == (16000, 40000)
    few = copy.copy(ours)
    few.max_voxels_train, few.max_voxels_test = 7, 11
    cloud = clouds()[0]
    samples = torch.zeros(len(cloud), dtype=torch.int64)
    seen = few.eval().voxels(cloud, samples, None, 1)
    assert len(seen.coords) == 11
    assert torch.equal(seen.coords, few.voxels(cloud, samples, None, 1).coords)
    torch.manual_seed(0)
    first = few.train().voxels(cloud, samples, None, 1)
    assert len(first.coords) == 7
    assert not torch.equal(first.coords, few.voxels(cloud, samples, None, 1).coords)
    assert int(ours.eval().voxels(cloud, samples, None, 1).num_points.max()) == ours.max_points


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_lowers_the_loss(kind):
    """Gradients reach every tensor, from the head to the first layer."""
    config = DetectorConfig(kind, "random", WindowConfig((1, 1)), point_cloud_range=NEAR)
    detector = untrained_detector(config, seed=0).train()
    cloud = torch.rand(400, 4) * torch.tensor([8.0, 8, 2, 1]) + torch.tensor([8.0, -4, -2, 0])
    samples = torch.zeros(len(cloud), dtype=torch.int64)
    maps = detector(cloud, samples, NO_IMAGES[:1], NO_PROJECTION[:1])
    box = torch.tensor([[12.0, 0, -1.7, 3.9, 1.6, 1.5, 0.1]])
    losses = detector.losses(maps, [box], [torch.tensor([2])])
    assert all(loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    without = [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


class Street(torch.nn.Module):
    """A cheap stand-in for a depth network: near below and far above."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = torch.linspace(60, 5, images.shape[2])
        return rows[None, :, None].expand(1, -1, images.shape[3])


@pytest.mark.parametrize("kind", KINDS)
def test_camera_detector_runs_on_points_alone(kind):
    config = load_model_config("lite")
    detector = replace(
        config.detector, type=kind, decoding=DecodeConfig(score_threshold=0.01),
        point_cloud_range=NEAR,
    )  # fmt: skip
    config = replace(config, detector=detector)
    chain = PseudoLidar(Street(), config.depth, config.pseudo_lidar, "fp32")
    model = PseudoLidarModel(config, chain, random_detector(detector, seed=0))
    camera_detector = CameraDetector(model)
    projection = np.array([[360.0, 0, 310, 0], [0, 360.0, 86, 0], [0, 0, 1, 0]])
    camera = PinholeCamera(projection, 621, 187, virtual_lidar_from_camera(1.65))
    noise = np.random.default_rng(0).integers(0, 255, (187, 621, 3), np.uint8)
    first, second = camera_detector(noise, camera), camera_detector(255 - noise, camera)
    assert len(first.points) > 1000
    assert np.isfinite(first.boxes).all()
    assert len(first.boxes) > 0
    assert np.array_equal(first.boxes, second.boxes)  # it ignores the image
    assert kind in camera_detector.description
