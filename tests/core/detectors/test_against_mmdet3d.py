"""Our detectors are mmdet3d's: the same weights, features, boxes, losses and gradients."""

import subprocess
import sys
from dataclasses import replace

import mmdet3d_networks as mmdet3d
import pytest
import torch
from mmengine.logging import MMLogger

from kd3d_core.detectors.anchor_detector import AnchorDetector
from kd3d_core.detectors.build import random_detector, untrained_detector
from kd3d_core.detectors.config import DetectorConfig
from kd3d_core.detectors.decode import HeadMaps
from kd3d_core.detectors.mvxnet import FusionDetector
from kd3d_core.geometry.window import WindowConfig
from kd3d_core.ops import dynamic_voxelize

IMAGE_SIZE = (96, 320)


def config(kind: str) -> DetectorConfig:
    return DetectorConfig(kind, "random", WindowConfig((1, 1)))


def assert_same_state(ours: AnchorDetector, theirs: torch.nn.Module) -> None:
    mine, expected = ours.network.state_dict(), theirs.state_dict()
    assert list(mine) == list(expected)
    different = [name for name in mine if not torch.equal(mine[name], expected[name])]
    assert not different


@pytest.mark.parametrize("kind", mmdet3d.KINDS)
def test_a_seed_means_the_same_weights_in_the_same_order(kind):
    """Names and order too: an optimizer's state is kept by the order of its parameters."""
    theirs = mmdet3d.network(kind, seed=3)
    assert_same_state(random_detector(config(kind), 3), theirs)
    MMLogger.get_current_instance().setLevel("ERROR")  # it lists every tensor
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs.init_weights()
    assert_same_state(untrained_detector(config(kind), 3), theirs)


@pytest.mark.parametrize("kind", mmdet3d.KINDS)
def test_the_same_parts_learn(kind):
    ours, theirs = random_detector(config(kind), 0).network.train(), mmdet3d.network(kind).train()
    learns = [
        [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        for network in (ours, theirs)
    ]
    assert learns[0] == learns[1]
    norms = [
        {
            name: (module.training, module.eps, module.momentum)
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        }
        for network in (ours, theirs)
    ]
    assert norms[0] == norms[1]


@pytest.mark.parametrize("kind", mmdet3d.KINDS)
@pytest.mark.parametrize("size", [(200, 176), (31, 40)])
def test_the_same_anchors(kind, size):
    ours, theirs = random_detector(config(kind), 0), mmdet3d.head(mmdet3d.network(kind))
    (expected,) = theirs.prior_generator.grid_anchors([size], device="cpu")
    assert torch.equal(ours.anchors(size, torch.device("cpu")), expected.reshape(-1, 7))


@pytest.mark.parametrize("kind", mmdet3d.KINDS)
def test_the_same_losses_and_gradients(kind):
    """For boxes of all classes, some of another class's size, and for a sample without any."""
    from mmdet3d.structures import LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    ours, theirs = random_detector(config(kind), 0), mmdet3d.head(mmdet3d.network(kind))
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(3, 6 * n, 100, 88, generator=generator) for n in (3, 7, 2)]
    count = 60
    place = torch.rand(count, 2, generator=generator) * 60 + torch.tensor([4.0, -30])
    labels = torch.arange(count) % 3
    sizes = torch.tensor([[0.8, 0.6, 1.73], [1.76, 0.6, 1.73], [3.9, 1.6, 1.56]])[labels]
    sizes[1::6] = sizes[0]
    rest = torch.cat([torch.full((count, 1), -1.6), sizes], 1)
    boxes = torch.cat([place, rest, torch.rand(count, 1, generator=generator) * 6 - 3], 1)
    truth = [(boxes[:40], labels[:40]), (boxes[40:], labels[40:]), (boxes[:0], labels[:0])]
    answers = []
    for side in ("ours", "theirs"):
        maps = [map_.clone().requires_grad_() for map_ in drawn]
        if side == "ours":
            losses = ours.losses(HeadMaps(*maps), *map(list, zip(*truth, strict=True)))
        else:
            instances = [
                InstanceData(bboxes_3d=LiDARInstance3DBoxes(box), labels_3d=label)
                for box, label in truth
            ]
            found = theirs.loss_by_feat(*([map_] for map_ in maps), instances, [{}] * 3)
            names = {"cls": "loss_cls", "box": "loss_bbox", "dir": "loss_dir"}
            losses = {mine: sum(found[name]) for mine, name in names.items()}
        answers.append((losses, torch.autograd.grad(sum(losses.values()), maps)))
    (mine, gradients), (expected, references) = answers
    assert mine == expected
    assert all(loss > 0 for loss in mine.values())
    assert all(map(torch.equal, gradients, references))


def test_detecting_imports_nothing_of_mmdet3d():
    code = (
        "import sys, torch\n"
        "from kd3d_core.detectors.build import random_detector\n"
        "from kd3d_core.detectors.config import DetectorConfig\n"
        "from kd3d_core.geometry.window import WindowConfig\n"
        "window = WindowConfig((1, 1))\n"
        f"for kind in {mmdet3d.KINDS!r}:\n"
        "    config = DetectorConfig(\n"
        "        kind, 'random', window, point_cloud_range=(0, -6.4, -3, 12.8, 6.4, 1)\n"
        "    )\n"
        "    detector = random_detector(config, 0)\n"
        "    with torch.inference_mode():\n"
        "        maps = detector(torch.ones(9, 4), torch.zeros(9).long(),"
        " torch.zeros(1, 3, 64, 64), torch.eye(4)[None, :3])\n"
        "        detector.boxes(maps)\n"
        "print({m.split('.')[0] for m in sys.modules} & {'mmcv', 'mmengine', 'mmdet', 'mmdet3d'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.stdout.strip() == "set()", done.stderr


def clouds(count: int) -> list[torch.Tensor]:
    """Points around and beyond the detector's range."""
    generator = torch.Generator().manual_seed(5)
    low = torch.tensor([-3.0, -16.0, -4.0, 0.0])
    span = torch.tensor([32.0, 32.0, 6.0, 1.0])
    return [torch.rand(3000 + 500 * i, 4, generator=generator) * span + low for i in range(count)]


@pytest.mark.parametrize("kind", ["lite", "mvxnet"])
@torch.inference_mode()
def test_features_and_boxes_equal_mmdet3d(kind):
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes

    ours = random_detector(replace(config(kind), point_cloud_range=mmdet3d.NEAR), 0)
    assert isinstance(ours, FusionDetector)
    torch.manual_seed(0)
    _scramble(ours)
    theirs = mmdet3d.network(kind, is_near=True)
    theirs.load_state_dict(ours.network.state_dict())

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
    preprocessing = mmdet3d.config(kind).data_preprocessor
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    normalised = images if preprocessing.bgr_to_rgb else images.flip(1)
    inputs = {
        "points": inside,
        "voxels": {"voxels": torch.cat(inside), "coors": coords},
        "imgs": (normalised - mean) / std,
    }
    meta = {
        "lidar2img": projection.numpy(),
        "img_shape": IMAGE_SIZE,
        "box_type_3d": LiDARInstance3DBoxes,
    }
    data_samples = [Det3DDataSample(metainfo=dict(meta)) for _ in range(2)]
    _, features = theirs.extract_feat(inputs, [sample.metainfo for sample in data_samples])
    (logits,), (deltas,), (directions,) = theirs.pts_bbox_head(features)
    # Apart, for it hardly moves the answers of an untrained network.
    pyramid = theirs.img_neck(theirs.img_backbone(inputs["imgs"]))
    for level, expected in zip(ours.image_features(images), pyramid, strict=True):
        assert level.std() > 0
        assert torch.equal(level, expected)
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
    head = detector.head
    for conv in (head.conv_cls, head.conv_reg, head.conv_dir_cls):
        torch.nn.init.normal_(conv.weight, std=0.05)
    head.conv_cls.bias.data.fill_(-2.0)
