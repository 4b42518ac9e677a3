"""Our way through MVX-Net gives what mmdet3d's own modules give with the same weights."""

import copy
from dataclasses import replace

import pytest
import torch
from mmengine.config import ConfigDict

from kd3d_core.detectors.config import DecodeConfig
from kd3d_core.detectors.lite import lite_config
from kd3d_core.detectors.mvxnet import FusionDetector, mvxnet_config
from kd3d_core.ops import dynamic_voxelize

IMAGE_SIZE = (96, 320)


def upstream(config: ConfigDict, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The same config on mmdet3d's classes."""
    from mmdet3d.registry import MODELS

    config = copy.deepcopy(config)
    config.pts_voxel_encoder.type = "DynamicVFE"
    config.pts_voxel_encoder.fusion_layer.type = "PointFusion"
    config.data_preprocessor = None
    if config.pts_middle_encoder is None:
        config.pts_middle_encoder = {
            "type": "PointPillarsScatter", "in_channels": 32, "output_shape": [400, 352],
        }  # fmt: skip
    network = MODELS.build(config).eval()
    network.load_state_dict(state)
    return network


def clouds(count: int) -> list[torch.Tensor]:
    """Points around and beyond the detector's range."""
    generator = torch.Generator().manual_seed(5)
    low = torch.tensor([-5.0, -45.0, -4.0, 0.0])
    span = torch.tensor([80.0, 90.0, 6.0, 1.0])
    return [torch.rand(3000 + 500 * i, 4, generator=generator) * span + low for i in range(count)]


@pytest.mark.parametrize("make_config", [lite_config, mvxnet_config])
@torch.inference_mode()
def test_features_and_boxes_equal_mmdet3d(make_config):
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes

    torch.manual_seed(0)
    config = make_config()
    ours = FusionDetector(copy.deepcopy(config), DecodeConfig(score_threshold=0.1)).eval()
    _scramble(ours)
    theirs = upstream(config, ours.network.state_dict())

    batch = clouds(2)
    projection = torch.tensor(
        [[180.0, 0, 160, 0], [0, 180.0, 40, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    ) @ torch.tensor([[0.0, -1, 0, 0], [0, 0, -1, -0.1], [1, 0, 0, 0.2], [0, 0, 0, 1]])
    images = torch.rand(2, 3, *IMAGE_SIZE) * 255

    points = torch.cat(batch)
    samples = torch.cat([torch.full((len(cloud),), i) for i, cloud in enumerate(batch)])
    maps = ours(points, samples, images, projection[:3].expand(2, -1, -1))

    # mmdet3d trusts that every point is in range.
    inside = [
        cloud[dynamic_voxelize(cloud, ours.grid.voxel_size, ours.grid.point_cloud_range)[:, 0] >= 0]
        for cloud in batch
    ]
    coords = torch.cat(
        [
            torch.nn.functional.pad(
                dynamic_voxelize(cloud, ours.grid.voxel_size, ours.grid.point_cloud_range),
                (1, 0),
                value=i,
            )
            for i, cloud in enumerate(inside)
        ]
    )
    normalised = images.flip(1) if ours.bgr else images
    inputs = {
        "points": inside,
        "voxels": {"voxels": torch.cat(inside), "coors": coords},
        "imgs": (normalised - ours.image_mean) / ours.image_std,
    }
    meta = {
        "lidar2img": projection.numpy(),
        "img_shape": IMAGE_SIZE,
        "box_type_3d": LiDARInstance3DBoxes,
    }
    data_samples = [Det3DDataSample(metainfo=dict(meta)) for _ in range(2)]
    _, features = theirs.extract_feat(inputs, [sample.metainfo for sample in data_samples])
    (logits,), (deltas,), (directions,) = theirs.pts_bbox_head(features)
    torch.testing.assert_close(maps.logits, logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps.deltas, deltas, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps.directions, directions, atol=1e-4, rtol=1e-4)

    # Empty cells have equal scores, of which either side may take any.
    noise = 0.1 * torch.randn(maps.logits.shape, generator=torch.Generator().manual_seed(0))
    maps = replace(maps, logits=maps.logits + noise)
    slots = ours.boxes(maps)
    results = theirs.pts_bbox_head.predict_by_feat(
        [maps.logits], [maps.deltas], [maps.directions],
        batch_input_metas=[sample.metainfo for sample in data_samples],
    )  # fmt: skip
    for sample, expected in enumerate(results):
        valid = slots.valid[sample]
        order = expected.scores_3d.argsort(descending=True, stable=True)
        assert 0 < int(valid.sum()) == len(order)
        scores = slots.scores[sample][valid]
        torch.testing.assert_close(scores, expected.scores_3d[order], atol=1e-6, rtol=0)
        assert sorted(slots.labels[sample][valid].tolist()) == sorted(expected.labels_3d.tolist())
        mine = slots.boxes[sample][valid]
        reference = expected.bboxes_3d.tensor
        distance = torch.cdist(mine.double(), reference.double()).amin(1)
        assert distance.max() < 1e-3


def _scramble(detector: FusionDetector) -> None:
    """Weights for which the answers spread: other statistics, larger head."""
    for module in detector.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.3, 0.8)
    head = detector.network.pts_bbox_head
    for conv in (head.conv_cls, head.conv_reg, head.conv_dir_cls):
        torch.nn.init.normal_(conv.weight, std=0.05)
    head.conv_cls.bias.data.fill_(-2.0)
